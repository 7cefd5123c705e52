"""`lookback doctor`: what is ready for a run, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from dispatcher import settings as settings_module
from dispatcher.doctor import Finding, Health, examine
from dispatcher.settings import Settings

_MARKS: Final = {
    Health.WELL: "[green]well[/]    ",
    Health.DOUBTFUL: "[yellow]doubtful[/]",
    Health.ILL: "[red]ill[/]     ",
}


def doctor(
    source: Annotated[
        str | None, typer.Argument(help="What a run would read; its group is left alone.")
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", help="Folder for results, dead letters and state.")
    ] = Path("lookback-out"),
    settings: Annotated[
        Path | None, typer.Option("--settings", help="TOML file; see `lookback settings`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Open everything that a run opens, and say what is wrong and what to do.

    Nothing is consumed and nothing is paid. Ends with 1 if a run would not start.

    Example: lookback doctor kafka://broker:9092/alerts --settings lookback.toml
    """
    findings = asyncio.run(_all(source, to, settings_module.load(settings), show=not as_json))
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(each) for each in findings]}))
    if any(each.health is Health.ILL for each in findings):
        raise typer.Exit(1)


async def _all(source: str | None, to: Path, settings: Settings, *, show: bool) -> list[Finding]:
    findings, console = [], Console(highlight=False, soft_wrap=True)
    async for each in examine(source, to, settings):
        findings.append(each)
        if show:
            console.print(f"{_MARKS[each.health]}  {escape(each.piece)}: {escape(each.what)}")
    return findings
