"""`lookback simulate`: a night on a virtual clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dispatcher.commands import completion as offered
from dispatcher.commands.exits import answer
from dispatcher.commands.options import AsJson, Plot
from dispatcher.errors import SettingsError
from dispatcher.ledger.accounts import TOTAL, Window
from dispatcher.ledger.money import pico

_CAPS = "Cap in dollars; 0 sends nothing."


def simulate(
    name: Annotated[
        str,
        typer.Argument(
            help="A night or pattern; --list has them all.", autocompletion=offered.nights
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same night.")] = 1,
    objective: Annotated[float, typer.Option(help="Seconds to an answer.", min=0.1)] = 10.0,
    minute_usd: Annotated[str | None, typer.Option(help=f"Any 60 s. {_CAPS}")] = None,
    hour_usd: Annotated[str | None, typer.Option(help=f"Any hour. {_CAPS}")] = None,
    night_usd: Annotated[str | None, typer.Option(help=f"The night. {_CAPS}")] = None,
    dispatchers: Annotated[int, typer.Option(help="That share the budget.", min=1)] = 1,
    items: Annotated[
        int | None, typer.Option(help="A fixed batch size instead of the adaptive one.", min=1)
    ] = None,
    failures: Annotated[
        float, typer.Option(help="Share of calls that fail, and that are lost.", min=0, max=0.5)
    ] = 0.0,
    stragglers: Annotated[
        float, typer.Option(help="Share of calls that take ten times as long.", min=0, max=0.5)
    ] = 0.01,
    plot: Plot = None,
    csv: Annotated[Path | None, typer.Option(help="The night minute by minute.")] = None,
    as_json: AsJson = False,
    names: Annotated[bool, typer.Option("--list", help="Print the names and end.")] = False,
) -> None:
    """Let a SIMULATED night pass: the real dispatcher, a simulated platform, a virtual clock.

    Example: lookback simulate dump-2021 --hour-usd 0.05 --objective 30 --plot dump.png
    """
    from rich.console import Console

    from dispatcher.simulate import arrivals, report
    from dispatcher.simulate.platform import Platform
    from dispatcher.simulate.world import Result, Scenario
    from dispatcher.simulate.world import simulate as pass_by

    known = {**arrivals.NIGHTS, **arrivals.PATTERNS}
    if names:
        if as_json:
            answer({"names": list(known)})
        else:
            typer.echo("\n".join(known))
        return
    if name not in known:
        raise SettingsError(f"there is no night called {name!r}; there are {', '.join(known)}")
    caps = _caps({Window.MINUTE: minute_usd, Window.HOUR: hour_usd, Window.NIGHT: night_usd})
    events = arrivals.named(name, seed)
    scenario = Scenario(
        events,
        Platform(straggle=stragglers, fail=failures, lose=failures),
        {TOTAL: caps} if caps else {},
        objective_s=objective,
        dispatchers=dispatchers,
        fixed=(items, 0.9 * objective) if items else None,
        until_s=events.last_s + 3600 if caps else None,
        seed=seed,
    )
    console = Console(stderr=True)
    with console.status(f"{events.events:,} events") as status:

        def watch(share: float, result: Result) -> None:
            status.update(f"SIMULATED {name}: {share:.0%}, {result.settled:,} answered")

        result = pass_by(scenario, watch)
    if plot:
        report.plot(result, name, plot)
    if csv:
        report.write_csv(result, csv)
    found = report.figures(result)
    if as_json:
        answer(found)
        return
    _show(name, found)


def _caps(given: Mapping[Window, str | None]) -> dict[Window, int]:
    try:
        return {window: pico(cap) for window, cap in given.items() if cap is not None}
    except ValueError as error:
        raise SettingsError(f"a cap: {error}") from error


def _show(name: str, found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"SIMULATED {name}", show_header=False)
    for key, value in found.items():
        if key not in ("simulated", "peaks", "said"):
            table.add_row(key, f"{value:,}" if isinstance(value, int) else str(value))
    for each in found["peaks"]:
        held = "held" if each["holds"] else "PASSED"
        table.add_row(
            f"most in a {each['window']}",
            f"${each['spent_usd']:.6f} of ${each['cap_usd']:.6f}: {held}",
        )
    Console().print(table)
