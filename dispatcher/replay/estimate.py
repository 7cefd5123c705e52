"""What a replay will cost and how long it will take, by what is known of calls: nothing is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from dispatcher.clock import SystemClock
from dispatcher.control import open_queue, open_scheduler
from dispatcher.groups import Replies
from dispatcher.ledger.accounts import Purse
from dispatcher.service import identify_model
from dispatcher.settings import Settings


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a replay. `cost`: pico-dollars; `measured`: calls that durations were learnt from here.

    Every event counts as one that is sent: those that are filtered, doubled or unreadable cost
    nothing, and those that are asked again cost more.
    """

    events: int
    calls: int
    items: int
    """Of one call."""
    cost: int
    seconds: float
    measured: int


@dataclass(frozen=True, slots=True)
class _Nobody:
    """Workers that are planned with, and not there."""

    slots: int

    async def ask(self, *_: object, **__: object) -> Replies:
        raise RuntimeError("an estimate sends nothing")


def estimate(events: int, settings: Settings, folder: Path, rate: float | None) -> Estimate:
    """For so many events, with all workers free. `rate`: events a second at most.

    Durations are those that were learnt in `folder`, or the shipped ones.

    Raises:
        SettingsError: the price is not known, or costs something without a cap.
    """
    slots = settings.workers.count
    model = identify_model(settings.workers.weights)
    scheduler, durations = open_scheduler(
        settings, _Nobody(slots), folder, SystemClock(), model.key
    )
    policy = open_queue(scheduler, durations, settings, Purse.REPLAY).policy
    size = policy.size()
    full, rest = divmod(events, size.items)
    cost = full * policy.quote(size.items, size.ranks).expected
    if rest:
        cost += policy.quote(rest, policy.ranks(rest, 0.0)).expected
    calls = full + bool(rest)
    at_once = max(1, int(slots * (1 - settings.replay.reserve)) // size.ranks)
    call_s = durations.fit.predict(-(-min(size.items, events) // size.ranks))
    seconds = math.ceil(calls / at_once) * call_s
    if rate:
        seconds = max(seconds, events / rate)
    return Estimate(events, calls, size.items, cost, seconds, durations.fit.observations)
