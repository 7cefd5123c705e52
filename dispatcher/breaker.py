"""A circuit breaker: a destination that keeps failing is left alone, then probed.

closed -- failures in a row --> open -- cool-down --> half open -- success --> closed
                                 ^---------- failure ------'
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum

from dispatcher.clock import Clock


class State(StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Breaker:
    """Opens after `failures` in a row, for `cool_down_s` that doubles up to `longest_s`.

    The cool-down is drawn between half of it and all of it, so that many dispatchers do not come
    back to a destination at the same moment.
    """

    clock: Clock
    failures: int = 5
    cool_down_s: float = 1.0
    longest_s: float = 30.0
    jitter: random.Random = field(default_factory=random.Random)
    _in_a_row: int = 0
    _until: float = 0.0

    @property
    def state(self) -> State:
        """Where it stands now."""
        if self._in_a_row < self.failures:
            return State.CLOSED
        return State.OPEN if self.wait_s() > 0 else State.HALF_OPEN

    def wait_s(self) -> float:
        """Seconds until the next try is allowed; 0 when it is."""
        return max(0.0, self._until - self.clock.monotonic())

    def failed(self) -> None:
        """A try failed. The wait before the next grows from the first failure on."""
        self._in_a_row += 1
        if self._in_a_row < self.failures:
            longest = self.cool_down_s / 2 ** (self.failures - self._in_a_row)
        else:
            # The exponent is bounded: a sink may be down for days.
            doublings = min(self._in_a_row - self.failures, 16)
            longest = min(self.longest_s, self.cool_down_s * 2**doublings)
        self._until = self.clock.monotonic() + longest * self.jitter.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """A try succeeded."""
        self._in_a_row = 0
        self._until = 0.0
