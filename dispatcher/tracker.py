"""Which positions of a partition are open, and how far it may be committed.

Work completes out of order. In a partition with order a commit is a watermark, the lowest position
that is still open, with a gap map of what is settled above it. In one without (a queue), every
position is acknowledged by itself. Both keep only what is in flight or not yet committed, so memory
does not follow how much was ever read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import lt
from typing import Final, Protocol

from dispatcher import gapmap
from ingest.progress import Progress

REMEMBERED: Final = 20_000
"""Settled messages that a partition without order remembers."""


class Tracker(Protocol):
    """The open offsets of one partition."""

    @property
    def open_count(self) -> int:
        """How many offsets were taken and not settled."""

    @property
    def oldest(self) -> tuple[int, float] | None:
        """The offset that holds the partition back, and when it was taken; None if none is open."""

    def take(self, offsets: Sequence[int], now: float) -> Sequence[int]:
        """Note that `offsets` were read at `now` (monotonic s); returns those that are open now.

        The others were settled before: pass them over.

        Raises:
            ValueError: the source broke its promise: an offset is open, or out of order.
        """

    def settle(self, offsets: Collection[int]) -> None:
        """Note that these have their answer in every sink. Exactly once per taken offset.

        Raises:
            ValueError: one is not open.
        """

    def progress(self, outcomes: Mapping[str, int], also: Iterable[int] = ()) -> Progress:
        """What may be committed now; `also`: as if these open offsets were settled."""


@dataclass(slots=True)
class PartitionTracker:
    """Of a partition with order: offsets are taken in rising order."""

    watermark: int = 0
    _order: deque[int] = field(default_factory=deque)  # all from the lowest open one on
    _open: dict[int, float] = field(default_factory=dict)
    _settled: set[int] = field(default_factory=set)
    _next: int = 0

    @classmethod
    def resume(cls, progress: Progress) -> PartitionTracker:
        """A tracker that knows what was settled before."""
        settled = gapmap.decode(progress.watermark, progress.gaps)
        return cls(progress.watermark, _settled=settled, _next=progress.watermark)

    @property
    def open_count(self) -> int:
        """See `Tracker.open_count`."""
        return len(self._open)

    @property
    def oldest(self) -> tuple[int, float] | None:
        """See `Tracker.oldest`."""
        return (self._order[0], self._open[self._order[0]]) if self._order else None

    @property
    def settled_above(self) -> int:
        """How many are settled above the watermark: what a stuck position makes grow."""
        return len(self._settled)

    def take(self, offsets: Sequence[int], now: float) -> Sequence[int]:
        """See `Tracker.take`. All at once: this is on the way of every event."""
        if not offsets:
            return offsets
        if offsets[0] < self._next or not all(map(lt, offsets, offsets[1:])):
            raise ValueError(f"{offsets[0]} to {offsets[-1]} are not in order from {self._next} on")
        self._next = offsets[-1] + 1
        self._order.extend(offsets)
        if not self._settled.isdisjoint(offsets):
            offsets = [each for each in offsets if each not in self._settled]
        self._open.update(dict.fromkeys(offsets, now))
        self._advance()  # over what was settled before, and the holes of a compacted topic
        return offsets

    def settle(self, offsets: Collection[int]) -> None:
        """See `Tracker.settle`."""
        open_ = self._open
        try:
            for offset in offsets:
                del open_[offset]
        except KeyError as error:
            raise ValueError(f"offset {error} is not open: it would be settled twice") from error
        self._settled.update(offsets)
        self._advance()

    def progress(self, outcomes: Mapping[str, int], also: Iterable[int] = ()) -> Progress:
        """See `Tracker.progress`."""
        settled = self._settled.union(also)
        watermark = next((each for each in self._order if each not in settled), self._next)
        # What a compacted topic no longer has is never taken: it drops out here. The watermark
        # itself may be settled, by an earlier stay, when it is the next to be taken.
        above = {each for each in settled if each >= watermark}
        if not also:
            self._settled = above
        return Progress(watermark, gapmap.encode(watermark, above), outcomes)

    def _advance(self) -> None:
        order, open_ = self._order, self._open
        if not open_:
            self._settled.difference_update(order)
            order.clear()
            self.watermark = self._next
            return
        while order[0] not in open_:
            self._settled.discard(order.popleft())
        self.watermark = order[0]


@dataclass(slots=True)
class ReceiptTracker:
    """Of a partition without order: each offset stands for one message.

    A message may be delivered again after it was settled: its acknowledgement was lost in a crash.
    The last settled ones are remembered, so that it is acknowledged again and not redone.
    """

    _open: dict[int, float] = field(default_factory=dict)  # in the order of taking
    _settled: list[int] = field(default_factory=list)
    _recent: dict[int, None] = field(default_factory=dict)

    @classmethod
    def resume(cls, settled: Iterable[int]) -> ReceiptTracker:
        """A tracker that knows what was settled last."""
        return cls(_recent=dict.fromkeys(settled))

    @property
    def open_count(self) -> int:
        """See `Tracker.open_count`."""
        return len(self._open)

    @property
    def oldest(self) -> tuple[int, float] | None:
        """See `Tracker.oldest`."""
        return next(iter(self._open.items()), None)

    def take(self, offsets: Sequence[int], now: float) -> Sequence[int]:
        """See `Tracker.take`."""
        fresh = [each for each in offsets if each not in self._recent]
        self._settled += (each for each in offsets if each in self._recent)
        for offset in fresh:
            if offset in self._open:
                raise ValueError(f"message {offset} is open: a source delivers it once at a time")
            self._open[offset] = now
        return fresh

    def settle(self, offsets: Collection[int]) -> None:
        """See `Tracker.settle`."""
        for offset in offsets:
            if self._open.pop(offset, None) is None:
                raise ValueError(f"message {offset} is not open: it would be settled twice")
            self._settled.append(offset)
            self._recent[offset] = None
            if len(self._recent) > REMEMBERED:
                del self._recent[next(iter(self._recent))]

    def progress(self, outcomes: Mapping[str, int], also: Iterable[int] = ()) -> Progress:
        """See `Tracker.progress`. What it names once, it does not name again."""
        settled, self._settled = self._settled, []
        return Progress(outcomes=outcomes, settled=(*settled, *also))
