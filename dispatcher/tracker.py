"""Which positions are open, and how far each partition may be committed.

Work completes out of order; a commit is a watermark: the lowest position that is still
open. Only the open positions and the settled ones above the watermark are kept, so memory
follows what is in flight and not how much was ever read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dispatcher import gapmap


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one partition is: all below `watermark` is settled, and what `gaps` encodes."""

    watermark: int = 0
    gaps: str = ""


@dataclass(slots=True)
class PartitionTracker:
    """The open and settled offsets of one partition. Offsets are taken in rising order."""

    watermark: int = 0
    _order: deque[int] = field(default_factory=deque)
    _open: set[int] = field(default_factory=set)
    _settled: set[int] = field(default_factory=set)
    _next: int = 0

    @classmethod
    def resume(cls, progress: Progress) -> PartitionTracker:
        """A tracker that knows what an earlier run settled."""
        settled = gapmap.decode(progress.watermark, progress.gaps)
        return cls(progress.watermark, _settled=settled, _next=progress.watermark)

    @property
    def open_count(self) -> int:
        """How many offsets were taken and not settled."""
        return len(self._open)

    def take(self, offset: int) -> bool:
        """Note that `offset` was read. False: an earlier run settled it, pass it over."""
        if offset < self._next:
            raise ValueError(f"offset {offset} was taken already (next is {self._next})")
        self._next = offset + 1
        if offset in self._settled:
            self._advance()
            return False
        self._order.append(offset)
        self._open.add(offset)
        return True

    def settle(self, offset: int) -> None:
        """Note that `offset` has its answer in every sink. Exactly once per taken offset."""
        if offset not in self._open:
            raise ValueError(f"offset {offset} is not open: it would be settled twice")
        self._open.remove(offset)
        self._settled.add(offset)
        self._advance()

    def progress(self) -> Progress:
        """What may be committed now."""
        return Progress(self.watermark, gapmap.encode(self.watermark, self._settled))

    def _advance(self) -> None:
        while self._order and self._order[0] not in self._open:
            self._order.popleft()
        watermark = self._order[0] if self._order else self._next
        # Offsets need not be dense (a compacted topic leaves holes), so walk the settled
        # set and not the numbers in between.
        if watermark > self.watermark:
            self.watermark = watermark
            self._settled = {each for each in self._settled if each >= watermark}
