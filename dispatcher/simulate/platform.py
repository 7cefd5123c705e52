"""A SIMULATED function platform: cold starts, throttles, stragglers, failures, and what it bills.

It keeps the truth: every invocation with its start, its end and its price, also of those whose bill
never arrived and whose caller has gone.
"""

from __future__ import annotations

import asyncio
import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from dispatcher.calls.triage import TOGETHER
from dispatcher.errands import Question
from dispatcher.errors import FunctionError, InvocationError, Throttled, TimedOut, WorkerLost
from dispatcher.groups import Part, Replies, cut
from dispatcher.invokers.bill import Bill
from dispatcher.ledger.prices import Tariff
from workers.wire import Estimate, Verdict, VerdictKind

_ESTIMATE: Final = Estimate(0.1, 0.1, 0.1, 0.09, 0.11, 0.08, 0.12, 0)
_REFUSAL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Platform:
    """How a platform behaves. Times in seconds, the rest are probabilities of one invocation.

    The defaults are one Lambda function of 1,769 MB (one vCPU) with the shipped model, as measured
    on a core of this decade; concurrency and ramp are those of an account (1,000 in 10 s).
    """

    base_s: float = 0.02
    per_item_s: float = 0.0027
    noise: float = 0.08
    """Standard deviation of the logarithm of a duration."""
    cold_s: float = 1.5
    keep_warm_s: float = 600.0
    concurrency: int = 1000
    ramp_per_s: float = 100.0
    straggle: float = 0.0
    straggle_factor: float = 10.0
    fail: float = 0.0
    lose: float = 0.0
    hide_bill: float = 0.0
    marks: bool = True
    """Whether a worker that dies has said where it was."""


@dataclass(slots=True)
class Truth:
    """Every invocation: start and end (s), price (pico-dollars)."""

    start: array[float] = field(default_factory=lambda: array("d"))
    end: array[float] = field(default_factory=lambda: array("d"))
    price: array[int] = field(default_factory=lambda: array("q"))

    def add(self, start: float, end: float, price: int) -> None:
        """Note one."""
        self.start.append(start)
        self.end.append(end)
        self.price.append(price)

    @property
    def spent(self) -> int:
        """All of it."""
        return sum(self.price)


@dataclass(frozen=True, slots=True)
class _Fate:
    seconds: float
    error: InvocationError | None = None


class SimulatedPlatform:
    """`dispatcher.groups.Groups`, without workers.

    `poison`: keys that kill whoever looks at them.
    """

    def __init__(
        self,
        behaves: Platform,
        tariff: Tariff,
        draw: random.Random,
        poison: frozenset[str] = frozenset(),
    ) -> None:
        self.truth = Truth()
        self.cold_starts = self.throttles = self.invocations = 0
        self._behaves, self._tariff, self._draw = behaves, tariff, draw
        self._poison = poison
        self._busy = 0
        self._warm: list[float] = []  # when each idle environment was used last
        self._tokens, self._filled = 10 * behaves.ramp_per_s, 0.0

    @property
    def slots(self) -> int:
        """See `Groups.slots`."""
        return self._behaves.concurrency

    async def ask(
        self, questions: Sequence[Question], ranks: int, deadline_s: float, *, careful: bool = False
    ) -> Replies:
        """See `Groups.ask`."""
        partitions = cut(questions, min(ranks, len(questions)))
        loop = asyncio.get_running_loop()
        starts = self._environments(len(partitions), loop.time())
        if starts is None:
            self.throttles += 1
            await asyncio.sleep(_REFUSAL_S)
            error = Throttled("the platform has no worker now")
            return Replies({}, [Part(each, None, error) for each in partitions])
        fates = [self._fate(each, deadline_s, careful) for each in partitions]
        longest = max(each.seconds for each in fates)
        total = max(cold_s + longest for cold_s in starts)
        parts, verdicts = [], {}
        for partition, cold_s, fate in zip(partitions, starts, fates, strict=True):
            # Ranks meet at the end: a group lasts as long as its slowest.
            seconds = cold_s + (fate.seconds if fate.error else longest)
            bill = Bill(math.ceil(1000 * seconds), math.ceil(1000 * cold_s))
            self.truth.add(loop.time(), loop.time() + seconds, self._tariff.charge(bill.billed_ms))
            hidden = bool(self._behaves.hide_bill) and self._happens(self._behaves.hide_bill)
            parts.append(Part(partition, None if hidden else bill, fate.error))
            if fate.error is None:
                for each in partition:
                    verdicts[each.key] = Verdict(each.key, VerdictKind.ESTIMATED, _ESTIMATE)
        # Whoever asks may leave: the functions go on.
        lost = sum(isinstance(each.error, WorkerLost | TimedOut) for each in fates)
        loop.call_later(total, self._over, len(partitions), lost)
        await asyncio.sleep(total)
        return Replies(verdicts, parts)

    def _environments(self, wanted: int, now: float) -> list[float] | None:
        """Start-up times (s) of so many environments; None where the platform refuses."""
        behaves = self._behaves
        if self._busy + wanted > behaves.concurrency:
            return None
        while self._warm and now - self._warm[0] > behaves.keep_warm_s:
            self._warm.pop(0)
        cold = max(0, wanted - len(self._warm))
        ramp = behaves.ramp_per_s
        self._tokens = min(10 * ramp, self._tokens + ramp * (now - self._filled))
        self._filled = now
        if cold > self._tokens:
            return None
        self._tokens -= cold
        del self._warm[len(self._warm) - (wanted - cold) :]
        self._busy += wanted
        self.invocations += wanted
        self.cold_starts += cold
        starts = [behaves.cold_s * self._draw.lognormvariate(0, 0.2) for _ in range(cold)]
        return starts + [0.0] * (wanted - cold)

    def _over(self, workers: int, lost: int) -> None:
        self._busy -= workers
        now = asyncio.get_running_loop().time()
        self._warm += [now] * (workers - lost)

    def _fate(self, partition: Sequence[Question], deadline_s: float, careful: bool) -> _Fate:
        behaves, draw = self._behaves, self._draw
        pace = draw.lognormvariate(0, behaves.noise)
        if behaves.straggle and self._happens(behaves.straggle):
            pace *= behaves.straggle_factor
        step = 1 if careful else TOGETHER
        place: int = len(partition)
        error: InvocationError | None = None
        if behaves.fail and self._happens(behaves.fail):
            place = draw.randrange(len(partition))
            error = FunctionError("the handler raised", self._mark(place, step))
        elif behaves.lose and self._happens(behaves.lose):
            place = draw.randrange(len(partition))
            error = WorkerLost("the worker ended", self._mark(place, step))
        for number, each in enumerate(partition if self._poison else ()):
            if each.key in self._poison and number < place:
                place, error = number, WorkerLost("the worker ended", self._mark(number, step))
        looked_at = min(len(partition), (place // step + 1) * step)
        seconds = pace * (behaves.base_s + behaves.per_item_s * looked_at)
        if seconds > deadline_s:
            reached = int(looked_at * deadline_s / seconds)
            late = TimedOut(f"no answer within {deadline_s:g} s", self._mark(reached, step))
            return _Fate(deadline_s, late)
        return _Fate(seconds, error)

    def _mark(self, place: int, step: int) -> int | None:
        return place // step * step if self._behaves.marks else None

    def _happens(self, probability: float) -> bool:
        return self._draw.random() < probability
