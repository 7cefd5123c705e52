"""How long a call takes: duration(n) = b + a·n, learnt from bills.

The line goes through medians (Theil-Sen), so a straggler among twenty does not move it. How far
calls stay from it is kept as quantiles of measured over predicted. What a cold start adds is kept
apart. When the function has changed its pace, what was learnt before is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

_REFIT: Final = 16
_FIRST_REFITS: Final = 4
_PAIRED: Final = 64  # observations of which all pairs are looked at: 2,016 slopes
_SPREAD: Final = 1.5  # largest to smallest n from where on they tell a slope
_CHANGED: Final = 1.5  # median ratio of the latest calls at which the pace is another one
_FOR_P99: Final = 100
_SLOWEST: Final = 1e-9
_FARTHEST: Final = 1000.0  # times what was predicted; long before it, the deadline ends a call
_SHORTEST_S: Final = 0.001  # what is billed at least; no line goes through a call of no time


@dataclass(frozen=True, slots=True)
class Fit:
    """The line for a warm worker: seconds for n items are `base_s` + `per_item_s` · n.

    `p95`, `p99`: measured over predicted that 95 and 99 calls of 100 stay below. `observations`:
    how many it is from; `largest`: most items in one of them, 0 for none. `cold_s`: what a cold
    start adds (95 of 100 stay below), `cold_share`: of recent calls.
    """

    base_s: float
    per_item_s: float
    p95: float
    p99: float
    observations: int
    largest: int
    cold_s: float
    cold_share: float

    def predict(self, items: int) -> float:
        """Seconds that a warm worker takes."""
        return self.base_s + self.per_item_s * items

    def p95_s(self, items: int) -> float:
        """Seconds that 95 of 100 calls stay below."""
        return self.p95 * self.predict(items)

    def p99_s(self, items: int) -> float:
        """Seconds that 99 of 100 calls stay below, cold ones too if there are as many."""
        cold_s = self.cold_s if self.cold_share > _ONE_OF_100 else 0.0
        return self.p99 * self.predict(items) + cold_s


_ONE_OF_100: Final = 0.01

PRIOR: Final = Fit(0.02, 0.0027, 1.3, 2.0, 0, 80, 1.5, 0.05)
"""The shipped model on one core of this decade, which takes batches of 80 easily; the first calls
correct it."""


class Durations:
    """Learns a `Fit`, from a `prior` that counts until there is enough to go by."""

    def __init__(self, prior: Fit, window: int = 256) -> None:
        self._prior = prior
        self._fit = prior
        self._seen: deque[tuple[int, float]] = deque(maxlen=window)
        self._cold: deque[float] = deque(maxlen=window)
        self._count = prior.observations
        self._largest = prior.largest
        self._since_fit = 0

    @property
    def fit(self) -> Fit:
        """What is known. The same object until something else is."""
        return self._fit

    def observe(self, items: int, seconds: float, cold_s: float = 0.0) -> None:
        """A worker took `seconds` for `items`, and `cold_s` to start before that."""
        self._seen.append((items, max(seconds, _SHORTEST_S)))
        self._cold.append(cold_s)
        self._count += 1
        self._largest = max(self._largest, items)
        self._since_fit += 1
        few = len(self._seen) <= _FIRST_REFITS * 2
        if self._since_fit >= (1 if few else _REFIT) or self._largest > self._fit.largest:
            self._since_fit = 0
            self._fit = self._refit()

    def _refit(self) -> Fit:
        base_s, per_item_s = self._line(list(self._seen))
        ratios = self._ratios(base_s, per_item_s)
        latest = float(np.median(ratios[-_REFIT:]))
        if len(ratios) > 2 * _REFIT and not 1 / _CHANGED < latest < _CHANGED:
            for _ in range(len(self._seen) - _REFIT):
                self._seen.popleft()
            base_s, per_item_s = self._line(list(self._seen))
            ratios = self._ratios(base_s, per_item_s)
        p95, p99 = self._tails(ratios)
        cold = sorted(each for each in self._cold if each)
        return Fit(
            base_s,
            per_item_s,
            p95,
            p99,
            self._count,
            self._largest,
            float(np.quantile(cold, 0.95)) if cold else self._prior.cold_s,
            len(cold) / len(self._cold),
        )

    def _line(self, seen: Sequence[tuple[int, float]]) -> tuple[float, float]:
        items = np.array([each[0] for each in seen], dtype=float)
        seconds = np.array([each[1] for each in seen])
        if len(seen) < _FIRST_REFITS or items.max() < _SPREAD * items.min():
            # One size tells no slope: the pace is another, the shape is taken for the same.
            known = self._prior.base_s + self._prior.per_item_s * items
            pace = max(float(np.median(seconds / np.maximum(known, _SLOWEST))), _SLOWEST)
            return self._prior.base_s * pace, self._prior.per_item_s * pace
        return (
            _theil_sen(items[-_PAIRED:], seconds[-_PAIRED:])
            or _theil_sen(items, seconds)
            or (
                0.0,
                max(float(np.median(seconds / items)), _SLOWEST),
            )
        )

    def _ratios(self, base_s: float, per_item_s: float) -> NDArray[np.float64]:
        seen = np.array(self._seen)
        return np.asarray(seen[:, 1] / np.maximum(base_s + per_item_s * seen[:, 0], _SLOWEST))

    def _tails(self, ratios: NDArray[np.float64]) -> tuple[float, float]:
        tails = np.clip(np.quantile(ratios, (0.95, 0.99)), 1.0, _FARTHEST)
        p95, p99 = (float(each) for each in tails)
        known = min(1.0, len(ratios) / _FOR_P99)
        return (
            known * p95 + (1 - known) * max(p95, self._prior.p95),
            known * p99 + (1 - known) * max(p99, self._prior.p99),
        )

    def to_json(self) -> dict[str, Any]:
        """What a next run begins with."""
        return asdict(self._fit)

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Self:
        """Begin with what a former run has learnt.

        Raises:
            TypeError, ValueError: it was not.
        """
        fit = Fit(**known)
        numbers = (fit.base_s, fit.per_item_s, fit.p95, fit.p99, fit.cold_s, fit.cold_share)
        known_well = all(isinstance(each, int | float) and 0 <= each < 1e6 for each in numbers)
        counted = all(
            isinstance(each, int) and each >= 0 for each in (fit.observations, fit.largest)
        )
        # Sizes are quotients of these: a zero in a damaged file must not stop a run later.
        if not (known_well and counted and fit.per_item_s > 0 and min(fit.p95, fit.p99) >= 1):
            raise ValueError(f"{known} are no durations")
        return cls(fit)


def _theil_sen(
    items: NDArray[np.float64], seconds: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Base and slope through medians; None if these items are too much alike."""
    first, second = np.triu_indices(len(items), 1)
    apart = items[second] - items[first]
    far = np.abs(apart) >= max(1.0, 0.25 * float(np.ptp(items)))
    if np.ptp(items) < (_SPREAD - 1) * items.min() or not far.any():
        return None
    rise = seconds[second][far] - seconds[first][far]
    slope = max(float(np.median(rise / apart[far])), _SLOWEST)
    base = float(np.median(seconds - slope * items))
    if base < 0:
        return 0.0, max(float(np.median(seconds / items)), _SLOWEST)
    return base, slope
