"""What batches of every size would cost and how long they would take, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dispatcher.calls import sizing
from dispatcher.calls.durations import Fit
from dispatcher.calls.sizing import Limits, Target
from dispatcher.ledger.money import DOLLAR
from dispatcher.ledger.prices import Tariff

_SIZES: Final = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 160)


@dataclass(frozen=True, slots=True)
class Choice:
    """A batch of `items` at a rate of arrival. Times in seconds.

    `fill_s`: until it is full; `age_s`: of its oldest item when 95 of 100 such calls are answered;
    `fixed`: share of its cost that does not depend on its size.
    """

    items: int
    fill_s: float
    p50_s: float
    p95_s: float
    age_s: float
    usd_per_million: float
    fixed: float
    met: bool
    chosen: bool = False


def curve(
    fit: Fit, tariff: Tariff, limits: Limits, rate: float, objective_s: float
) -> list[Choice]:
    """Every size, and the one that would be sent, marked."""
    chosen = size_at(fit, tariff, limits, rate, objective_s)
    sizes = sorted({*(each for each in _SIZES if each <= limits.items), chosen})
    return [
        _choice(fit, tariff, limits, each, rate, objective_s, chosen=each == chosen)
        for each in sizes
    ]


def size_at(fit: Fit, tariff: Tariff, limits: Limits, rate: float, objective_s: float) -> int:
    """Items of a batch at that rate: full, or what has come when its oldest is due."""
    target = Target(objective_s)
    full = sizing.full(fit, tariff, limits, target, explore=False).items
    return next(
        (each for each in _down(full) if each == 1 or _in_time(fit, limits, each, rate, target)), 1
    )


def _down(full: int) -> Iterator[int]:
    yield from range(full, 0, -1)


def _in_time(fit: Fit, limits: Limits, items: int, rate: float, target: Target) -> bool:
    return sizing.due_in(fit, limits, target, items, (items - 1) / rate) >= 0


def _choice(
    fit: Fit,
    tariff: Tariff,
    limits: Limits,
    items: int,
    rate: float,
    objective_s: float,
    *,
    chosen: bool,
) -> Choice:
    fill_s = (items - 1) / rate
    cost = sizing.quote(fit, tariff, items, 1, limits.time_s).expected
    free = tariff.price.free
    fixed = (
        fit.base_s / fit.predict(items)
        if free
        else 1 - items * fit.per_item_s * 1000 * tariff.per_ms[0] / tariff.per_ms[1] / cost
    )
    age_s = fill_s + fit.p95_s(items)
    return Choice(
        items,
        fill_s,
        fit.predict(items),
        fit.p95_s(items),
        age_s,
        cost / items * 1e6 / DOLLAR,
        fixed,
        age_s <= objective_s,
        chosen,
    )
