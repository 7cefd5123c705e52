"""Custody: which deliveries are ours to settle, and the books of every partition.

An assignment is the fence: an errand belongs to the one that it was taken under, and when that has
ended, its result is still written but never committed. Books travel with the partition: they are
part of its commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dispatcher.assignment import Assignment
from dispatcher.books import Outcome, Page, Totals, total
from dispatcher.checkpoint import LIVE
from dispatcher.errands import Errand
from dispatcher.gapmap import MAX_BYTES
from dispatcher.tracker import PartitionTracker, Tracker
from ingest.events import Delivery, Partition
from ingest.progress import Progress

_CROWDED_BYTES: Final = MAX_BYTES * 3 // 4
_CROWDED_SETTLED: Final = 50_000
"""Offsets settled above a stuck one at which no more are taken: 5 MB of memory."""


Settled = tuple[Errand, Outcome]


@dataclass(slots=True)
class Custody:
    """The assignments of one source, which `lane` follows."""

    lane: str = LIVE
    _ours: dict[Partition, Assignment] = field(default_factory=dict)

    def assign(self, partition: Partition, tracker: Tracker, outcomes: Mapping[str, int]) -> None:
        """A partition is ours from now on; `outcomes`: its books so far."""
        page = Page(outcomes=Counter({Outcome(name): n for name, n in outcomes.items()}))
        page.received = page.settled
        self.release([partition])
        self._ours[partition] = Assignment(partition, tracker, page, self.lane)

    def release(self, partitions: Iterable[Partition]) -> None:
        """They are not ours any more: nothing taken so far will be committed."""
        for each in partitions:
            if ended := self._ours.pop(each, None):
                ended.ours = False

    def take(self, deliveries: Sequence[Delivery], now: float) -> list[Errand]:
        """Take deliveries into custody; those that were settled before are passed over.

        `now`: monotonic seconds. A delivery of a partition that is not ours is dropped: whoever
        has it now reads it, too.
        """
        errands: list[Errand] = []
        for home, run in _runs(deliveries):
            if assignment := self._ours.get(home):
                errands += _taken(assignment, run, now)
        return errands

    def settle(self, settled: Iterable[Settled]) -> None:
        """Close errands: each has its answer in every sink."""
        for assignment, (offsets, outcomes) in _by_assignment(settled).items():
            assignment.page.outcomes.update(outcomes)
            assignment.tracker.settle(offsets)
            assignment.dirty = True

    def progress(
        self, partitions: Collection[Partition] | None = None
    ) -> dict[Partition, Progress]:
        """What may be committed of `partitions` (default: all), where anything changed.

        It counts as committed from now on: call `spoil` for what could not be.
        """
        changed = [
            each
            for each in self._ours.values()
            if each.dirty and (partitions is None or each.partition in partitions)
        ]
        for each in changed:
            each.dirty = False
        return {
            each.partition: each.tracker.progress(_plain(each.page.outcomes)) for each in changed
        }

    def progress_with(self, settled: Iterable[Settled]) -> dict[Partition, Progress]:
        """What could be committed if these errands were settled, for those that are still ours."""
        return {
            assignment.partition: assignment.tracker.progress(
                _plain(assignment.page.outcomes + Counter(outcomes)), offsets
            )
            for assignment, (offsets, outcomes) in _by_assignment(settled).items()
            if self._ours.get(assignment.partition) is assignment
        }

    def stays(self, partitions: Iterable[Partition]) -> dict[Partition, Assignment]:
        """The present assignments of those that are ours."""
        return {each: self._ours[each] for each in partitions if each in self._ours}

    def spoil(self, partitions: Iterable[Partition]) -> None:
        """Their commit failed: they are part of the next one again."""
        for each in partitions:
            if each in self._ours:
                self._ours[each].dirty = True

    def crowded(self, progress: Mapping[Partition, Progress]) -> set[Partition]:
        """Partitions of which no more should be taken: one position has been open for very long.

        `progress` is what is being committed: its gap maps are measured.
        """
        return {
            each.partition
            for each in self._ours.values()
            if isinstance(each.tracker, PartitionTracker)
            and (
                each.tracker.settled_above > _CROWDED_SETTLED
                or len(progress.get(each.partition, _NOTHING).gaps) > _CROWDED_BYTES
            )
        }

    def open_in(self, partitions: Collection[Partition]) -> int:
        """How many deliveries of these partitions are open."""
        return sum(self._ours[each].tracker.open_count for each in partitions if each in self._ours)

    @property
    def assignments(self) -> Sequence[Assignment]:
        """All that are ours, for those who look."""
        return list(self._ours.values())

    @property
    def partitions(self) -> list[Partition]:
        """All that are ours."""
        return list(self._ours)

    @property
    def in_flight(self) -> int:
        """How many deliveries are open."""
        return sum(each.tracker.open_count for each in self._ours.values())

    def oldest(self) -> tuple[Partition, int, float] | None:
        """The delivery that has been open for longest: partition, offset, when it was taken."""
        blockers = [
            (each.partition, *oldest)
            for each in self._ours.values()
            if (oldest := each.tracker.oldest)
        ]
        return min(blockers, key=lambda blocker: blocker[2], default=None)

    def totals(self) -> Totals:
        """The books of all partitions that are ours."""
        return total((each.page for each in self._ours.values()), self.in_flight)

    def unbalanced(self) -> list[Partition]:
        """Partitions whose own page does not balance: two errors cannot hide each other."""
        return [
            each.partition
            for each in self._ours.values()
            if each.page.received != each.page.settled + each.tracker.open_count
        ]


_NOTHING: Final = Progress()


def _taken(assignment: Assignment, run: Sequence[Delivery], now: float) -> list[Errand]:
    offsets = [each.position.offset for each in run]
    fresh = assignment.tracker.take(offsets, now)
    if fresh is not offsets:
        wanted = set(fresh)
        run = [each for each in run if each.position.offset in wanted]
    assignment.page.received += len(run)
    assignment.dirty = True
    return [Errand(each, now, assignment) for each in run]


def _runs(deliveries: Sequence[Delivery]) -> Iterator[tuple[Partition, Sequence[Delivery]]]:
    """Deliveries of one partition that stand side by side."""
    start, count = 0, len(deliveries)
    while start < count:
        source, name, _ = deliveries[start].position
        stop = start + 1
        while stop < count:
            position = deliveries[stop].position
            if position.partition != name or position.source != source:
                break
            stop += 1
        yield Partition(source, name), deliveries[start:stop]
        start = stop


def _by_assignment(
    settled: Iterable[Settled],
) -> dict[Assignment, tuple[list[int], list[Outcome]]]:
    found: dict[Assignment, tuple[list[int], list[Outcome]]] = {}
    last: Assignment | None = None
    offsets: list[int] = []
    outcomes: list[Outcome] = []
    for errand, outcome in settled:
        if errand.assignment is not last:
            last = errand.assignment
            offsets, outcomes = found.setdefault(last, ([], []))
        offsets.append(errand.delivery.position.offset)
        outcomes.append(outcome)
    return found


def _plain(outcomes: Mapping[Outcome, int]) -> dict[str, int]:
    return {outcome.value: count for outcome, count in outcomes.items()}
