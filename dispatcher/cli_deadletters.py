"""`lookback deadletters`: what could not be answered, and what a person does about it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dispatcher import deadletters as letters
from dispatcher import settings as settings_module
from dispatcher.clock import SystemClock
from dispatcher.deadletters import Selection
from dispatcher.deadletters_view import describe, show_letter, show_listing
from dispatcher.destinations import open_letters
from dispatcher.folder import only_writer
from dispatcher.following import Shown, follow
from sinks.deadletters import DeadLetter, DeadLetterSink, ErrorClass

app = typer.Typer(no_args_is_help=True, help="List, show, redrive or discard dead letters.")

Output = Annotated[Path, typer.Option("--to", help="Folder of the run.")]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="TOML file of the run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Place = Annotated[str, typer.Argument(help="topic:partition:offset, as `list` shows it.")]
Places = Annotated[list[str] | None, typer.Argument(help="Places, as `list` shows them.")]
Classes = Annotated[list[ErrorClass] | None, typer.Option("--class", help="Of this error class.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="With this reason code.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="From this source or topic.")]


@app.command("list")
def list_letters(
    to: Output = Path("lookback-out"),
    settings: SettingsFile = None,
    error_class: Classes = None,
    reason: Reasons = None,
    source: Sources = None,
    limit: Annotated[int, typer.Option(help="Letters to list at most, the latest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by reason, and list the latest.

    Example: lookback deadletters list --to results/ --class transient
    """
    selection = _selection(None, error_class, reason, source)
    listing = asyncio.run(
        _with_letters(to, settings, lambda held: letters.list_letters(held, selection, limit))
    )
    if as_json:
        typer.echo(json.dumps(listing.to_json()))
    else:
        show_listing(listing, Console())


@app.command()
def show(
    place: Place,
    to: Output = Path("lookback-out"),
    settings: SettingsFile = None,
    body: Annotated[Path | None, typer.Option(help="Write the original bytes here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why, when, how often it was tried, and its first bytes.

    Example: lookback deadletters show night:night.sqlite:simulated-0:17 --body packet.avro
    """
    letter = asyncio.run(_with_letters(to, settings, lambda held: letters.find_letter(held, place)))
    if body:
        letters.save_body(letter, body)
    if as_json:
        typer.echo(json.dumps(describe(letter)))
    else:
        show_letter(letter, Console())


@app.command()
def redrive(
    places: Places = None,
    to: Output = Path("lookback-out"),
    settings: SettingsFile = None,
    error_class: Classes = None,
    reason: Reasons = None,
    source: Sources = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again by the normal road: decode, stamp, workers, sinks.

    Those that are answered are dead letters no more; those that die again stay, and say how often.
    Without places or filters, all are sent that are not poison.

    Example: lookback deadletters redrive --to results/ --reason unknown_schema
    """
    selection = _selection(places, error_class, reason, source)

    def wanted(letter: DeadLetter) -> bool:
        if selection.everything:
            return letter.error_class is not ErrorClass.POISON
        return letter in selection

    given = settings_module.load(settings)
    follow(None, to, given, Shown(as_json=as_json), redrive=wanted)


@app.command()
def discard(
    places: Places = None,
    to: Output = Path("lookback-out"),
    settings: SettingsFile = None,
    error_class: Classes = None,
    reason: Reasons = None,
    source: Sources = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Throw dead letters away for good. The books keep them as dead, `discarded.jsonl` as gone.

    Example: lookback deadletters discard --to results/ --class malformed
    """
    selection = _selection(places, error_class, reason, source)

    async def throw_away(held: DeadLetterSink) -> int:
        count = (await letters.list_letters(held, selection, 0)).total
        if not selection.everything and not yes:
            typer.confirm(f"Discard {count} dead letters for good?", abort=True)
        return await letters.discard(held, selection, to / letters.MINUTES, SystemClock())

    with only_writer(to):
        count = asyncio.run(_with_letters(to, settings, throw_away))
    typer.echo(f"{count} discarded")


def _selection(
    places: list[str] | None,
    classes: list[ErrorClass] | None,
    reasons: list[str] | None,
    sources: list[str] | None,
) -> Selection:
    return Selection(
        frozenset(places or ()),
        frozenset(classes or ()),
        frozenset(reasons or ()),
        frozenset(sources or ()),
    )


async def _with_letters(to: Path, settings: Path | None, use: Any) -> Any:
    async with AsyncExitStack() as stack:
        return await use(await open_letters(stack, to, settings_module.load(settings)))
