"""The lane: follows one source until it ends or until told to stop.

    source -> take -> custody -> work -> settle -> commit
                ^- credit <----------------'

Credit is taken before an event is fetched and comes back when it is settled, so what is in memory
is bounded whatever the source, the workers or the sinks do. What is done with an event is the
work's business (`pipeline`); the lane sees to it that every delivery is settled exactly once, that
only settled ones are committed, and that partitions come and go without loss.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from dispatcher.books import Outcome, Totals
from dispatcher.checkpoint import LIVE, Checkpoint
from dispatcher.clock import Clock
from dispatcher.credit import Credit
from dispatcher.custody import Custody, Settled
from dispatcher.deadline import Deadline
from dispatcher.errands import Errand
from dispatcher.errors import BrokenStream, NoRoomForState
from dispatcher.health.pulse import Doing, Pulse
from dispatcher.settings import Settings
from dispatcher.sources import Lagging
from dispatcher.tracker import PartitionTracker, ReceiptTracker, Tracker
from ingest.errors import SourceUnavailable
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources import Source

_IDLE_S: Final = 0.05  # between looks at a source that has nothing right now
_FINISHING: Final = 0.7  # share of the time of a revoke; the rest is for the commit
_LAST_TRIES: Final = 3
_LAST_WAIT_S: Final = 1.0

_log = structlog.get_logger()

Settle = Callable[[Sequence[Settled]], None]
Committed = Callable[[Collection[Partition], float], None]


def nobody_waits(partitions: Collection[Partition], as_of: float) -> None:
    """A `Committed` that does nothing."""


class Work(Protocol):
    """What is done with errands, between taking and settling."""

    def running(self, settle: Settle) -> AbstractAsyncContextManager[Any]:
        """Be ready for errands while the context lasts; `settle` is told of those that are done.

        What goes wrong in the work ends the context with its error.
        """

    async def accept(self, errands: Sequence[Errand]) -> None:
        """Begin with these; returns when more may come. Never raises for bad input."""

    def flush(self) -> None:
        """Nothing will join what is forming: send it."""


@dataclass(slots=True)
class Lane:
    """One source, one work, and the custody between them.

    `committed` is told of every commit: what was settled in these partitions before that time
    (monotonic seconds) will not come again.
    """

    source: Source
    work: Work
    checkpoint: Checkpoint
    credit: Credit
    clock: Clock
    settings: Settings
    name: str = LIVE
    committed: Committed = nobody_waits
    custody: Custody = field(default_factory=Custody)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    """Of this run alone."""
    pulse: Pulse = field(init=False)

    def __post_init__(self) -> None:
        self.custody.lane = self.name
        self.pulse = Pulse(self.clock)

    _stopping: bool = False
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _committing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _commits_fail: bool = False
    _stuck: tuple[Partition, int] | None = None
    _held: set[Partition] = field(default_factory=set)
    _records: dict[Partition, Progress] = field(default_factory=dict)

    async def run(self) -> None:
        """Follow the source until it is exhausted or `stop` was called, then commit.

        Raises:
            SourceError: the source cannot be opened or read.
            LaneStopped: the lane stopped itself; nothing unwritten was committed.
        """
        self._records = self.checkpoint.progress(self.name)
        try:
            await self.source.open(self)
            await self._follow()
        except ExceptionGroup as group:
            raise _cause(group) from group
        finally:
            await self._commit_last()
            await self.source.close()
            self.pulse.beat(Doing.ENDED)

    def stop(self) -> None:
        """Take nothing more, finish what is under way, commit and return."""
        self._stopping = True
        self.credit.close()

    def pause(self) -> None:
        """Take nothing more until `resume`; what is under way is finished."""
        self.credit.pause()
        self.work.flush()

    def resume(self) -> None:
        """Take again."""
        self.credit.resume()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    @property
    def doing(self) -> Doing:
        """What its loop does now."""
        held_back = self.pulse.doing is Doing.HELD
        return Doing.PAUSED if held_back and self.credit.paused else self.pulse.doing

    def totals(self) -> Totals:
        """The books as they stand."""
        return self.custody.totals()

    def unbalanced(self) -> list[Partition]:
        """Partitions whose books do not balance."""
        return self.custody.unbalanced()

    def lag_s(self) -> float:
        """How long the oldest event that is under way has been so (s); 0 when none is."""
        oldest = self.custody.oldest()
        return self.clock.monotonic() - oldest[2] if oldest else 0.0

    def lateness_s(self) -> float:
        """Age (s) of the oldest event that is under way, or that waits in the source."""
        lag = self.source.lag().values() if isinstance(self.source, Lagging) else ()
        return max(self.lag_s(), *(each.behind_s for each in lag), 0.0)

    # What the source says of its partitions (`ingest.sources.Keeper`).

    def assign(self, partition: Partition, committed: Progress | None = None) -> int:
        """See `Keeper.assign`."""
        progress = committed or self._records.get(partition) or Progress()
        tracker = self._tracker(partition, progress)
        self.custody.assign(partition, tracker, progress.outcomes)
        return progress.watermark

    def _tracker(self, partition: Partition, progress: Progress) -> Tracker:
        if self.source.ordered:
            return PartitionTracker.resume(progress)
        # A letter that is redriven for the second time is no redelivery of the first.
        seen = self.checkpoint.acknowledged(partition) if self.name == LIVE else ()
        return ReceiptTracker.resume(seen)

    async def revoke(self, partitions: Collection[Partition]) -> None:
        """See `Keeper.revoke`."""
        time_s = self.settings.kafka.revoke_s
        deadline = Deadline.after(self.clock, _FINISHING * time_s)
        while self.custody.open_in(partitions) and deadline.left():
            self._moved.clear()
            self.work.flush()
            await _wait(self._moved, deadline.left())
        try:
            async with asyncio.timeout((1 - _FINISHING) * time_s + deadline.left()):
                await self._commit(partitions)
        except TimeoutError:
            _log.warning("no commit before a revoke: what was settled last will be redone")
        finally:
            self.lose(partitions)

    def lose(self, partitions: Collection[Partition]) -> None:
        """See `Keeper.lose`."""
        self.custody.release(partitions)

    # The way of a delivery.

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as tasks, self.work.running(self.settle):
            commits = tasks.create_task(self._commit_regularly())
            await self._take_all()
            await self._drain()
            async with self._committing:  # not in the middle of a commit
                commits.cancel()

    async def _take_all(self) -> None:
        while not (self._stopping or self.source.exhausted):
            if not self.credit.has_room:
                self.work.flush()  # what waits for company is what holds the source back
            self.pulse.beat(Doing.HELD)
            granted = await self.credit.take(self.settings.flow.fetch)
            self.pulse.beat(Doing.TAKING)
            deliveries = await self.source.take(granted) if granted else []
            errands = self.custody.take(deliveries, self.clock.monotonic())
            self.credit.charge(sum(len(each.delivery.body) for each in errands))
            self.credit.give_back(granted - len(errands), 0)
            if errands:
                self.pulse.beat(Doing.ACCEPTING)
                await self.work.accept(errands)
            elif granted and not self.source.exhausted:
                await asyncio.sleep(_IDLE_S)

    def settle(self, settled: Sequence[Settled]) -> None:
        """Every sink has its row: close these errands everywhere they are open.

        Raises:
            BrokenStream: too many of them are dead.
        """
        self.custody.settle(settled)
        self.credit.give_back(len(settled), sum(len(each.delivery.body) for each, _ in settled))
        self.outcomes.update([outcome for _, outcome in settled])
        self._moved.set()
        trouble = self.too_many_dead_letters()
        if trouble and self.outcomes.total() >= self.settings.dead_letters.after:
            raise trouble

    def too_many_dead_letters(self) -> BrokenStream | None:
        """What to stop with if this run's share of dead letters is over its limit."""
        dead, settled = self.outcomes[Outcome.DEAD], self.outcomes.total()
        if dead <= self.settings.dead_letters.max_ratio * settled:
            return None
        return BrokenStream(f"{dead} of {settled} events", "dead_letters.max_ratio")

    async def _drain(self) -> None:
        """Wait until nothing is in flight; when told to stop, only for the grace period."""
        deadline: Deadline | None = None
        while self.credit.items:  # of partitions that are not ours any more, too
            self.pulse.beat(Doing.DRAINING)
            self._moved.clear()
            self.work.flush()
            if self._stopping and deadline is None:
                deadline = Deadline.after(self.clock, self.settings.flow.grace_s)
            if deadline is not None and not deadline.left():
                return  # what is open stays uncommitted and is redone by the next run
            await _wait(self._moved, min(1.0, deadline.left()) if deadline else 1.0)

    # Commits.

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sinks.commit_s)
            await self._commit()
            self._look_for_stuck()

    def _look_for_stuck(self) -> None:
        """One line for an event that has been open for very long: it holds its partition back."""
        oldest = self.custody.oldest()
        if oldest is None:
            return
        partition, offset, since = oldest
        age = self.clock.monotonic() - since
        if age > self.settings.flow.stuck_s and (partition, offset) != self._stuck:
            self._stuck = (partition, offset)
            position = f"{partition}:{offset}"
            _log.warning(
                "stuck",
                incident="stuck",
                subject=position,
                position=position,
                open_for_s=round(age),
            )

    async def _commit_last(self) -> None:
        """All partitions: a commit that was cut off at the end may have dropped some."""
        for attempt in range(_LAST_TRIES):
            self.pulse.beat(Doing.COMMITTING)
            if attempt:
                await asyncio.sleep(_LAST_WAIT_S)
            self.custody.spoil(self.custody.partitions)
            await self._commit()
            if not self._commits_fail:
                return

    async def _commit(self, partitions: Collection[Partition] | None = None) -> None:
        async with self._committing:
            as_of = self.clock.monotonic()
            progress = self.custody.progress(partitions)
            if not progress:
                return
            stays = self.custody.stays(progress)
            try:
                # The state file first: a key that is seen and not committed is only redone.
                await self.checkpoint.commit(progress, self.name)
                # A stay that ended meanwhile must not be committed by the one that came after it.
                ours = {each: progress[each] for each, stay in stays.items() if stay.ours}
                await self.source.commit(ours)
            except (SourceUnavailable, NoRoomForState) as error:
                self.custody.spoil(progress)
                self._say_that_commits_fail(str(error))
            except BaseException:
                self.custody.spoil(progress)
                raise
            else:
                self._say_that_commits_fail(None)
                self.committed(ours, as_of)
            self._hold_crowded(progress)

    def _say_that_commits_fail(self, error: str | None) -> None:
        if error and not self._commits_fail:
            _log.warning("commits fail, and are tried again", incident="commits_fail", error=error)
        elif not error and self._commits_fail:
            _log.info("commits succeed again", ended="commits_fail")
        self._commits_fail = error is not None

    def _hold_crowded(self, progress: Mapping[Partition, Progress]) -> None:
        # Of what did not move since, the last look still holds.
        ours = set(self.custody.partitions)
        held = (self.custody.crowded(progress) | (self._held - progress.keys())) & ours
        if held != self._held:
            for each in held - self._held:
                _log.warning("one event holds its partition back", partition=str(each))
            self._held = held
            self.source.hold(held)


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
