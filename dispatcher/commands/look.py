"""`lookback inspect` and `lookback reconcile`: one event from near, and all from outside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from dispatcher.commands.exits import Code, answer, complain
from dispatcher.commands.options import RESULTS, AsJson, Output, SettingsFile, Source, settings_of
from dispatcher.commands.progress import progress


def inspect(
    source: Source,
    partition: Annotated[str | None, typer.Option(help="File or partition in the source.")] = None,
    offset: Annotated[int, typer.Option(help="Place in the partition.", min=0)] = 0,
    settings: SettingsFile = None,
    png: Annotated[Path | None, typer.Option(help="Draw the stamp into this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one event: what it decodes to, its stamp, and its verdict.

    Example: lookback inspect night-of-alerts/ --partition 2475433850015015001.avro
    """
    from dispatcher.inspect import inspect as look

    found = asyncio.run(look(source, partition, offset, settings_of(settings), png))
    if as_json:
        answer(found)
    else:
        _print_tree(found)
    if "dead_letter" in found:
        complain(f"this event is a dead letter, {found['dead_letter']}", Code.WRONG)


def reconcile(
    source: Source,
    to: Output = RESULTS,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Prove from source and sinks alone that nothing is missing and nothing is doubled.

    Ends with 1 if that is not so.

    Example: lookback reconcile night-of-alerts/ --to results/
    """
    from dispatcher.reconcile import reconcile as compare

    with progress("events compared") as step:
        report = asyncio.run(compare(source, to, settings_of(settings), step))
    if as_json:
        findings = [{"what": each.what, "where": each.where} for each in report.findings]
        answer({"books": report.totals.to_json(), "findings": findings})
    else:
        for each in report.findings:
            typer.echo(f"{each.what}: {each.where}")
        typer.echo(f"{report.totals}")
        typer.echo("proved" if report.proved else f"{len(report.findings)} findings")
    if not report.proved:
        raise typer.Exit(Code.WRONG)


def _print_tree(fields: dict[str, Any], indent: int = 0) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            typer.echo(f"{' ' * indent}{name}")
            _print_tree(value, indent + 2)
        else:
            typer.echo(f"{' ' * indent}{name:<{24 - indent}} {value}")
