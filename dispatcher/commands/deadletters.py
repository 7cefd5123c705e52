"""`lookback deadletters`: what could not be answered, and what a person does about it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.commands import completion as offered
from dispatcher.commands.exits import answer
from dispatcher.commands.options import RESULTS, AsJson, Folder, SettingsFile, settings_of
from dispatcher.commands.progress import progress

if TYPE_CHECKING:
    from dispatcher.deadletters import Selection
    from sinks.deadletters import DeadLetterSink

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, redrive or discard dead letters.\n\n"
    "Example: lookback deadletters list --to results/",
)

Place = Annotated[
    str,
    typer.Argument(
        help="topic:partition:offset, as `list` shows it.", autocompletion=offered.letters
    ),
]
Places = Annotated[
    list[str] | None,
    typer.Argument(help="Places, as `list` shows them.", autocompletion=offered.letters),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        help="Of this error class: malformed, not_for_us, transient, poison or stale.",
        autocompletion=offered.classes,
    ),
]
Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="With this reason code.", autocompletion=offered.reasons),
]
Sources = Annotated[list[str] | None, typer.Option("--source", help="From this source or topic.")]


@app.command("list")
def list_letters(
    to: Folder = RESULTS,
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
    from rich.console import Console

    from dispatcher.commands.deadletters_view import show_listing
    from dispatcher.deadletters import list_letters as counted

    selection = _selection(None, error_class, reason, source)
    with progress("dead letters read") as step:
        listing = asyncio.run(
            _with_letters(to, settings, lambda held: counted(held, selection, limit, step))
        )
    if as_json:
        answer(listing.to_json())
    else:
        show_listing(listing, Console())


@app.command()
def show(
    place: Place,
    to: Folder = RESULTS,
    settings: SettingsFile = None,
    body: Annotated[Path | None, typer.Option(help="Write the original bytes here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why, when, how often it was tried, and its first bytes.

    Example: lookback deadletters show night:night.sqlite:simulated-0:17 --body packet.avro
    """
    from rich.console import Console

    from dispatcher.commands.deadletters_view import describe, show_letter
    from dispatcher.deadletters import find_letter, save_body

    letter = asyncio.run(_with_letters(to, settings, lambda held: find_letter(held, place)))
    if body:
        save_body(letter, body)
    if as_json:
        answer(describe(letter))
    else:
        show_letter(letter, Console())


@app.command()
def redrive(
    places: Places = None,
    to: Folder = RESULTS,
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
    from dispatcher.commands.following import Shown, follow

    selection = _selection(places, error_class, reason, source)
    shown = Shown(as_json=as_json)
    follow(None, to, settings_of(settings), shown, redrive=selection.sends_again)


@app.command()
def discard(
    places: Places = None,
    to: Folder = RESULTS,
    settings: SettingsFile = None,
    error_class: Classes = None,
    reason: Reasons = None,
    source: Sources = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Throw dead letters away for good. The books keep them as dead, `discarded.jsonl` as gone.

    Example: lookback deadletters discard --to results/ --class malformed
    """
    from dispatcher import deadletters as letters
    from dispatcher.clock import SystemClock
    from dispatcher.folder import only_writer

    selection = _selection(places, error_class, reason, source)

    async def throw_away(held: DeadLetterSink) -> int:
        count = (await letters.list_letters(held, selection, 0)).total
        if not selection.everything and not yes:
            typer.confirm(f"Discard {count} dead letters for good?", abort=True, err=True)
        return await letters.discard(held, selection, to / letters.MINUTES, SystemClock())

    with only_writer(to):
        count = asyncio.run(_with_letters(to, settings, throw_away))
    if as_json:
        answer({"discarded": count})
    else:
        typer.echo(f"{count} discarded")


def _selection(
    places: list[str] | None,
    classes: list[str] | None,
    reasons: list[str] | None,
    sources: list[str] | None,
) -> Selection:
    from dispatcher.deadletters import Selection
    from dispatcher.errors import SettingsError
    from sinks.deadletters import ErrorClass

    known = ", ".join(ErrorClass)
    if unknown := set(classes or ()) - set(ErrorClass):
        raise SettingsError(f"{min(unknown)!r} is no class of dead letters: it is one of {known}")
    return Selection(
        frozenset(places or ()),
        frozenset(map(ErrorClass, classes or ())),
        frozenset(reasons or ()),
        frozenset(sources or ()),
    )


async def _with_letters(to: Path, settings: Path | None, use: Any) -> Any:
    from dispatcher.destinations import open_letters

    async with AsyncExitStack() as stack:
        return await use(await open_letters(stack, to, settings_of(settings)))
