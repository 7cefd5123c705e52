"""`lookback plan`: what a rate and an objective cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dispatcher.calls.durations import PRIOR, Durations, Fit
from dispatcher.calls.sizing import Limits
from dispatcher.errors import SettingsError
from dispatcher.ledger.prices import Tariff, price
from dispatcher.plan import Choice, curve

_LIMIT = 160


def plan(
    rate: Annotated[float, typer.Option(help="Events a second.", min=1e-6)],
    objective: Annotated[float, typer.Option(help="Seconds to an answer.", min=0.01)] = 10.0,
    price_name: Annotated[
        str, typer.Option("--price", help="A name of the price table.")
    ] = "aws-lambda/us-east-1/x86_64",
    memory: Annotated[int, typer.Option(help="MB of the function.", min=128, max=10240)] = 1769,
    deadline: Annotated[float, typer.Option(help="Seconds a call may take.", min=0.1)] = 60.0,
    durations: Annotated[
        Path | None, typer.Option(help="durations.json of a run; default: a typical core.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what batches of every size cost and take at a rate, and which would be sent.

    Example: lookback plan --rate 270 --objective 10
    """
    tariff = Tariff(price(price_name), memory)
    limits = Limits(_LIMIT, deadline, 1, exact_ranks=False)
    choices = curve(_known(durations), tariff, limits, rate, objective)
    if as_json:
        typer.echo(json.dumps({"choices": [asdict(each) for each in choices]}))
        return
    Console().print(_table(choices, f"{rate:g} events a second, {price_name}, {memory} MB"))
    best = next(each for each in choices if each.chosen)
    if not best.met:
        typer.echo(
            f"an objective of {objective:g} s cannot be met: {best.items} items take "
            f"{best.age_s:.1f} s (95 of 100)"
        )


def _known(path: Path | None) -> Fit:
    if path is None:
        return PRIOR
    try:
        known = json.loads(path.read_text())
        return Durations.from_json(next(iter(known.values()))).fit
    except (OSError, ValueError, TypeError, AttributeError, StopIteration) as error:
        raise SettingsError(
            f"{path} holds no durations ({error}): give the durations.json of a run"
        ) from error


def _table(choices: list[Choice], title: str) -> Table:
    table = Table(title=title)
    for name in ("items", "fill s", "p50 s", "p95 s", "age s", "$ per million", "fixed", ""):
        table.add_column(name, justify="right")
    for each in choices:
        table.add_row(
            str(each.items),
            f"{each.fill_s:.2f}",
            f"{each.p50_s:.3f}",
            f"{each.p95_s:.3f}",
            f"{each.age_s:.2f}" + ("" if each.met else " late"),
            f"{each.usd_per_million:.4f}",
            f"{each.fixed:.1%}",
            "<- sent" if each.chosen else "",
            style="bold green" if each.chosen else None,
        )
    return table
