"""What is measured here: the dispatcher's own time, the ledger's, a real killed worker."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from dispatcher.calls.policy import Adaptive
from dispatcher.calls.queue import Queue
from dispatcher.calls.scheduler import Scheduler
from dispatcher.calls.sizing import Limits, Target
from dispatcher.calls.triage import Reply, Unanswerable
from dispatcher.clock import SystemClock
from dispatcher.control import open_queue, open_scheduler, tariff_of
from dispatcher.errands import Errand, Question
from dispatcher.groups import GroupRunner, Groups, Part, Replies
from dispatcher.invokers.bill import Bill
from dispatcher.invokers.local import LocalInvoker
from dispatcher.ledger.accounts import Purse, Quote, Reservation
from dispatcher.ledger.ledger import Ledger
from dispatcher.ledger.stores import open_store
from dispatcher.service import identify_model
from dispatcher.settings import Settings
from fmi.meeting.rendezvous import Rendezvous
from ingest.events import BANDS, Delivery, Event, Position, Stamp
from workers.training.render import render_galaxies
from workers.weights import find
from workers.wire import Estimate, Verdict, VerdictKind

PRICE: Final = "aws-lambda/us-east-1/x86_64"
_RATE: Final = 10_000
_TICK: Final = 50
_ESTIMATE: Final = Estimate(0.1, 0.1, 0.1, 0.09, 0.11, 0.08, 0.12, 0)
_POISONED: Final = 512


class _Instant:
    """Answers at once."""

    slots = 64

    async def ask(
        self, questions: Sequence[Question], ranks: int, deadline_s: float, *, careful: bool = False
    ) -> Replies:
        """See `Groups.ask`."""
        del ranks, deadline_s, careful
        said = {each.key: Verdict(each.key, VerdictKind.ESTIMATED, _ESTIMATE) for each in questions}
        return Replies(said, [Part(questions, Bill(20 + 3 * len(questions)))])


def settings(**more: Any) -> Settings:
    """Paid calls, under caps of all windows."""
    caps = {"minute_usd": 10, "hour_usd": 100, "night_usd": 1000, "month_usd": 9000}
    return Settings(spend={"price": PRICE, **caps}, workers={"ranks": 1}, **more)


def question(number: int, stamp: Stamp, started: float) -> Question:
    """One event."""
    delivery = Delivery(Position("bench", "0", number), b"", started)
    errand = Errand(delivery, started, None)  # type: ignore[arg-type]
    return Question(errand, Event("BENCH", number, 0.0, 0.0, "bench"), stamp, f"key-{number}")


def us_per_item(seconds: float) -> float:
    """Processor time per item of queue, scheduler, ledger and triage, at 10,000 items a second."""
    nothing = np.zeros(0, dtype=np.float32)
    stamp = Stamp(nothing, nothing, BANDS, "bench")

    async def run(folder: Path) -> float:
        chosen = settings(batch={"items": 160}, live={"objective_s": 1.0})
        scheduler, queue = _open(chosen, _Instant(), folder)
        answered, done, total = 0, asyncio.Event(), int(seconds * _RATE)

        def count(_question: Question, _reply: Reply) -> None:
            nonlocal answered
            answered += 1
            if answered == total:
                done.set()

        queue.answered = count
        questions = [question(n, stamp, 0.0) for n in range(total)]
        async with scheduler.running():
            began, spent = time.monotonic(), time.process_time()
            for start in range(0, total, _TICK):
                now = time.monotonic()
                for each in questions[start : start + _TICK]:
                    each.errand.started = now
                    queue.put(each)
                await asyncio.sleep(max(0.0, began + (start + _TICK) / _RATE - time.monotonic()))
            queue.flush()
            await done.wait()
            return 1e6 * (time.process_time() - spent) / total

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder)))


def admit_us(calls: int) -> float:
    """Of `try_reserve` and `settle`, with the embedded store: the median of batches of 100."""

    async def run(folder: Path) -> float:
        chosen = settings()
        store = open_store("ledger.sqlite", folder, "bench")
        ledger = Ledger(store, chosen.caps(), SystemClock(), "bench", ttl_s=120)
        quote, taken = Quote(8_000_000, 16_000_000, 500_000_000), []
        async with ledger.running():
            ledger.try_reserve(Purse.LIVE, quote, 100)  # has it lease money
            await asyncio.sleep(0.2)
            for _ in range(calls // 100):
                began, done = time.perf_counter(), 0
                for _ in range(100):
                    reservation = ledger.try_reserve(Purse.LIVE, quote, 100)
                    if isinstance(reservation, Reservation):
                        ledger.settle(reservation, quote.expected)
                        done += 1
                if done == 100:
                    taken.append(1e6 * (time.perf_counter() - began) / 100)
                await asyncio.sleep(0.001)
        return median(taken)

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder)))


def _open(chosen: Settings, groups: Groups, folder: Path) -> tuple[Scheduler, Queue]:
    scheduler, durations = open_scheduler(
        chosen,
        groups,
        folder,
        SystemClock(),
        "bench",
        random.Random(1),  # noqa: S311
    )
    return scheduler, open_queue(scheduler, durations, chosen, Purse.LIVE)


def poison(places: Sequence[int]) -> dict[str, float]:
    """A batch of 512 with one item that kills its worker: real workers, the shipped model.

    Calls beyond those of a batch that nothing disturbs, and the dollars (at the price of Lambda) of
    all after the first, to those of such a batch: the worst of all places, without and with the
    start-up of the workers that were killed.
    """
    rendered = render_galaxies(16, seed=5, size=32)
    stamps = [
        Stamp(image, magnitudes, BANDS, "rendered")
        for image, magnitudes in zip(rendered.images, rendered.magnitudes, strict=True)
    ]
    return asyncio.run(_poison(stamps, places))


async def _poison(stamps: Sequence[Stamp], places: Sequence[int]) -> dict[str, float]:
    chosen = settings(batch={"items": 160})
    model = identify_model(chosen.workers.weights)
    invoker = LocalInvoker(
        2,
        {"LOOKBACK_WEIGHTS": str(find(chosen.workers.weights).resolve())},
        handler="benchmarks.control.poisoned.handler",
    )
    rendezvous = Rendezvous()
    await rendezvous.start()
    await invoker.open()
    groups = GroupRunner(invoker, rendezvous, model, "bench")
    try:
        await _once(groups, chosen, stamps, None)  # warm
        calm = [await _once(groups, chosen, stamps, None) for _ in range(2)]
        if any(calls != 1 for calls, *_ in calm):
            raise RuntimeError(
                f"undisturbed batches took {[calls for calls, *_ in calm]} calls, not 1"
            )
        one_batch = min(first for *_, first in calm)
        found = [await _once(groups, chosen, stamps, place) for place in places]
    finally:
        await invoker.close()
        await rendezvous.close()
    return {
        "poison_extra_calls": max(calls for calls, *_ in found) - 1,
        "poison_cost_ratio": max(warm / one_batch for _, warm, _, _ in found),
        "poison_cost_ratio_with_cold": max(cold / one_batch for _, _, cold, _ in found),
    }


async def _once(
    groups: GroupRunner, chosen: Settings, stamps: Sequence[Stamp], place: int | None
) -> tuple[int, int, int, int]:
    """A batch of 512 to its end: how many calls, and pico-dollars.

    Of all calls after the first without and with start-ups, and of the first.
    """
    watched, tariff = _Watched(groups), tariff_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        scheduler, queue = _open(chosen, watched, Path(folder))
        policy = queue.policy
        if not isinstance(policy, Adaptive):
            raise TypeError("the poison is looked for in one batch, whose size is set here")
        policy.limits = Limits(_POISONED, 60.0, 1, True)
        policy.target = Target(60.0, overhead=None)  # as large as it can be: one batch
        for _ in range(4):
            queue.policy.learn(_POISONED, 1.4, 0.0)
        replies: dict[str, Reply] = {}
        done = asyncio.Event()

        def answered(each: Question, reply: Reply) -> None:
            if each.key in replies:
                raise RuntimeError(f"{each.key} was answered twice")
            replies[each.key] = reply
            if len(replies) == _POISONED:
                done.set()

        queue.answered = answered
        async with scheduler.running():
            now = time.monotonic()
            for number in range(_POISONED):
                stamp = stamps[number % len(stamps)]
                if number == place:
                    bad = np.full_like(stamp.magnitudes, 99.0)
                    stamp = Stamp(stamp.image, bad, BANDS, "rendered")
                queue.put(question(number, stamp, now))
            queue.flush()
            await done.wait()
    dead = [key for key, each in replies.items() if isinstance(each, Unanswerable)]
    if dead != ([] if place is None else [f"key-{place}"]):
        raise RuntimeError(f"dead are {dead}, poisoned was {place}")
    warm = [tariff.charge(each.billed_ms - each.init_ms) for each in watched.bills]
    cold = [tariff.charge(each.billed_ms) for each in watched.bills]
    return len(warm), sum(warm[1:]), sum(cold[1:]), warm[0]


class _Watched:
    """Notes the bills."""

    def __init__(self, groups: GroupRunner) -> None:
        self._groups, self.bills = groups, list[Bill]()

    @property
    def slots(self) -> int:
        """See `Groups.slots`."""
        return self._groups.slots

    async def ask(
        self, questions: Sequence[Question], ranks: int, deadline_s: float, *, careful: bool = False
    ) -> Replies:
        """See `Groups.ask`."""
        replies = await self._groups.ask(questions, ranks, deadline_s, careful=careful)
        for part in replies.parts:
            if part.bill is None:
                raise RuntimeError("a call has no bill, so its dollars are not known")
            self.bills.append(part.bill)
        return replies
