"""`lookback init` and `lookback settings`: what can be set, and a file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.commands.exits import answer
from dispatcher.commands.options import AsJson
from dispatcher.places import Place


def init(
    place: Annotated[Place, typer.Argument(help="Where it is to run.")] = Place.LAPTOP,
    to: Annotated[Path, typer.Option("--to", help="File to write; never one that exists.")] = Path(
        "lookback.toml"
    ),
    as_json: AsJson = False,
) -> None:
    """Write a settings file with every setting explained, for a laptop, one host or the cloud.

    Example: lookback init host --to /etc/lookback/lookback.toml
    """
    from dispatcher.errors import SettingsError
    from dispatcher.settings.commented import commented

    try:
        with to.open("x") as file:
            file.write(commented(place))
    except OSError as error:
        raise SettingsError(
            f"{to} cannot be written ({error.strerror}): --to names another"
        ) from error
    if as_json:
        answer({"written": str(to), "place": place.value})
    else:
        typer.echo(f"written: {to}; `lookback doctor --settings {to}` says what is still missing")


def settings(as_json: AsJson = False) -> None:
    """List every setting with its default, unit and meaning.

    Example: lookback settings | grep spend
    """
    from dispatcher.settings import entries, reference

    if as_json:
        answer({"settings": [each._asdict() for each in entries()]})
    else:
        typer.echo(reference(), nl=False)
