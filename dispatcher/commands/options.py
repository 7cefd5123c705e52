"""Options that many commands share, and the settings that they name.

Shells ask for completions at every press of a key, so the files of the command line load what they
need when they run: nothing of numpy, pydantic or a client is loaded for a list of names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dispatcher.settings import Settings

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="TOML file; `lookback settings` lists the keys.")
]
Output = Annotated[Path, typer.Option("--to", help="Folder for results, dead letters and state.")]
Folder = Annotated[Path, typer.Option("--to", help="Folder of the run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw the night into this PNG file.")]
Source = Annotated[
    str,
    typer.Argument(
        help="kafka://host:port/topic, sqs://queue, a folder, a glob in quotes, an Avro container, "
        "a JSON or JSON-lines file, or an SQLite night archive."
    ),
]

RESULTS = Path("lookback-out")
"""Where a run writes to that is not told."""


def settings_of(path: Path | None) -> Settings:
    """The settings of the file and the environment.

    Raises:
        SettingsError: the file cannot be read, or a key is unknown or out of range.
    """
    from dispatcher.settings import load

    return load(path)
