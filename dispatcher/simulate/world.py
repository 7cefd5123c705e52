"""A night in the simulator: scenario in, result out."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Final, cast

import numpy as np
from structlog.testing import capture_logs

from dispatcher.calls.durations import PRIOR, Durations
from dispatcher.calls.policy import Adaptive, Policy
from dispatcher.calls.queue import Queue
from dispatcher.calls.scheduler import Scheduler
from dispatcher.checkpoint import LIVE, REPLAY, Checkpoint
from dispatcher.control import build_scheduler, open_queue, shares_of
from dispatcher.credit import Credit
from dispatcher.custody import Settled
from dispatcher.lane import Lane
from dispatcher.latency import LatencyHistogram
from dispatcher.ledger.accounts import Caps, Purse
from dispatcher.ledger.ledger import Ledger
from dispatcher.ledger.money import DOLLAR
from dispatcher.ledger.prices import Tariff, price
from dispatcher.ledger.stores import Store
from dispatcher.ledger.stores.memory import MemoryStore
from dispatcher.settings import Settings
from dispatcher.simulate.arrivals import Arrivals
from dispatcher.simulate.mortal import MortalStore
from dispatcher.simulate.platform import Platform, SimulatedPlatform, Truth
from dispatcher.simulate.policies import Fixed
from dispatcher.simulate.source import SimulatedSource, SimulatedWork
from dispatcher.simulate.virtual import EPOCH, LoopClock, VirtualLoop

WINDOW_S: Final = 60.0
"""Length of the stretches in which an objective is met or not."""
PRICE: Final = "aws-lambda/us-east-1/x86_64"
_RESTART_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens in a night, and how it is met.

    `kills`: when (s) which dispatcher is killed; it comes back after 5 s. `fixed`: (items, max age)
    instead of the adaptive policy. `replay`: arrivals that a replay lane reads beside the live one.
    `until_s`: when it ends at the latest.
    """

    arrivals: Arrivals
    platform: Platform = field(default_factory=Platform)
    caps: Caps = field(default_factory=dict)
    objective_s: float = 10.0
    dispatchers: int = 1
    kills: Sequence[tuple[float, int]] = ()
    fixed: tuple[int, float] | None = None
    replay: Arrivals | None = None
    poison: frozenset[str] = frozenset()
    hedge: float = 0.03
    deadline_s: float = 30.0
    batch: int = 160
    in_flight: int = 50_000
    until_s: float | None = None
    price: str = PRICE
    memory_mb: int = 1769
    seed: int = 1


@dataclass(slots=True)
class Result:
    """What came of a night. Money in pico-dollars, times in seconds."""

    scenario: Scenario
    truth: Truth
    settled: int = 0
    replayed: int = 0
    ages: LatencyHistogram = field(default_factory=LatencyHistogram)
    oldest_s: float = 0.0
    by_window: defaultdict[int, LatencyHistogram] = field(
        default_factory=lambda: defaultdict(LatencyHistogram)
    )
    calls: int = 0
    hedges: int = 0
    booked: int = 0
    cold_starts: int = 0
    throttles: int = 0
    said: list[str] = field(default_factory=list)
    """What the dispatchers wrote into their logs."""
    series: list[dict[str, float]] = field(default_factory=list)
    """Each window: time, backlog, spent so far, items in a full batch, workers in use."""

    @property
    def per_event(self) -> float:
        """Pico-dollars an event."""
        return self.truth.spent / max(1, self.settled + self.replayed)

    @property
    def windows_met(self) -> float:
        """Share of windows in which 98 of 100 answers were inside the objective."""
        inside = [
            (each.quantile(0.98) or 0.0) <= self.scenario.objective_s * 1.01
            for each in self.by_window.values()
        ]
        return sum(inside) / max(1, len(inside))


