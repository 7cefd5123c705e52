"""One call to the workers: asked, hedged where it is far too late, paid, learnt from."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from dispatcher.calls.concurrency import Concurrency
from dispatcher.calls.queue import Queue
from dispatcher.calls.triage import Asking
from dispatcher.errors import LaneStopped, Refused, Throttled
from dispatcher.groups import Groups, Part, Replies
from dispatcher.ledger.accounts import Purse, Reservation
from dispatcher.ledger.ledger import Ledger
from dispatcher.ledger.prices import Tariff
from workers.wire import VerdictKind

_IN_A_ROW: Final = 10
_log = structlog.get_logger()


@dataclass(slots=True)
class Caller:
    """Makes calls. Whoever calls has reserved the money and taken the workers.

    `hedges`: whether a live call that is far too late may be made a second time. The first one
    cannot be stopped, and costs what it costs: so that is rare, and has its own purse.
    """

    groups: Groups
    ledger: Ledger
    concurrency: Concurrency
    tariff: Tariff
    deadline_s: float
    hedges: bool = True
    hedged: int = 0
    won: int = 0
    """Hedges that answered first."""
    tasks: asyncio.TaskGroup | None = None
    """Who waits for attempts that nobody else waits for any more."""
    _refused: int = 0
    """Calls in a row that the platform has refused."""
    _under_way: set[asyncio.Task[Replies]] = field(default_factory=set)

    async def ask(
        self, queue: Queue, asking: Asking, ranks: int, reservation: Reservation
    ) -> Replies:
        """Ask, and pay. What a hedge finds first counts; what comes later is only paid.

        Raises:
            LaneStopped: no call will be taken before a person mends something.
        """
        first = self._start(self._attempt(queue, asking, ranks, reservation))
        if not self.hedges or asking.purse is not Purse.LIVE or asking.careful:
            return await first
        patience_s = queue.policy.patience_s(-(-len(asking.questions) // ranks))
        if patience_s >= self.deadline_s:
            return await first
        await asyncio.wait({first}, timeout=patience_s)
        second = await self._hedge(queue, asking, ranks, first)
        if second is None:
            return await first
        done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        winner = first if first in done else second
        if _all_said(asking, winner.result()):
            self.won += winner is second
            return winner.result()
        return await (second if winner is first else first)

    async def _hedge(
        self, queue: Queue, asking: Asking, ranks: int, first: asyncio.Task[Replies]
    ) -> asyncio.Task[Replies] | None:
        """A second call, while the first is under way; None if there is no worker or money."""
        items = len(asking.questions)
        quote = queue.policy.quote(items, ranks)
        while True:
            if first.done() or self.concurrency.free() < ranks:
                return None
            reservation = self.ledger.try_reserve(Purse.HEDGE, quote, items)
            if isinstance(reservation, Reservation):
                break
            if reservation.account is not None:
                return None
            await asyncio.wait({first}, timeout=reservation.retry_s)  # the ledger is asking
        self.concurrency.take(ranks)
        self.hedged += 1
        again = Asking(asking.questions, Purse.HEDGE)
        return self._start(self._attempt(queue, again, ranks, reservation))

    def _start(self, attempt: Coroutine[Any, Any, Replies]) -> asyncio.Task[Replies]:
        if self.tasks is None:
            raise RuntimeError("calls are made while the scheduler runs")
        task = self.tasks.create_task(attempt)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def give_up(self) -> None:
        """Wait for nothing that is still under way: it is paid as it was reserved."""
        for task in self._under_way:
            task.cancel()

    async def _attempt(
        self, queue: Queue, asking: Asking, ranks: int, reservation: Reservation
    ) -> Replies:
        try:
            replies = await self.groups.ask(
                asking.questions, ranks, self.deadline_s, careful=asking.careful
            )
        except BaseException:
            self.ledger.settle(reservation, None)  # it was sent: it will be billed
            raise
        finally:
            self.concurrency.give_back(ranks)
        self._settle(queue, asking, replies, reservation)
        return replies

    def _settle(
        self, queue: Queue, asking: Asking, replies: Replies, reservation: Reservation
    ) -> None:
        parts, items = replies.parts, len(asking.questions)
        throttled = [part.lost for part in parts if isinstance(part.lost, Throttled)]
        if throttled:
            self.concurrency.throttled()
        self._tell_of_refusals(throttled, len(parts))
        if not any(_costs(part) for part in parts):
            self.ledger.release(reservation)
        else:
            costs = [
                self._cost(part, reservation.amount * len(part.questions) // items)
                for part in parts
            ]
            sure = all(part.bill and part.bill.certain for part in parts if _costs(part))
            cost = self.ledger.settle(reservation, sum(costs), assumed=not sure)
            for part, amount in zip(parts, costs, strict=True):
                _charge(part, amount)
            self._note(queue, asking, replies, costs, cost)
        for part in parts:
            if isinstance(part.lost, Refused):
                raise LaneStopped(str(part.lost))

    def _tell_of_refusals(self, throttled: Sequence[Throttled], ranks: int) -> None:
        """One line when nothing but refusals comes back, and one when that is over."""
        if len(throttled) < ranks:
            if self._refused >= _IN_A_ROW:
                _log.warning(
                    "the platform takes calls again",
                    ended="platform_refuses",
                    refused=self._refused,
                )
            self._refused = 0
            return
        self._refused += 1
        if self._refused == _IN_A_ROW:
            _log.warning(
                "the platform refuses all calls, so nothing is answered",
                incident="platform_refuses",
                refused=self._refused,
                why=str(throttled[0]),
                advice="see how many it may run: `lookback functions show` (0 is the kill switch)",
            )

    def _note(
        self, queue: Queue, asking: Asking, replies: Replies, costs: Sequence[int], cost: int
    ) -> None:
        parts = replies.parts
        whole = all(_costs(part) for part in parts) and not asking.careful
        queue.guard.note(
            cost=cost,
            results=sum(
                each.kind is not VerdictKind.TRY_AGAIN for each in replies.verdicts.values()
            ),
            expected=queue.policy.quote(len(asking.questions), len(parts)).expected,
            failed_cost=sum(amount for part, amount in zip(parts, costs, strict=True) if part.lost),
            ratio=self._learn(queue, parts) if whole else None,
        )

    def _cost(self, part: Part, reserved: int) -> int:
        if not _costs(part):
            return 0
        if part.bill is None:
            return reserved
        objects = self.tariff.objects(part.bill.writes, part.bill.reads)
        return self.tariff.charge(part.bill.billed_ms) + objects

    def _learn(self, queue: Queue, parts: Sequence[Part]) -> float | None:
        """Teach the policy; returns measured to predicted duration, of the slowest rank."""
        bills = [part.bill for part in parts if part.bill and not part.lost]
        if len(bills) < len(parts):
            return None
        slowest = max(bills, key=lambda bill: bill.billed_ms - bill.init_ms)
        # Whole milliseconds: a call that took none would be infinitely fast.
        seconds = max(1, slowest.billed_ms - slowest.init_ms) / 1000
        cold_s = max(bill.init_ms for bill in bills) / 1000
        items = max(len(part.questions) for part in parts)
        ratio = queue.policy.ratio(items, seconds)
        queue.policy.learn(items, seconds, cold_s)
        self.concurrency.answered(ratio, len(parts))
        return ratio


def _costs(part: Part) -> bool:
    """Whether it has a bill, or may get one."""
    return bool(part.bill) or part.lost is None or part.lost.ran


def _all_said(asking: Asking, replies: Replies) -> bool:
    return all(each.key in replies.verdicts for each in asking.questions)


def _charge(part: Part, amount: int) -> None:
    """Every item of a partition bears the same share of what it cost, answered or not."""
    each, rest = divmod(amount, len(part.questions))
    for question in part.questions:
        question.cost += each
    part.questions[0].cost += rest
