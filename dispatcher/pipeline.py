r"""The work of a lane: from a delivery to a stored answer.

identify -> resolve -----------------------> writer -> settle
                \-> batcher -> workers ----^
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from dispatcher.batching import Batcher
from dispatcher.books import Outcome
from dispatcher.conclusions import Conclusion
from dispatcher.errands import Errand, Identified, Question
from dispatcher.errors import BrokenStream
from dispatcher.intake import Intake
from dispatcher.lane import Settle
from dispatcher.triage import Triage
from dispatcher.writer import Writer


@dataclass(slots=True)
class Pipeline:
    """Everything that moves errands from the lane to the sinks.

    `listeners` are told of every settled errand (metrics, live view). `most_dead`: as many events
    in a row that cannot be read end the work.
    """

    intake: Intake
    batcher: Batcher
    triage: Triage
    writer: Writer
    listeners: Sequence[Callable[[Conclusion], None]]
    most_dead: int
    at_workers: int = 0
    _dead_in_a_row: int = 0
    _tasks: asyncio.TaskGroup | None = None
    _resolving: set[asyncio.Task[None]] = field(default_factory=set)
    _batches: set[asyncio.Task[None]] = field(default_factory=set)

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

        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            service = [
                tasks.create_task(self.writer.run(settled)),
                tasks.create_task(self._close_by_age()),
            ]
            yield
            for each in (*service, *self._resolving, *self._batches):
                each.cancel()

    async def accept(self, errands: Sequence[Errand]) -> None:
        """See `Work.accept`."""
        for errand in errands:
            found = await self.intake.identify(errand)
            self._count_dead(found)
            if isinstance(found, Identified):
                # Credit bounds how many of these there are.
                self._start(self._resolving, self._resolve(found))
            elif found:
                self.writer.put(found)
            # Decoding is work of a millisecond without a pause: let answers come in between.
            await asyncio.sleep(0)

    def _count_dead(self, found: Identified | Conclusion | None) -> None:
        if self._dead_in_a_row < self.most_dead:  # else it is too late
            dead = isinstance(found, Conclusion) and found.outcome is Outcome.DEAD
            self._dead_in_a_row = self._dead_in_a_row + 1 if dead else 0

    def flush(self) -> None:
        """See `Work.flush`. What is being resolved will join what is forming."""
        self.writer.hurry()
        if not self._resolving:
            self._send(self.batcher.close())

    async def _resolve(self, identified: Identified) -> None:
        found = await self.intake.resolve(identified)
        if isinstance(found, Question):
            self._send(self.batcher.add(found))
        else:
            self.writer.put(found)

    def _send(self, batch: Sequence[Question] | None) -> None:
        if batch:
            self._start(self._batches, self._answer(batch))

    def _start(self, under_way: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            raise RuntimeError("work is accepted while `running` lasts")
        task = self._tasks.create_task(work)
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    async def _answer(self, batch: Sequence[Question]) -> None:
        self.at_workers += len(batch)
        async for question, reply in self.triage.settle(batch):
            self.at_workers -= 1
            self.writer.put(self.intake.clerk.answered(question, reply))

    async def _close_by_age(self) -> None:
        while True:
            due = self.batcher.due_in()
            if due is not None and due <= 0:
                self._send(self.batcher.close())
            longest = self.batcher.limits.age_s / 4
            await asyncio.sleep(due if due and due > 0 else longest)
