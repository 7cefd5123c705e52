"""How many items a call should have, how many workers, and when it must go: pure arithmetic.

Cost per item falls with the size of a batch, ever more slowly, so there is a right size: large
enough that what every call costs anyway (start of the loop, the request) is a small share.
Larger batches gain less than they delay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from dispatcher.calls.durations import Fit
from dispatcher.ledger.accounts import Quote
from dispatcher.ledger.prices import Tariff

_GROWTH: Final = 2
"""What was never tried is approached in such steps."""
_TIME_SHARE: Final = 0.8  # of the time limit, for the p99: what is cut off is paid and lost
_MARGIN: Final = 0.95  # of the objective: writing takes its time, too


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker and a group can take.

    `items`: for one worker, by payload and memory; `time_s`: time limit of a call; `ranks`: of a
    group at most, or exactly that many where there are items enough.
    """

    items: int
    time_s: float
    ranks: int
    exact_ranks: bool


@dataclass(frozen=True, slots=True)
class Target:
    """What a batch is sized for.

    `objective_s`: age of its oldest item plus duration stays inside; None: no hurry. `target_s`:
    its duration without the fixed part. `overhead`: the share of the fixed part at which it is
    large enough.
    """

    objective_s: float | None
    target_s: float | None = None
    overhead: float | None = 0.02


@dataclass(frozen=True, slots=True)
class Size:
    """So many items, cut among so many workers."""

    items: int
    ranks: int


def quote(fit: Fit, tariff: Tariff, items: int, ranks: int, deadline_s: float) -> Quote:
    """What a call costs: all ranks last as long as the slowest."""
    share = -(-items // ranks)
    expected_s = fit.predict(share) + fit.cold_share * fit.cold_s
    worst_s = deadline_s + fit.cold_s
    expected, reserve, worst = (
        ranks * (tariff.charge(math.ceil(1000 * seconds)) + tariff.aside(share))
        for seconds in (expected_s, min(fit.p99_s(share), worst_s), worst_s)
    )
    return Quote(expected, max(expected, reserve), max(expected, worst))


def full(fit: Fit, tariff: Tariff, limits: Limits, target: Target, explore: bool = True) -> Size:
    """The size at which a batch is sent at once. At most twice what was tried, if `explore`."""
    sizes = [
        float(limits.items),
        (_TIME_SHARE * limits.time_s / fit.p99 - fit.base_s) / fit.per_item_s,
    ]
    if target.objective_s is not None:
        sizes.append((_MARGIN * target.objective_s / fit.p95 - fit.base_s) / fit.per_item_s)
    if target.target_s is not None:
        sizes.append(target.target_s / fit.per_item_s)
    if target.overhead is not None:
        fixed, per_item = _cost(fit, tariff)
        sizes.append(fixed * (1 - target.overhead) / (target.overhead * per_item))
    if explore:
        sizes.append(_GROWTH * max(fit.largest, 1 / _GROWTH))
    items = max(1, math.floor(min(sizes) + 1e-9))
    ranks = limits.ranks if limits.exact_ranks else 1
    return Size(items * ranks, ranks)


def _cost(fit: Fit, tariff: Tariff) -> tuple[float, float]:
    """Of a call, and of an item in it, in pico-dollars; in seconds where nothing costs anything."""
    if tariff.price.free:
        return fit.base_s, fit.per_item_s
    rate, of = tariff.per_ms
    per_s = 1000 * rate / of
    return fit.base_s * per_s + tariff.price.request, fit.per_item_s * per_s


def due_in(fit: Fit, limits: Limits, target: Target, waiting: int, oldest_age_s: float) -> float:
    """Seconds until so many must be sent to be answered in time; they become more meanwhile."""
    if target.objective_s is None:
        return math.inf
    ranks = limits.ranks if limits.exact_ranks else 1
    share = min(-(-waiting // ranks), limits.items)  # of the rank that has most
    # A worker may have to be started for it, while that happens at all.
    start_s = min(fit.cold_s, target.objective_s / 4) if fit.cold_share else 0.0
    call_s = start_s + fit.p95 * (fit.base_s + fit.per_item_s * share)
    left = _MARGIN * target.objective_s - oldest_age_s - call_s
    if left <= 0 or share >= limits.items:
        return left
    growth = (
        fit.p95 * fit.per_item_s * waiting / ranks / max(oldest_age_s, 0.05 * target.objective_s)
    )
    return left / (1 + growth)


def ranks_for(fit: Fit, limits: Limits, target: Target, items: int, oldest_age_s: float) -> int:
    """As few workers as answer in time; the fewest possible if none do."""
    if limits.exact_ranks:
        return min(limits.ranks, items)
    fewest = -(-items // limits.items)
    if target.objective_s is None:
        return fewest
    most = min(limits.ranks, items)
    # The whole objective: what is sent when it is due needs no second worker.
    left_s = target.objective_s - oldest_age_s
    share = (left_s / fit.p95 - fit.base_s) / fit.per_item_s
    if share < items / max(most, 1):
        return fewest
    return max(fewest, math.ceil(items / share - 1e-9))
