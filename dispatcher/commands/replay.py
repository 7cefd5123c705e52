"""`lookback replay`: read again what lies in a topic or an archive, behind the live lane."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatcher.commands.exits import answer
from dispatcher.commands.options import AsJson, SettingsFile, settings_of
from dispatcher.commands.progress import progress
from dispatcher.errors import SettingsError
from dispatcher.ledger.money import DOLLAR, dollars

if TYPE_CHECKING:
    from dispatcher.replay import Wanted
    from dispatcher.replay.estimate import Estimate
    from dispatcher.settings import Settings
    from ingest.sources.span import Range, Span

_OFFSETS: Final = re.compile(r"(?P<name>.+):(?P<first>\d{1,18})-(?P<end>\d{1,18})?")
_NO_END: Final = 2**63 - 1
_TIME: Final = "ISO 8601, UTC where it names no zone"


def replay(
    location: Annotated[
        str,
        typer.Argument(help="kafka://host:port/topic, a folder, a glob in quotes or a file."),
    ],
    on: Annotated[
        str | None, typer.Option(help="A night, by the date on which it begins: 2026-11-20.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help=f"Written at or after this time ({_TIME}).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help=f"Written before this time ({_TIME}).")
    ] = None,
    offsets: Annotated[
        list[str] | None,
        typer.Option(help="PARTITION:FIRST-END, END not included or left away; may be repeated."),
    ] = None,
    into: Annotated[
        Path, typer.Option(help="Folder of this replay: results, state, what it is.")
    ] = Path("lookback-out/replay"),
    rate: Annotated[float | None, typer.Option(help="Events a second at most.", min=0.001)] = None,
    purse_usd: Annotated[
        str | None, typer.Option(help="Dollars that replays may cost in this month at most.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how much it is and costs; send nothing.")
    ] = False,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read again a night, or a part of a source, with money of its own and behind the live lane.

    Stopped or killed, the same command goes on where it was, to the same end.

    Example: lookback replay 'kafka://broker:9092/ztf_%Y%m%d_programid1' --on 2026-11-20 --rate 50
    """
    from dispatcher.replay import Wanted
    from ingest.sources.span import Span

    given = settings_of(settings)
    span = Span(time_of("--from", since), time_of("--to", until), offsets_of(offsets or []))
    night = _date(on)
    _check(night, span)
    wanted = Wanted(location, night, span).resolved(given.spend.noon_utc_h)
    rate = rate or given.replay.rate
    if dry_run:
        _estimate(wanted, given, into, rate, as_json=as_json)
    else:
        _run(wanted, given, into, rate, _dollars(purse_usd), as_json=as_json)


def _estimate(
    wanted: Wanted, settings: Settings, into: Path, rate: float | None, *, as_json: bool
) -> None:
    from dispatcher.replay import Plan, find
    from dispatcher.replay.estimate import estimate

    plan = Plan.load(into)
    if plan is None or plan.wanted != wanted.to_json():
        with progress("ranges of the source found"):
            _, plan = asyncio.run(find(wanted, settings))
    found = estimate(plan.events, settings, into, rate)
    if as_json:
        figures = {
            "events": found.events,
            "partitions": len(plan.ranges),
            "calls": found.calls,
            "items_per_call": found.items,
            "usd": found.cost / DOLLAR,
            "seconds": round(found.seconds, 1),
            "measured_calls": found.measured,
        }
        answer(figures)
        return
    _show_estimate(found, len(plan.ranges))


def _show_estimate(found: Estimate, partitions: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 3))
    table.add_row("events", f"{found.events} in {partitions} partitions")
    table.add_row("calls", f"{found.calls} of {found.items} items")
    table.add_row("cost", dollars(found.cost))
    table.add_row("duration", f"{found.seconds:.0f} s with all workers free")
    known = f"{found.measured} calls" if found.measured else "the shipped durations"
    table.add_row("judged by", known)
    Console().print(table)


def _run(
    wanted: Wanted,
    settings: Settings,
    into: Path,
    rate: float | None,
    purse_usd: Decimal | None,
    *,
    as_json: bool,
) -> None:
    from dispatcher.commands.following import Shown, follow
    from dispatcher.folder import only_writer
    from dispatcher.replay import Replay, resume
    from dispatcher.replay.purse import with_purse
    from ingest.sources.rated import RatedSource

    with only_writer(into):
        source, plan = asyncio.run(resume(wanted, into, settings))
    if plan.finished:
        said = f"this replay of {plan.events} events was finished at {plan.finished}"
        figures = {"finished": plan.finished, "events": plan.events}
        if as_json:
            answer(figures)
        else:
            typer.echo(f"{said}: its results are in {into}")
        return
    follow(
        wanted.location,
        into,
        settings if purse_usd is None else with_purse(settings, purse_usd),
        Shown(as_json=as_json),
        replay=Replay(
            RatedSource(source, rate, time.monotonic) if rate else source,
            plan,
            into,
            limited=purse_usd is not None,
        ),
        tense="archival",
    )


def _check(night: date | None, span: Span) -> None:
    if night and span.timed:
        raise SettingsError("--on is a whole night: give it, or --from and --to, not both")
    if span.offsets and (night or span.timed):
        raise SettingsError("--offsets stand for themselves: leave --on, --from and --to away")
    since, until = span.from_time, span.to_time
    if since is not None and until is not None and since >= until:
        raise SettingsError("--to is not after --from: nothing lies between them")


def time_of(option: str, text: str | None) -> float | None:
    """An ISO 8601 time as unix seconds; UTC where it names no zone.

    Raises:
        SettingsError: it is none.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f'{option} "{text}" is no time: write it like 2026-11-20T03:30:00Z'
        ) from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def offsets_of(texts: list[str]) -> dict[str, Range]:
    """`PARTITION:FIRST-END` by partition.

    Raises:
        SettingsError: one is none, or a partition comes twice.
    """
    from ingest.sources.span import Range

    found: dict[str, Range] = {}
    for text in texts:
        match = _OFFSETS.fullmatch(text)
        first, end = (int(match["first"]), int(match["end"] or _NO_END)) if match else (0, 0)
        if not match or first >= end:
            raise SettingsError(
                f'--offsets "{text}": write it like 0:1000-2000 (partition, first offset, end), or '
                "0:1000- up to the end"
            )
        if match["name"] in found:
            raise SettingsError(f"--offsets: the partition {match['name']} is given twice")
        found[match["name"]] = Range(first, end)
    return found


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise SettingsError(f'--on "{text}" is no date: write it like 2026-11-20') from None


def _dollars(text: str | None) -> Decimal | None:
    try:
        amount = Decimal(text) if text is not None else None
    except InvalidOperation:
        amount = Decimal(-1)
    if amount is not None and not (amount.is_finite() and amount >= 0):
        raise SettingsError(f'--purse-usd "{text}" is no amount of dollars: write it like 2.50')
    return amount
