"""Time, as something that can be injected."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: `now` for what is stored, `monotonic` for durations."""

    def now(self) -> float:
        """Wall-clock time, unix seconds (UTC)."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some start."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until told otherwise: the twin for tests."""

    def __init__(self, start: float = 0.0) -> None:
        self._seconds, self._set = start, 0.0

    def now(self) -> float:
        """Seconds set so far, and what a person has set the clock to."""
        return self._seconds + self._set

    def monotonic(self) -> float:
        """Seconds set so far."""
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._seconds += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock; `monotonic` does not notice."""
        self._set += seconds
