r"""The work of a lane: from a delivery to a stored answer.

identify -> resolve -------------------------------> writer -> settle
                \-> queue -> scheduler -> workers ----^
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from structlog.contextvars import bind_contextvars, unbind_contextvars

from dispatcher.books import Outcome
from dispatcher.calls.queue import Queue
from dispatcher.calls.scheduler import Scheduler
from dispatcher.calls.triage import Reply
from dispatcher.conclusions import Conclusion
from dispatcher.custody import Settled
from dispatcher.errands import Errand, Identified, Question
from dispatcher.errors import BrokenStream
from dispatcher.intake import Intake
from dispatcher.lane import Settle
from dispatcher.review.desk import Desk
from dispatcher.traces.recorder import Traces
from dispatcher.writer import Writer

_LAST_S: Final = 5.0
"""For best-effort sinks, when all else is done."""


@dataclass(slots=True)
class Pipeline:
    """Everything that moves errands from the lane to the sinks.

    `listeners` are told of every settled errand (metrics, live view). `most_dead`: as many events
    in a row that cannot be read end the work. `desk`: publishes what a person has decided on.
    """

    intake: Intake
    queue: Queue
    scheduler: Scheduler
    writer: Writer
    listeners: list[Callable[[Conclusion], None]]
    most_dead: int
    traces: Traces | None = None
    desk: Desk | None = None
    _settles: dict[str, Settle] = field(default_factory=dict)
    _dead_in_a_row: int = 0
    _tasks: asyncio.TaskGroup | None = None
    _resolving: set[asyncio.Task[None]] = field(default_factory=set)
    _hurry: bool = False

    @asynccontextmanager
    async def running(self, settle: Settle) -> AsyncIterator[None]:
        """See `Work.running`."""

        def settled(conclusions: Sequence[Conclusion]) -> None:
            conclusions = [*conclusions, *self.intake.settled(conclusions)]
            self._settle(conclusions, settle)
            for listener in self.listeners:
                for each in conclusions:
                    listener(each)
            # Now, because letters are stored by now; what is counted is the order of the source.
            if self._dead_in_a_row >= self.most_dead:
                raise BrokenStream(
                    f"{self._dead_in_a_row} events in a row", "dead_letters.max_in_a_row"
                )

        self.queue.answered = self._answered
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            beside = [tasks.create_task(self.writer.run(settled))]
            if self.desk is not None:
                beside.append(tasks.create_task(self.desk.run()))
            async with self.scheduler.running():
                yield
            if self.desk is not None:
                await self.desk.finish()
            await self.writer.finish(_LAST_S)
            for each in (*beside, *self._resolving):
                each.cancel()

    def _settle(self, conclusions: Sequence[Conclusion], settle: Settle) -> None:
        """`settle`: of the lane that the pipeline runs for; those beside it have their own."""
        for lane, beside in self._settles.items():
            settle_beside = [_settled(e) for e in conclusions if e.errand.assignment.lane == lane]
            beside(settle_beside)
            conclusions = [e for e in conclusions if e.errand.assignment.lane != lane]
        settle([_settled(each) for each in conclusions])

    @contextmanager
    def beside(self, lane: str, settle: Settle) -> Iterator[None]:
        """Another lane's errands are accepted, too, while the context lasts."""
        self._settles[lane] = settle
        try:
            yield
        finally:
            del self._settles[lane]

    @property
    def resolving(self) -> int:
        """Events whose stamp is looked for."""
        return len(self._resolving)

    async def accept(self, errands: Sequence[Errand], *, strict: bool = True) -> None:
        """See `Work.accept`. `strict`: those that cannot be read count for `most_dead`."""
        try:
            for errand in errands:
                bind_contextvars(position=errand.delivery.position)
                await self._accept(errand, strict=strict)
        finally:
            unbind_contextvars("position")

    async def _accept(self, errand: Errand, *, strict: bool) -> None:
        if self.traces is not None:
            errand.trail = self.traces.begin(errand)
        found = await self.intake.identify(errand)
        if errand.trail is not None:
            errand.trail.step("decode")
        if strict:
            self._count_dead(found)
        if isinstance(found, Identified):
            # Credit bounds how many of these there are.
            self._start(self._resolve(found))
        elif found:
            self.writer.put(found)
        # Decoding is work of a millisecond without a pause: let answers come in between.
        await asyncio.sleep(0)

    def _count_dead(self, found: Identified | Conclusion | None) -> None:
        if self._dead_in_a_row < self.most_dead:  # else it is too late
            dead = isinstance(found, Conclusion) and found.outcome is Outcome.DEAD
            self._dead_in_a_row = self._dead_in_a_row + 1 if dead else 0

    def flush(self) -> None:
        """See `Work.flush`. What is being resolved will join what is waiting."""
        self.writer.hurry()
        self._hurry = True
        self._send_if_resolved()

    def _send_if_resolved(self) -> None:
        if self._hurry and not self._resolving:
            self._hurry = False
            self.queue.flush()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            raise RuntimeError("work is accepted while `running` lasts")
        task = self._tasks.create_task(work)
        self._resolving.add(task)
        task.add_done_callback(self._resolved)

    def _resolved(self, task: asyncio.Task[None]) -> None:
        self._resolving.discard(task)
        self._send_if_resolved()

    async def _resolve(self, identified: Identified) -> None:
        bind_contextvars(alert_id=identified.event.alert_id)  # the position comes with the task
        found = await self.intake.resolve(identified)
        if (trail := identified.errand.trail) is not None:
            trail.step("resolve")
        if isinstance(found, Question):
            self.queue.put(found)
        else:
            self.writer.put(found)

    def _answered(self, question: Question, reply: Reply) -> None:
        self.writer.put(self.intake.clerk.answered(question, reply))


def _settled(conclusion: Conclusion) -> Settled:
    return conclusion.errand, conclusion.outcome
