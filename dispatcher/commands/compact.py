"""`lookback compact`: few large parts instead of many small ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dispatcher.commands.exits import answer
from dispatcher.commands.options import AsJson, SettingsFile, settings_of
from dispatcher.commands.progress import progress


def compact(
    catalogue: Annotated[str, typer.Argument(help="Folder or s3:// address of a .hats sink.")],
    max_rows: Annotated[int, typer.Option(help="Rows that one leaf should hold at most.")] = 10**6,
    drop_previous: Annotated[
        bool, typer.Option("--drop-previous", help="Who reads the old generation now fails.")
    ] = False,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Merge the parts of a HATS catalogue, and split leaves that are too full.

    Not while a run writes to it. Who reads the catalogue meanwhile sees the old one or the new one.

    Example: lookback compact results/results.hats
    """
    from dispatcher.access import aws_client
    from sinks.hats import compact as merge

    s3 = aws_client(settings_of(settings).aws) if "://" in catalogue else None
    with progress("leaves merged") as step:
        done = merge(
            catalogue, max_rows=max_rows, s3=s3, keep_previous=not drop_previous, step=step
        )
    if as_json:
        answer(asdict(done))
        return
    typer.echo(
        f"{done.rows} rows: {done.parts_before} parts of {done.bytes_before / 2**20:.1f} MiB are "
        f"now {done.parts_after} of {done.bytes_after / 2**20:.1f} MiB in {done.leaves} leaves"
    )
