"""`lookback run` and `lookback demo`: a source in, redshifts out."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from dispatcher.commands.options import (
    RESULTS,
    AsJson,
    Output,
    Plot,
    SettingsFile,
    Source,
    settings_of,
)
from dispatcher.commands.progress import progress

Stay = Annotated[
    bool, typer.Option("--stay", help="Keep the status page up after the end, until Ctrl-C.")
]


def run(
    source: Source,
    to: Output = RESULTS,
    settings: SettingsFile = None,
    plot: Plot = None,
    stay: Stay = False,
    as_json: AsJson = False,
) -> None:
    """Follow a source to its end and write a redshift for every image.

    Killed or stopped, the same command goes on where it was: nothing is lost and nothing is
    written twice.

    Example: lookback run night-of-alerts/ --to results/ --plot night.png

    Example: lookback run kafka://broker:9092/alerts --settings lookback.toml
    """
    from dispatcher.commands.following import Shown, follow

    follow(source, to, settings_of(settings), Shown(plot, as_json, stay, settings_file=settings))


def demo(
    to: Output = RESULTS / "demo",
    events: Annotated[int, typer.Option(help="Galaxies to render.", min=1)] = 360,
    seed: Annotated[int, typer.Option(help="The same seed renders the same night.")] = 20261123,
    plot: Plot = None,
    stay: Stay = False,
    as_json: AsJson = False,
) -> None:
    """Render a small SIMULATED night and run it: redshifts in a minute, nothing to prepare.

    Example: lookback demo --plot night.png

    Example: lookback demo --stay
    """
    from dispatcher.commands.following import Shown, follow
    from dispatcher.demo import render_night

    archive = to / "night.sqlite"
    if not archive.exists():
        typer.echo(f"Rendering a simulated night of {events} galaxies into {archive} ...", err=True)
        with progress("rendering", events) as step:
            render_night(archive, events, seed, step)
    # Rendering is no part of a start: a real night is there already.
    began = time.time()
    given = settings_of(None)
    follow(str(archive), to, given, Shown(plot, as_json, stay, began), tense="test")
