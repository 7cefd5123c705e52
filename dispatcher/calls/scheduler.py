r"""The scheduler: sends what waits, live first, when it pays, where there is a worker and money.

    queue (live)    \                                                   / verdicts -> answered
    queue (replay)   > due? -> guard -> workers free? -> money? -> call
    asked again     /                                                  \ none -> triage -> again

It looks whenever something changed: a question came, a worker is free, money came back, a time is
up. What is sent is cut off the queue at that moment, so while all workers are busy a batch goes on
growing, and nothing waits behind a decision that was right some seconds ago.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dispatcher.calls import holdups, yielding
from dispatcher.calls.call import Caller
from dispatcher.calls.concurrency import Concurrency
from dispatcher.calls.guard import Guard
from dispatcher.calls.policy import Policy
from dispatcher.calls.queue import Holder, Queue
from dispatcher.calls.triage import Asking, judge
from dispatcher.clock import Clock
from dispatcher.ledger.accounts import TOTAL, Purse, Refusal, Reservation
from dispatcher.ledger.ledger import Ledger
from dispatcher.traces import calls as traces

_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 20.0
_LOOK_S: Final = 0.25
_CLOCK_STEP_S: Final = 1e-6  # a shorter time may be none to the event loop


@dataclass(slots=True)
class Scheduler:
    """Shares workers and money out among the queues. `attempts`: see `triage.judge`."""

    caller: Caller
    ledger: Ledger
    concurrency: Concurrency
    clock: Clock
    attempts: int
    jitter: random.Random
    queues: list[Queue] = field(default_factory=list)
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: asyncio.TaskGroup | None = None
    _asking: set[asyncio.Task[None]] = field(default_factory=set)

    def queue(
        self,
        lane: str,
        purse: Purse,
        policy: Policy,
        guard: Guard,
        reserve: float = 0.0,
    ) -> Queue:
        """A queue that comes after those that were made before it."""
        made = Queue(lane, purse, policy, guard, self.ledger, self._look.set, self.clock, reserve)
        self.queues.append(made)
        return made

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while the context lasts. What is at workers when it ends is given up, and paid.

        What goes wrong ends the context with its error.
        """
        async with self.ledger.running(), asyncio.TaskGroup() as tasks:
            self._tasks = self.caller.tasks = tasks
            service = [tasks.create_task(self._serve()), tasks.create_task(self._watch_money())]
            for queue in self.queues:
                service.append(tasks.create_task(self._watch(queue)))
                service.append(tasks.create_task(holdups.report(queue, self.clock)))
            try:
                yield
            finally:
                for each in (*service, *self._asking):
                    each.cancel()
                self.caller.give_up()

    async def _watch_money(self) -> None:
        frozen = self.ledger.frozen
        while True:
            await self.ledger.changed.wait()
            self.ledger.changed.clear()
            for queue in self.queues:
                if {queue.purse.value, TOTAL} & (frozen - self.ledger.frozen):
                    queue.guard.reset()  # a person has looked at it
            frozen = self.ledger.frozen
            self._look.set()

    async def _watch(self, queue: Queue) -> None:
        late_s = queue.policy.objective_s / 2
        await yielding.watch(queue, self.ledger.store, self.ledger.owner, self.clock, late_s)

    async def _serve(self) -> None:
        while True:
            self._look.clear()
            soonest = self._send_all()
            if self._look.is_set():
                continue
            try:
                async with asyncio.timeout(soonest if soonest < math.inf else None):
                    await self._look.wait()
            except TimeoutError:
                pass

    def _send_all(self) -> float:
        """Send whatever can be sent now. Returns in how many seconds to look again."""
        soonest = math.inf
        for queue in self.queues:
            while (wait := self._send_one(queue)) is None:
                pass
            soonest = min(soonest, wait)
            if queue.held in (Holder.WORKERS, Holder.MONEY):
                # Who comes later must not take what this one waits for.
                self._hold_later_than(queue)
                break
        return soonest

    def _hold_later_than(self, first: Queue) -> None:
        for queue in self.queues[self.queues.index(first) + 1 :]:
            if queue.waiting or queue.again:
                queue.hold(Holder.LIVE)

    def _send_one(self, queue: Queue) -> float | None:
        """Send the next call of a queue. None: done; else the seconds until it may be possible."""
        if queue.again:
            return self._send_again(queue, queue.again[0])
        waiting = len(queue.waiting)
        if not waiting:
            queue.hold(Holder.NOTHING)
            return math.inf
        size, age_s = queue.policy.size(), queue.oldest_s
        if waiting < size.items and not queue.hurry:
            tight = self.ledger.tight(queue.purse)
            due_s = queue.policy.due_in(waiting, age_s, tight=tight)
            if due_s > _CLOCK_STEP_S:
                queue.hold(Holder.COMPANY)
                return due_s
        items = min(waiting, size.items)
        ranks = queue.policy.ranks(items, age_s)
        if ranks > (workers := self._workers(queue)):
            # The platform has refused so many that a group of that size would wait for ever.
            ranks, items = workers, min(items, workers * queue.policy.most)
        reservation = self._permit(queue, queue.purse, items, ranks)
        if isinstance(reservation, float):
            return reservation
        asking = Asking(queue.take(items), queue.purse)
        self._start(self._ask(queue, asking, ranks, reservation))
        return None

    def _send_again(self, queue: Queue, asking: Asking) -> float | None:
        items = len(asking.questions)
        ranks = queue.policy.ranks(items, 0.0) if asking.purse is queue.purse else 1
        ranks = min(ranks, self._workers(queue))
        purse = asking.purse
        reservation = self._permit(queue, purse, items, ranks)
        if isinstance(reservation, float) and queue.held is Holder.MONEY and not queue.at_workers:
            # Its purse is a share of what the lane spends, and the lane waits for this.
            reservation = self._permit(queue, queue.purse, items, ranks)
        if isinstance(reservation, float):
            return reservation
        queue.again.popleft()
        self._start(self._ask(queue, asking, ranks, reservation))
        return None

    def _permit(self, queue: Queue, purse: Purse, items: int, ranks: int) -> Reservation | float:
        """A reservation, with the workers for it taken; or in how many seconds to look again."""
        if queue.paused:
            queue.hold(Holder.LIVE)
            return _LOOK_S
        if not queue.guard.may_send():
            queue.hold(Holder.GUARD, queue.guard.reason)
            return _LOOK_S
        if self._workers(queue) - self.concurrency.in_use < ranks:
            queue.hold(Holder.WORKERS)
            return math.inf
        quote = queue.policy.quote(items, ranks)
        reservation = self.ledger.try_reserve(purse, quote, items)
        if isinstance(reservation, Refusal):
            queue.hold(Holder.MONEY, reservation.why)
            return reservation.retry_s
        queue.guard.sending()
        self.concurrency.take(ranks)
        queue.hold(Holder.NOTHING)
        return reservation

    def _workers(self, queue: Queue) -> int:
        """How many a queue may use when nobody else does."""
        limit = self.concurrency.limit
        return max(1, limit - math.floor(queue.reserve * limit))

    async def _ask(
        self, queue: Queue, asking: Asking, ranks: int, reservation: Reservation
    ) -> None:
        count = len(asking.questions)
        for question in asking.questions:
            question.attempts += 1
        traces.sent(asking.questions)
        queue.calls += 1
        queue.at_workers += count
        try:
            replies = await self.caller.ask(queue, asking, ranks, reservation)
        finally:
            queue.at_workers -= count
        traces.answered(asking, replies)
        found = judge(asking, replies, self.attempts)
        for question, reply in found.answered:
            queue.answered(question, reply)
        for each in found.next:
            self._come_back(queue, each)
        self._look.set()

    def _come_back(self, queue: Queue, asking: Asking) -> None:
        """What is asked again goes first; what was refused, or failed alone, after a while."""
        most = queue.policy.most
        if len(asking.questions) > most and not asking.search:
            for start in range(0, len(asking.questions), most):
                part = asking.questions[start : start + most]
                self._come_back(queue, replace(asking, questions=part))
            return
        tries = asking.tries or (asking.questions[0].attempts if len(asking.questions) == 1 else 0)
        if not tries:
            queue.again.append(asking)
            return
        longest = min(_LONGEST_BACKOFF_S, _BACKOFF_S * 2**tries)
        self._start(self._after(self.jitter.uniform(0, longest), queue, asking))

    async def _after(self, delay_s: float, queue: Queue, asking: Asking) -> None:
        await asyncio.sleep(delay_s)
        queue.again.append(asking)
        self._look.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            raise RuntimeError("calls are made while `running` lasts")
        task = self._tasks.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
