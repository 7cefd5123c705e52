"""`lookback doctor`: what is ready for a run, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatcher.commands.exits import Code, answer
from dispatcher.commands.options import RESULTS, AsJson, Output, SettingsFile

if TYPE_CHECKING:
    from dispatcher.doctor import Finding

_MARKS: Final = {
    "well": "[green]well[/]    ",
    "doubtful": "[yellow]doubtful[/]",
    "ill": "[red]ill[/]     ",
}


def doctor(
    source: Annotated[
        str | None, typer.Argument(help="What a run would read; its group is left alone.")
    ] = None,
    to: Output = RESULTS,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Open everything that a run opens, and say what is wrong and what to do.

    Nothing is consumed and nothing is paid. Ends with 1 if a run would not start.

    Example: lookback doctor kafka://broker:9092/alerts --settings lookback.toml
    """
    findings = asyncio.run(_all(source, to, settings, show=not as_json))
    if as_json:
        answer({"findings": [asdict(each) for each in findings]})
    if any(each.health == "ill" for each in findings):
        raise typer.Exit(Code.WRONG)


async def _all(source: str | None, to: Path, file: Path | None, *, show: bool) -> list[Finding]:
    from rich.console import Console
    from rich.markup import escape

    from dispatcher.doctor import examine

    findings, console = [], Console(highlight=False, soft_wrap=True)
    async for each in examine(source, to, file):
        findings.append(each)
        if show:
            console.print(f"{_MARKS[each.health]}  {escape(each.piece)}: {escape(each.what)}")
    return findings