def simulate(scenario: Scenario, watch: Callable[[float, Result], None] | None = None) -> Result:
    """Let the night pass. `watch` is told each window how far it is."""
    with (
        tempfile.TemporaryDirectory() as folder,
        capture_logs() as said,
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        result = runner.run(_Night(scenario, Path(folder), watch).pass_by())
    result.said = [f"{each['event']}: {each.get('why', '')}".rstrip(": ") for each in said]
    return result


class _Night:
    def __init__(
        self, scenario: Scenario, folder: Path, watch: Callable[[float, Result], None] | None
    ) -> None:
        self._scenario, self._folder, self._watch = scenario, folder, watch
        self._draw = random.Random(scenario.seed)  # noqa: S311 - a night is not a secret
        self._tariff = Tariff(price(scenario.price), scenario.memory_mb)
        self._platform = SimulatedPlatform(
            scenario.platform, self._tariff, self._draw, scenario.poison
        )
        self._store: Store = MemoryStore()
        self._result = Result(scenario, self._platform.truth)
        self._schedulers: dict[int, Scheduler] = {}
        self._stores: dict[int, MortalStore] = {}
        self._durations: dict[int, Durations] = {}
        self._settings = Settings(
            flow={"items": scenario.in_flight, "fetch": 512, "mib": 4096},
            batch={"items": min(160, scenario.batch)},
            live={"objective_s": scenario.objective_s},
            hedge={"share": scenario.hedge},
            workers={"ranks": 0, "deadline_s": scenario.deadline_s},
            sinks={"commit_s": 10},
        )

    async def pass_by(self) -> Result:
        """From the first event to the last answer."""
        sampling = asyncio.create_task(self._sample())
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._scenario.dispatchers):
                    tasks.create_task(self._keep_running(number))
        finally:
            sampling.cancel()
        result = self._result
        result.cold_starts = self._platform.cold_starts
        result.throttles = self._platform.throttles
        return result

    async def _keep_running(self, number: int) -> None:
        kills = sorted(when for when, which in self._scenario.kills if which == number)
        while True:
            life = asyncio.create_task(self._live(number))
            now = asyncio.get_running_loop().time()
            next_kill = next((each for each in kills if each > now), None)
            if next_kill is not None:
                done, _ = await asyncio.wait({life}, timeout=next_kill - now)
                if not done:
                    self._stores[number].alive = False
                    life.cancel()
                    await asyncio.wait({life})
                    await asyncio.sleep(_RESTART_S)
                    continue
            await life
            return

    async def _live(self, number: int) -> None:
        scenario, clock = self._scenario, LoopClock()
        store = self._stores[number] = MortalStore(self._store)
        ledger = Ledger(
            cast("Store", store),
            scenario.caps,
            clock,
            str(number),
            shares=shares_of(self._settings),
            ttl_s=2 * scenario.deadline_s,
        )
        scheduler = self._schedulers[number] = build_scheduler(
            self._settings, self._platform, ledger, self._tariff, clock, self._draw
        )
        durations = self._durations.setdefault(number, Durations(PRIOR))
        live = open_queue(scheduler, durations, self._settings, Purse.LIVE)
        live.policy = self._policy(live.policy)
        replay = (
            open_queue(scheduler, durations, self._settings, Purse.REPLAY)
            if scenario.replay
            else None
        )
        checkpoint = Checkpoint(self._folder / f"{number}.sqlite")
        share = scenario.arrivals.share(number, scenario.dispatchers)
        lanes = [self._lane(f"live-{number}", LIVE, live, share, checkpoint, clock)]
        if replay and scenario.replay:
            lanes.append(
                self._lane(f"old-{number}", REPLAY, replay, scenario.replay, checkpoint, clock)
            )
        if scenario.until_s is not None:
            loop = asyncio.get_running_loop()
            for lane in lanes:
                loop.call_later(max(0.0, scenario.until_s - loop.time()), lane.stop)
        try:
            async with scheduler.running(), asyncio.TaskGroup() as tasks:
                others = [tasks.create_task(each.run()) for each in lanes[1:]]
                await lanes[0].run()
                for lane in lanes[1:]:
                    lane.stop()
                await asyncio.gather(*others)
        finally:
            self._result.calls += sum(each.calls for each in scheduler.queues)
            self._result.hedges += scheduler.caller.hedged
            self._result.booked += ledger.spent.total()
            checkpoint.close()

    def _lane(
        self,
        name: str,
        lane: str,
        queue: Queue,
        arrivals: Arrivals,
        checkpoint: Checkpoint,
        clock: LoopClock,
    ) -> Lane:
        note = self._note_live if lane == LIVE else self._note_replayed
        flow = self._settings.flow
        return Lane(
            source=SimulatedSource(name, arrivals),
            work=SimulatedWork(queue, note),
            checkpoint=checkpoint,
            credit=Credit(flow.items, round(flow.mib * 2**20), clock, queue.affordable),
            clock=clock,
            settings=self._settings,
            name=lane,
        )

    def _policy(self, adaptive: Policy) -> Policy:
        """The adaptive policy, also for batches beyond a payload, or the fixed one on its terms."""
        if not isinstance(adaptive, Adaptive):
            return adaptive
        adaptive.limits = replace(adaptive.limits, items=self._scenario.batch)
        if self._scenario.fixed is None:
            return adaptive
        items, max_age_s = self._scenario.fixed
        return Fixed(
            adaptive.durations,
            adaptive.tariff,
            adaptive.limits,
            adaptive.target,
            adaptive.deadline_s,
            fixed_items=items,
            max_age_s=max_age_s,
        )

    def _note_live(self, settled: Sequence[Settled]) -> None:
        result, now = self._result, EPOCH + asyncio.get_running_loop().time()
        result.settled += len(settled)
        for came, some in groupby(settled, key=_arrival):
            age_s, count = now - came, sum(1 for _ in some)
            result.ages.add(age_s, count)
            result.by_window[int((came - EPOCH) // WINDOW_S)].add(age_s, count)
            result.oldest_s = max(result.oldest_s, age_s)

    def _note_replayed(self, settled: Sequence[Settled]) -> None:
        self._result.replayed += len(settled)

    async def _sample(self) -> None:
        arrivals = self._scenario.arrivals
        came = np.cumsum(arrivals.counts)
        while True:
            await asyncio.sleep(WINDOW_S)
            now = asyncio.get_running_loop().time()
            here = int(np.searchsorted(arrivals.times, now, side="right"))
            queues = [each.queues[0] for each in self._schedulers.values()]
            self._result.series.append(
                {
                    "time_s": now,
                    "backlog": int(came[here - 1] if here else 0) - self._result.settled,
                    "spent_usd": self._result.truth.spent / DOLLAR,
                    "batch_items": max(each.policy.size().items for each in queues),
                    "at_workers": sum(each.at_workers for each in queues),
                    "replayed": self._result.replayed,
                }
            )
            if self._watch:
                self._watch(now / max(1.0, arrivals.last_s), self._result)


def _arrival(settled: Settled) -> float:
    return settled[0].delivery.received
