"""One deadline, shared by every step that has to fit into it."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcher.clock import Clock


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock by which all steps together must be done."""

    clock: Clock
    at: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(clock, clock.monotonic() + seconds)

    def left(self) -> float:
        """Seconds that are left, never negative."""
        return max(0.0, self.at - self.clock.monotonic())
