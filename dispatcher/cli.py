"""The command line: which commands there are, in the order of their use, and how they end.

They are in `dispatcher.commands`.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from dispatcher.commands import exits
from dispatcher.commands.compact import compact
from dispatcher.commands.deadletters import app as deadletters
from dispatcher.commands.doctor import doctor
from dispatcher.commands.functions import app as functions
from dispatcher.commands.functions import platform
from dispatcher.commands.ledger import app as ledger
from dispatcher.commands.look import inspect, reconcile
from dispatcher.commands.models import estimate, evaluate, import_weights, prepare, train
from dispatcher.commands.plan import plan
from dispatcher.commands.replay import replay
from dispatcher.commands.review import app as review
from dispatcher.commands.run import demo, run
from dispatcher.commands.setup import init, settings
from dispatcher.commands.simulate import simulate

_PANELS: Final[dict[str, dict[str, Any]]] = {
    "Run": {"demo": demo, "run": run, "replay": replay, "simulate": simulate},
    "Look": {"inspect": inspect, "reconcile": reconcile, "review": review},
    "Mend": {"doctor": doctor, "deadletters": deadletters, "compact": compact},
    "Money": {"ledger": ledger, "plan": plan},
    "Models": {
        "estimate": estimate,
        "evaluate": evaluate,
        "prepare": prepare,
        "train": train,
        "import": import_weights,
    },
    "Set up": {"init": init, "settings": settings, "functions": functions, "platform": platform},
}
_ORDER: Final = [name for commands in _PANELS.values() for name in commands]
_NAME: Final = "lookback"
_COMPLETE: Final = f"_{_NAME.upper()}_COMPLETE"
"""The variable by which a shell asks."""


class _InOrder(TyperGroup):
    """Commands in the order of the panels, groups among them; what is not in one comes last."""

    def list_commands(self, ctx: Any) -> list[str]:  # its type is no part of typer's interface
        """Names, as help and completion show them."""
        return sorted(
            super().list_commands(ctx),
            key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER),
        )


app = typer.Typer(
    cls=_InOrder,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    epilog=exits.epilog(),
)
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def main() -> None:
    """Entry point: errors that a person can mend are one line, not a traceback."""
    if _COMPLETE in os.environ:
        app(prog_name=_NAME)
    from dispatcher import logs

    logs.configure()
    exits.begin()
    try:
        _run()
    except SystemExit as end:
        if end.code and "--json" in sys.argv:
            exits.stand_in(int(end.code))
        raise
    finally:
        sys.excepthook = logs.uncaught  # typer has put one of its own there


def _run() -> None:
    try:
        app(prog_name=_NAME)
    except Exception as error:
        if (trouble := exits.trouble_of(error)) is None:
            raise
        exits.complain(*trouble)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lookback {version('lookback')}")
        raise typer.Exit


@app.callback()
def lookback(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """A stream of new survey images in, a stream of redshifts out.

    Example: lookback demo --plot night.png

    Example: lookback run night-of-alerts/ --to results/
    """
