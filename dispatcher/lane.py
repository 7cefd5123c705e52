r"""The lane: one source, followed until it ends or until told to stop.

The way of an event, as tasks of one group:

    take -> identify -> resolve -----------------------> writer -> settle -> commit
                              \-> batcher -> workers ----^

Credit is taken before an event is fetched and comes back when it is settled, so what is in
memory is bounded whatever the source, the workers or the sinks do. A commit stores the
watermark of every partition together with its books.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.batching import Batcher
from dispatcher.books import Books, Outcome, Totals
from dispatcher.checkpoint import Checkpoint, PartitionState
from dispatcher.clock import Clock
from dispatcher.conclusions import Conclusion
from dispatcher.credit import Credit
from dispatcher.deadline import Deadline
from dispatcher.errands import Errand, Identified, Question
from dispatcher.errors import LaneStopped
from dispatcher.intake import Intake
from dispatcher.settings import Settings
from dispatcher.tracker import PartitionTracker
from dispatcher.triage import Triage
from dispatcher.writer import Writer
from ingest.events import Delivery, Position
from ingest.sources import Source

_IDLE_S: Final = 0.05  # between looks at a source that has nothing right now


@dataclass(slots=True)
class Lane:
    """Everything that moves events from one source to the sinks.

    `on_conclusion` is called for every settled errand (metrics, live view).
    """

    source: Source
    intake: Intake
    batcher: Batcher
    triage: Triage
    writer: Writer
    checkpoint: Checkpoint
    credit: Credit
    clock: Clock
    settings: Settings
    on_conclusion: Callable[[Conclusion], None]
    at_workers: int = 0
    books: Books = field(default_factory=Books)
    _trackers: dict[str, PartitionTracker] = field(default_factory=dict)
    _open_since: dict[Position, float] = field(default_factory=dict)
    _dirty: set[str] = field(default_factory=set)
    _resolving: set[asyncio.Task[None]] = field(default_factory=set)
    _batches: set[asyncio.Task[None]] = field(default_factory=set)
    _stopping: bool = False
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _outcomes: Counter[Outcome] = field(default_factory=Counter)  # of this run alone

    async def run(self) -> None:
        """Follow the source until it is exhausted or `stop` was called, then commit.

        Raises:
            SourceError: the source cannot be opened or read.
            LaneStopped: the lane stopped itself; nothing unwritten was committed.
        """
        self._resume()
        await self.source.open(self._first_wanted)
        try:
            await self._follow()
        except ExceptionGroup as group:
            raise _cause(group) from group
        finally:
            # All partitions: a commit that was cut off at the end may have dropped some.
            self._dirty.update(self._trackers)
            await self._commit()
            await self.source.close()

    def stop(self) -> None:
        """Take nothing more, finish what is under way, commit and return."""
        self._stopping = True
        self.credit.close()

    def totals(self) -> Totals:
        """The books as they stand."""
        return self.books.totals(self._in_flight())

    def lag_s(self) -> float:
        """How long the oldest event that is under way has been so (s); 0 when none is."""
        # A dict keeps the order of insertion: the first is the oldest.
        oldest = next(iter(self._open_since.values()), None)
        return 0.0 if oldest is None else self.clock.monotonic() - oldest

    def unbalanced(self) -> list[str]:
        """Partitions whose books do not balance."""
        return self.books.unbalanced(self._in_flight())

    def _in_flight(self) -> dict[str, int]:
        return {partition: tracker.open_count for partition, tracker in self._trackers.items()}

    def _resume(self) -> None:
        states = self.checkpoint.states(self.source.name)
        self.books = Books({partition: each.outcomes for partition, each in states.items()})
        self._trackers = {
            partition: PartitionTracker.resume(each.progress) for partition, each in states.items()
        }

    def _first_wanted(self, partition: str) -> int:
        return self._tracker(partition).watermark

    def _tracker(self, partition: str) -> PartitionTracker:
        return self._trackers.setdefault(partition, PartitionTracker())

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            service = [
                tasks.create_task(self.writer.run(self._settle)),
                tasks.create_task(self._close_by_age(tasks)),
                tasks.create_task(self._commit_regularly()),
            ]
            await self._take_all(tasks)
            await self._drain(tasks)
            for each in (*service, *self._resolving, *self._batches):
                each.cancel()

    async def _take_all(self, tasks: asyncio.TaskGroup) -> None:
        while not (self._stopping or self.source.exhausted):
            granted = await self.credit.take(self.settings.flow.fetch)
            deliveries = await self.source.take(granted) if granted else []
            self.credit.charge(sum(len(each.body) for each in deliveries))
            self.credit.give_back(granted - len(deliveries), 0)
            for delivery in deliveries:
                await self._receive(tasks, delivery)
            if granted and not deliveries and not self.source.exhausted:
                await asyncio.sleep(_IDLE_S)

    async def _receive(self, tasks: asyncio.TaskGroup, delivery: Delivery) -> None:
        partition = delivery.position.partition
        if not self._tracker(partition).take(delivery.position.offset):
            self.credit.give_back(1, len(delivery.body))  # an earlier run settled it
            return
        self.books.receive(partition)
        errand = Errand(delivery, self.clock.monotonic())
        self._open_since[delivery.position] = errand.started
        found = await self.intake.identify(errand)
        if isinstance(found, Identified):
            # Credit bounds how many of these there are.
            self._start(tasks, self._resolving, self._resolve(tasks, found))
        else:
            self.writer.put(found)
        # Decoding is work of a millisecond without a pause: let answers come in between.
        await asyncio.sleep(0)

    async def _resolve(self, tasks: asyncio.TaskGroup, identified: Identified) -> None:
        found = await self.intake.resolve(identified)
        if isinstance(found, Question):
            self._send(tasks, self.batcher.add(found))
        else:
            self.writer.put(found)

    def _send(self, tasks: asyncio.TaskGroup, batch: Sequence[Question] | None) -> None:
        if batch:
            self._start(tasks, self._batches, self._answer(batch))

    def _start(
        self,
        tasks: asyncio.TaskGroup,
        under_way: set[asyncio.Task[None]],
        work: Coroutine[Any, Any, None],
    ) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            under_way.discard(task)
            self._moved.set()

        task = tasks.create_task(work)
        under_way.add(task)
        task.add_done_callback(ended)

    async def _answer(self, batch: Sequence[Question]) -> None:
        self.at_workers += len(batch)
        async for question, reply in self.triage.settle(batch):
            self.at_workers -= 1
            self.writer.put(self.intake.clerk.answered(question, reply))

    async def _close_by_age(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            due = self.batcher.due_in()
            if due is not None and due <= 0:
                self._send(tasks, self.batcher.close())
            await asyncio.sleep(due if due and due > 0 else self.settings.batch.max_age_s / 4)

    def _settle(self, conclusion: Conclusion) -> None:
        """Every sink has the row: close the errand everywhere it is open."""
        delivery = conclusion.errand.delivery
        partition = delivery.position.partition
        self._tracker(partition).settle(delivery.position.offset)
        del self._open_since[delivery.position]
        self.books.settle(partition, conclusion.outcome)
        self._dirty.add(partition)
        self._outcomes[conclusion.outcome] += 1
        self.credit.give_back(1, len(delivery.body))
        self.on_conclusion(conclusion)
        self._moved.set()
        trouble = self.too_many_dead_letters()
        if trouble and self._outcomes.total() >= self.settings.dead_letters.after:
            raise LaneStopped(trouble)

    def too_many_dead_letters(self) -> str | None:
        """A sentence if this run's share of dead letters is over its limit."""
        dead, settled = self._outcomes[Outcome.DEAD], self._outcomes.total()
        if dead <= self.settings.dead_letters.max_ratio * settled:
            return None
        return (
            f"{dead} of {settled} events became dead letters: this is a broken stream or a broken "
            f"release, not bad luck; their reasons and bytes are in {self.writer.dead_letters.name}"
            ", mend what they say and run again (dead_letters.max_ratio sets the limit)"
        )

    async def _drain(self, tasks: asyncio.TaskGroup) -> None:
        """Wait until nothing is in flight; when told to stop, only for the grace period."""
        deadline: Deadline | None = None
        while any(self._in_flight().values()):
            if not self._resolving:
                self._send(tasks, self.batcher.close())  # nothing will join it any more
            if self._stopping and deadline is None:
                deadline = Deadline.after(self.clock, self.settings.flow.grace_s)
            if deadline is not None and not deadline.left():
                return  # what is open stays uncommitted and is redone by the next run
            self._moved.clear()
            await _wait(self._moved, deadline.left() if deadline else 1.0)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sinks.commit_s)
            await self._commit()

    async def _commit(self) -> None:
        dirty, self._dirty = self._dirty, set()
        states = {
            partition: PartitionState(
                self._tracker(partition).progress(),
                Counter(self.books.page(partition).outcomes),
            )
            for partition in dirty
        }
        if states:
            await self.checkpoint.commit(self.source.name, states)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """The error that a group of tasks ended with: those after it are its consequences."""
    first = group.exceptions[0]
    return _cause(first) if isinstance(first, ExceptionGroup) else first
