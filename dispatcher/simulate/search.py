"""The best that a fixed policy could have done: found by trying, knowing the whole night."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dispatcher.simulate.world import Result, Scenario, simulate

SIZES: Final = (1, 4, 16, 40, 80, 120, 160)
AGES: Final = (0.05, 0.25, 0.5, 0.75, 0.9)
"""Of the objective."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One fixed policy: `items`, `max_age_s`, and what came of it."""

    items: int
    max_age_s: float
    per_event: float
    windows_met: float


def best_fixed(
    scenario: Scenario, sizes: Sequence[int] = SIZES, ages: Sequence[float] = AGES
) -> Tried:
    """The cheapest of the fixed policies that meet the objective as often as any of them does."""
    return cheapest(try_all(scenario, sizes, ages))


def try_all(scenario: Scenario, sizes: Sequence[int], ages: Sequence[float]) -> list[Tried]:
    """Every size with every age."""
    return [
        _tried(simulate(replace(scenario, fixed=(items, age * scenario.objective_s))))
        for items in sizes
        for age in ages
    ]


def cheapest(tried: Iterable[Tried]) -> Tried:
    """Of those that meet the objective as often as any, to 1 %, the one of the fewest dollars."""
    tried = list(tried)
    most = max(each.windows_met for each in tried)
    return min(
        (each for each in tried if each.windows_met >= most - 0.01), key=lambda each: each.per_event
    )


def _tried(result: Result) -> Tried:
    if result.scenario.fixed is None:
        raise ValueError("no fixed policy")
    return Tried(*result.scenario.fixed, result.per_event, result.windows_met)
