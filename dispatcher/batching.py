"""Batches: items that are sent out together, closed by count, bytes or age."""

from __future__ import annotations

from dataclasses import dataclass, field

from dispatcher.clock import Clock
from dispatcher.errands import Question


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is closed: `items`, payload `bytes`, or `age_s` of its oldest item."""

    items: int
    bytes: int
    age_s: float


@dataclass(slots=True)
class Batcher:
    """The batch that is forming. Pure bookkeeping: who calls it decides when to wait."""

    limits: BatchLimits
    item_bytes: int
    clock: Clock
    _forming: list[Question] = field(default_factory=list)
    _oldest: float = 0.0

    def add(self, question: Question) -> list[Question] | None:
        """Put an item in; returns the batch if that closed it."""
        if not self._forming:
            self._oldest = self.clock.monotonic()
        self._forming.append(question)
        if len(self._forming) >= min(self.limits.items, self.limits.bytes // self.item_bytes):
            return self.close()
        return None

    def close(self) -> list[Question] | None:
        """Close what is forming, whatever its size; None when there is nothing."""
        batch, self._forming = self._forming, []
        return batch or None

    def due_in(self) -> float | None:
        """Seconds until the forming batch is too old (<= 0: close it); None when empty."""
        if not self._forming:
            return None
        return self._oldest + self.limits.age_s - self.clock.monotonic()
