"""`lookback plan`: what a rate and an objective cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatcher.commands import completion as offered
from dispatcher.commands.exits import answer
from dispatcher.commands.options import AsJson
from dispatcher.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from dispatcher.calls.durations import Fit
    from dispatcher.plan import Choice, Plan

_MOST_ITEMS: Final = 4096
_MEMORY_MB: Final = (128, 10240)
_MOST_RANKS: Final = 1024
_MOST: Final = 1e9
"""No rate, objective or deadline is larger; infinity is not."""


def plan(
    rate: Annotated[list[float], typer.Option(help="Events a second; may be repeated.")],
    objective: Annotated[
        list[float] | None,
        typer.Option(help="Seconds to an answer; may be repeated.", show_default="10"),
    ] = None,
    price_name: Annotated[
        str,
        typer.Option("--price", help="A name of the price table.", autocompletion=offered.prices),
    ] = "aws-lambda/us-east-1/x86_64",
    prices: Annotated[
        Path | None, typer.Option(help="A price table of your own, as spend.prices.")
    ] = None,
    memory: Annotated[int, typer.Option(help="MB of the function.")] = 1769,
    items: Annotated[
        int | None,
        typer.Option(
            help="Items for one worker at most; over 160 they go by a bucket.", show_default="160"
        ),
    ] = None,
    ranks: Annotated[int, typer.Option(help="Workers that share a batch.")] = 1,
    deadline: Annotated[float, typer.Option(help="Seconds a call may take.")] = 60.0,
    durations: Annotated[
        Path | None, typer.Option(help="durations.json of a run; default: a typical core.")
    ] = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves into this PNG file.")] = None,
) -> None:
    """Print what batches of every size cost and take at a rate, and which would be sent.

    Example: lookback plan --rate 270 --rate 2700 --objective 10 --plot curve.png
    """
    from rich.console import Console

    from dispatcher.calls.sizing import Limits
    from dispatcher.ledger.prices import Tariff, price
    from dispatcher.plan import curve
    from dispatcher.settings.sections import ITEMS_PER_INVOCATION

    objectives = objective or [10.0]
    _check("--rate", rate, 1e-6, _MOST)
    _check("--objective", objectives, 0.01, _MOST)
    _check("--deadline", [deadline], 0.1, _MOST)
    _check("--memory", [memory], *_MEMORY_MB)
    _check("--ranks", [ranks], 1, _MOST_RANKS)
    most = ITEMS_PER_INVOCATION if items is None else items
    _check("--items", [most], 1, _MOST_ITEMS)
    tariff = Tariff(price(price_name, prices), memory, inline=ITEMS_PER_INVOCATION)
    limits = Limits(most, deadline, ranks, exact_ranks=True)
    fit = _known(durations, f"{price_name} {memory} MB")
    plans = [curve(fit, tariff, limits, *each) for each in product(rate, objectives)]
    if plot:
        _draw(plans, f"{price_name}, {memory} MB, ranks: {ranks}", plot)
    if as_json:
        answer({"plans": [_figures(each) for each in plans]})
        return
    for each in plans:
        Console().print(_table(each, f"{each.rate:g} events a second, {price_name}, {memory} MB"))
        typer.echo(_verdict(each, deadline))


def _check(option: str, given: Iterable[float], least: float, most: float) -> None:
    for each in given:
        if not least <= each <= most:  # nor is "nan", which is a float
            raise SettingsError(f"{option} is {each:g}: give a number from {least:g} to {most:g}")


def _known(path: Path | None, function: str) -> Fit:
    """What was learnt of that function, or of the only one that is known."""
    from dispatcher.calls.durations import PRIOR, Durations

    if path is None:
        return PRIOR
    try:
        known = json.loads(path.read_text())
        fitting = [each for name, each in known.items() if name.endswith(f" {function}")]
        found = fitting or list(known.values())
        if len(found) == 1:
            return Durations.from_json(found[0]).fit
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} holds no durations ({error}): give the durations.json of a run"
        ) from error
    raise SettingsError(
        f"{path} knows {len(found)} functions, and which one is meant is not clear: choose with "
        f"--price and --memory among {', '.join(known) or 'none'}"
    )


def _draw(plans: list[Plan], title: str, path: Path) -> None:
    from dispatcher.plan import plot as draw

    try:
        draw(plans, title, path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"--plot: {path} cannot be written ({error})") from error


def _figures(made: Plan) -> dict[str, object]:
    return {
        "rate": made.rate,
        "objective_s": made.objective_s,
        "met": made.chosen.met,
        "choices": [asdict(each) for each in made.choices],
    }


def _verdict(made: Plan, deadline_s: float) -> str:
    best = made.chosen
    if best.met:
        hourly = made.rate * 3600 * best.usd_per_million / 1e6
        return (
            f"{best.items} items a batch, ${hourly:.4f} an hour, {best.busy:.2g} workers busy: "
            f"inside {made.objective_s:g} s"
        )
    if best.p95_s > deadline_s:
        return (
            f"{_items(best.items)} {best.p95_s:.2f} s (95 of 100), and a call may take "
            f"{deadline_s:g} s: it would be paid and lost"
        )
    return (
        f"an objective of {made.objective_s:g} s cannot be met: "
        f"{_items(best.items)} {best.age_s:.2f} s (95 of 100)"
    )


def _items(count: int) -> str:
    return "even one item takes" if count == 1 else f"{count} items take"


def _table(made: Plan, title: str) -> Table:
    from rich.table import Table

    table = Table(title=title)
    for name in ("items", "fill s", "p50 s", "p95 s", "age s", "$/million", "fixed", "busy"):
        table.add_column(name, justify="right")
    table.add_column()
    for each in made.choices:
        table.add_row(*_row(each), style="bold green" if each.chosen else None)
    return table


def _row(each: Choice) -> tuple[str, ...]:
    return (
        str(each.items),
        f"{each.fill_s:.2f}",
        f"{each.p50_s:.3f}",
        f"{each.p95_s:.3f}",
        f"{each.age_s:.2f}",
        f"{each.usd_per_million:.4f}",
        f"{each.fixed:.1%}",
        f"{each.busy:.2f}",
        " ".join(("<- sent",) * each.chosen + ("late",) * (not each.met)),
    )
