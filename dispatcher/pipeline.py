r"""The work of a lane: from a delivery to a stored answer.

identify -> resolve -------------------------------> writer -> settle
                \-> queue -> scheduler -> workers ----^
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from dispatcher.books import Outcome
from dispatcher.calls.queue import Queue
from dispatcher.calls.scheduler import Scheduler
from dispatcher.calls.triage import Reply
from dispatcher.conclusions import Conclusion
from dispatcher.errands import Errand, Identified, Question
from dispatcher.errors import BrokenStream
from dispatcher.intake import Intake
from dispatcher.lane import Settle
from dispatcher.writer import Writer


@dataclass(slots=True)
class Pipeline:
    """Everything that moves errands from the lane to the sinks.

    `listeners` are told of every settled errand (metrics, live view). `most_dead`: as many events
    in a row that cannot be read end the work.
    """

    intake: Intake
    queue: Queue
    scheduler: Scheduler
    writer: Writer
    listeners: Sequence[Callable[[Conclusion], None]]
    most_dead: int
    _dead_in_a_row: int = 0
    _tasks: asyncio.TaskGroup | None = None
    _resolving: set[asyncio.Task[None]] = field(default_factory=set)
    _hurry: bool = False

    @asynccontextmanager
    async def running(self, settle: Settle) -> AsyncIterator[None]:
        """See `Work.running`."""

        def settled(conclusions: Sequence[Conclusion]) -> None:
            conclusions = [*conclusions, *self.intake.settled(conclusions)]
            settle([(each.errand, each.outcome) for each in conclusions])
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
            writing = tasks.create_task(self.writer.run(settled))
            async with self.scheduler.running():
                yield
            for each in (writing, *self._resolving):
                each.cancel()

    async def accept(self, errands: Sequence[Errand]) -> None:
        """See `Work.accept`."""
        for errand in errands:
            found = await self.intake.identify(errand)
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
        found = await self.intake.resolve(identified)
        if isinstance(found, Question):
            self.queue.put(found)
        else:
            self.writer.put(found)

    def _answered(self, question: Question, reply: Reply) -> None:
        self.writer.put(self.intake.clerk.answered(question, reply))
