"""How far the true spending of a night went beyond its caps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dispatcher.ledger.accounts import Window
from dispatcher.simulate.platform import Truth

_SLIDING_S: Final = {Window.MINUTE: 60.0, Window.HOUR: 3600.0}


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that was spent in any window of a kind. Pico-dollars."""

    window: Window
    cap: int
    spent: int
    dearest: int
    """The dearest call of the night."""

    @property
    def overshoot(self) -> float:
        """Fraction of the cap that was spent beyond it; 0 when it held."""
        return max(0, self.spent - self.cap) / max(1, self.cap)

    @property
    def holds(self) -> bool:
        """Whether it went over by 1 % or one call at most, and not at all for a cap of 0."""
        return self.spent <= self.cap + (max(self.cap // 100, self.dearest) if self.cap else 0)


def peaks(truth: Truth, caps: dict[Window, int]) -> list[Peak]:
    """For each cap the dearest window, by the start or the end of calls, whichever is worse.

    Nights and months are taken for as long as the simulation: it has one of each at most.
    """
    prices = np.array(truth.price, dtype=np.int64)
    dearest = int(prices.max()) if len(prices) else 0
    found = []
    for window, cap in caps.items():
        span_s = _SLIDING_S.get(window)
        spent = (
            int(prices.sum())
            if span_s is None
            else max(
                _densest(np.array(times), prices, span_s) for times in (truth.start, truth.end)
            )
        )
        found.append(Peak(window, cap, spent, dearest))
    return found


def _densest(times: NDArray[np.float64], prices: NDArray[np.int64], span_s: float) -> int:
    if not len(times):
        return 0
    order = np.argsort(times)
    times, sums = times[order], np.concatenate([[0], np.cumsum(prices[order])])
    first = np.searchsorted(times, times - span_s, side="right")
    return int((sums[1:] - sums[first]).max())
