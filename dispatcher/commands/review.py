"""`lookback review`: estimates that a person looks at before they are published.

These commands only write decisions down. The run that is under way publishes them, within a second
or what its sinks linger; where there is none, the next one begins with them.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatcher.commands import completion as offered
from dispatcher.commands.exits import answer
from dispatcher.commands.options import RESULTS, AsJson, Folder

if TYPE_CHECKING:
    from dispatcher.review.store import Decision, Held, ReviewStore

_DAY_S: Final = 86400.0

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, approve, reject, annotate or forget estimates.\n\n"
    "Example: lookback review list --to results/",
)

Key = Annotated[
    str, typer.Argument(help="Result id, as `list` shows it.", autocompletion=offered.held)
]
Keys = Annotated[
    list[str],
    typer.Argument(help="Result ids, as `list` shows them.", autocompletion=offered.held),
]
By = Annotated[str, typer.Option("--by", help="Who decides; default: who is logged in.")]
Note = Annotated[str, typer.Option("--note", help="A line for the record.")]


@app.command("list")
def list_held(
    to: Folder = RESULTS,
    state: Annotated[
        str,
        typer.Option(
            help="waiting, approved or rejected; '' for all.", autocompletion=offered.states
        ),
    ] = "waiting",
    limit: Annotated[int, typer.Option(help="Estimates to list at most.", min=0)] = 50,
    as_json: AsJson = False,
) -> None:
    """List estimates that wait, those first that wait longest, or that were decided.

    Example: lookback review list --to results/ --state rejected
    """
    from rich.console import Console

    from dispatcher.review.decisions import state_of
    from dispatcher.review.view import describe, show_listing

    wanted = state_of(state)

    async def listed() -> tuple[int, list[Held]]:
        async with _store(to) as store:
            return await store.listing(wanted, 0, limit)

    total, held = asyncio.run(listed())
    if as_json:
        answer({"total": total, "items": [describe(each) for each in held]})
    else:
        show_listing(total, held, state, Console())


@app.command()
def show(key: Key, to: Folder = RESULTS, as_json: AsJson = False) -> None:
    """Show one estimate: its record, and what was decided. The status page shows its stamp.

    Example: lookback review show 7c31f0a2b95e4d6688aa01b2c3d4e5f6 --to results/
    """
    from rich.console import Console

    from dispatcher.review.view import describe, show_one

    async def found() -> Held:
        async with _store(to) as store:
            return await _find(store, key)

    held = asyncio.run(found())
    if as_json:
        answer(describe(held))
    else:
        show_one(held, Console())


@app.command()
def approve(
    keys: Keys,
    to: Folder = RESULTS,
    by: By = "",
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Let estimates be published as they are, with your name in the record.

    Example: lookback review approve 7c31f0a2b95e4d6688aa01b2c3d4e5f6 --by ann
    """
    _decide("approve", keys, to, by, note, as_json=as_json)


@app.command()
def reject(
    keys: Keys,
    to: Folder = RESULTS,
    by: By = "",
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Let estimates be published without a redshift: the row says who rejected it, and why.

    Example: lookback review reject 7c31f0a2b95e4d6688aa01b2c3d4e5f6 --note "a star on the host"
    """
    _decide("reject", keys, to, by, note, as_json=as_json)


@app.command()
def annotate(
    keys: Keys,
    to: Folder = RESULTS,
    by: By = "",
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Note something about estimates, which go on waiting.

    Example: lookback review annotate 7c31f0a2b95e4d6688aa01b2c3d4e5f6 --note "ask the spectrograph"
    """
    _decide("annotate", keys, to, by, note, as_json=as_json)


@app.command()
def forget(
    days: Annotated[
        float, typer.Option("--older-than", help="Days since they were published.", min=0)
    ],
    to: Folder = RESULTS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget estimates that were published long ago, with stamp and p(z). Sinks keep their rows.

    Example: lookback review forget --older-than 90 --to results/
    """
    from dispatcher.clock import SystemClock

    async def forgotten() -> int:
        async with _store(to) as store:
            return await store.forget(SystemClock().now() - days * _DAY_S)

    if not yes:
        typer.confirm(
            f"Forget what was published more than {days:g} days ago?", abort=True, err=True
        )
    count = asyncio.run(forgotten())
    if as_json:
        answer({"forgotten": count})
    else:
        typer.echo(f"{count} forgotten")


def _decide(
    decision: str, keys: Sequence[str], to: Path, by: str, note: str, *, as_json: bool
) -> None:
    from dispatcher.clock import SystemClock
    from dispatcher.folder import is_held
    from dispatcher.review.decisions import made

    wish = made(decision, by or getpass.getuser(), note, SystemClock().now())
    held: list[Held] = []

    async def decide_all() -> None:
        async with _store(to) as store:
            for each in keys:
                held.append(await store.decide(each, wish))  # noqa: PERF401 - as far as it goes

    try:
        asyncio.run(decide_all())
    finally:  # what was decided before one that cannot be is decided
        _tell(held, wish, running=is_held(to), as_json=as_json)


def _tell(held: Sequence[Held], wish: Decision, *, running: bool, as_json: bool) -> None:
    if as_json:
        done = [{"result_id": each.record.result_id, "state": each.standing.value} for each in held]
        answer({"done": done, "running": running})
        return
    from dispatcher.review.decisions import said

    when = "by the run that is under way" if running else "by the next run: none is under way"
    for each in held:
        typer.echo(said(each, wish, when))


async def _find(store: ReviewStore, key: str) -> Held:
    from dispatcher.review.store import unknown

    if (held := await store.find(key)) is None:
        raise unknown(key)
    return held


@asynccontextmanager
async def _store(to: Path) -> AsyncIterator[ReviewStore]:
    from dispatcher.errors import SettingsError
    from dispatcher.review.sqlite import FILE, SqliteReview

    if not (to / FILE).exists():
        raise SettingsError(
            f"nothing was held for review in {to}: name the folder of the run with --to; "
            "estimates are held where review.policy is hold"
        )
    store = SqliteReview(to / FILE)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
