"""How many workers may be used at once: follows congestion, as TCP does.

One more a round while calls succeed and workers are in demand; a third fewer when the platform
refuses, and a tenth fewer when calls grow slow together. Never faster than the platform adds
environments.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Final

from dispatcher.clock import Clock

_REFUSED: Final = 0.7
_SLOW: Final = 0.9
_SLOW_RATIO: Final = 1.5
_LOOKED_AT: Final = 20
_COOL_DOWN_S: Final = 0.5


class Concurrency:
    """A limit on workers in use, from `start` (default: all) to `most`.

    `ramp_per_s`: by how many it grows a second at most.
    """

    def __init__(
        self, most: int, clock: Clock, start: int | None = None, ramp_per_s: float = 100.0
    ) -> None:
        self.in_use = 0
        self.refusals = 0
        self._most, self._clock, self._ramp = most, clock, ramp_per_s
        self._limit = float(min(most, start or most))
        self._cut = -math.inf
        self._grown = clock.monotonic()
        self._ratios: deque[float] = deque(maxlen=_LOOKED_AT)

    @property
    def limit(self) -> int:
        """Workers that may be in use."""
        return max(1, math.floor(self._limit))

    def free(self) -> int:
        """Workers that may be taken now; negative after a cut."""
        return self.limit - self.in_use

    def take(self, workers: int) -> None:
        """They are in use."""
        self.in_use += workers

    def give_back(self, workers: int) -> None:
        """They are not any more."""
        self.in_use -= workers

    def throttled(self) -> None:
        """The platform has refused a call. Those of one moment count once."""
        self.refusals += 1
        self._shrink(_REFUSED)

    def answered(self, ratio: float, workers: int = 1) -> None:
        """A call came back; `ratio`: its duration over what was predicted."""
        self._ratios.append(ratio)
        if len(self._ratios) == _LOOKED_AT and median(self._ratios) > _SLOW_RATIO:
            self._shrink(_SLOW)
        elif ratio <= _SLOW_RATIO and 2 * (self.in_use + workers) >= self.limit:
            self._grow(workers)

    def _shrink(self, factor: float) -> None:
        now = self._clock.monotonic()
        if now - self._cut >= _COOL_DOWN_S:
            self._cut = now
            self._limit = max(1.0, factor * self._limit)
            self._ratios.clear()

    def _grow(self, workers: int) -> None:
        now = self._clock.monotonic()
        allowed = self._ramp * (now - self._grown)
        self._limit = min(self._most, self._limit + min(workers / self._limit, allowed))
        self._grown = now
