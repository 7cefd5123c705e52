"""Whether tonight's stream looks like what the model was made for.

A reference holds, for each of a dozen quantities, how the held-out rows of the training were
distributed: redshifts, widths of p(z), magnitudes, colours, flags. A monitor counts what it sees
into the same bins, forgetting slowly, and compares. It needs numpy and less than a hundredth of
the time of the estimates it watches.

An alarm is meant to be rare. Ten times a window (5,000 items) all quantities are tested, and the
chance that any of these tests finds something in a stream like the reference is 1 in 1,000 per
window: each test of each quantity is made at 0.001 / 10 / their number, which bounds the chance
however much the tests depend on one another (Bonferroni). Significance alone is not an alarm: no
night has exactly the population of the training, so a difference has to matter, too (`MATTERS`).

Many workers see one stream: their states add up (`DriftMonitor.merged`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.domain import UNUSUAL

if TYPE_CHECKING:
    from workers.estimator import Estimates

Floats = NDArray[np.floating]

WINDOW: Final = 5000
"""Items after which what was seen counts for 1 / e of what is seen now."""

MATTERS: Final = 0.05
"""Distributions that are nearer than this at every point do not set an alarm, however sure."""

FALSE_ALARMS: Final = 0.001
"""Chance of a false alarm per window."""

CHECKS: Final = 10  # per window
_BINS: Final = 20
_LEAST_ITEMS: Final = 200  # the limits below are those of large numbers
_BANDS: Final = "ugriz"
QUANTITIES: Final = (
    "z_median",
    "width",
    "flagged",
    "unusual",
    *_BANDS,
    *(f"{blue}-{red}" for blue, red in pairwise(_BANDS)),
)
"""What is watched."""
_FLOOR: Final = 1e-4  # share of an empty bin in the stability index, whose logarithm needs one

State = dict[str, Any]


def reference(estimates: Estimates, magnitudes: Floats) -> dict[str, Any]:
    """What the distributions should be, from `Estimates` of n held-out rows; goes into JSON.

    `magnitudes` [n, 5] as the model got them; a thousand rows are few, five thousand are good.
    """
    quantities = {}
    for name, values in _quantities(estimates, magnitudes).items():
        edges = _edges(values)
        counts = np.bincount(_bins(values, edges), minlength=_bin_count(len(edges)))
        quantities[name] = {"edges": edges.tolist(), "counts": counts.tolist()}
    return {"items": len(magnitudes), "quantities": quantities}


class DriftMonitor:
    """Watches the estimates of one worker, or (`merged`) those of many.

    alarm   names of the quantities that the last check found adrift; empty: none
    items   how many have been seen
    """

    def __init__(
        self, reference: Mapping[str, Any], *, window: int = WINDOW, matters: float = MATTERS
    ) -> None:
        self._window, self._matters = window, matters
        self._items_of_reference = int(reference["items"])
        self._edges: dict[str, Floats] = {}
        self._expected: dict[str, Floats] = {}
        for name, each in reference["quantities"].items():
            self._edges[name] = np.array(each["edges"], dtype=float)
            self._expected[name] = np.array(each["counts"], dtype=float)
        self._counts = {name: np.zeros(len(each)) for name, each in self._expected.items()}
        self._weight = self._squares = 0.0  # sums of the items' weights and of their squares
        self._unchecked = 0
        self.items = 0
        self.alarm: tuple[str, ...] = ()

    def observe(self, estimates: Estimates, magnitudes: Floats) -> None:
        """Count a batch: `Estimates` of n items and their magnitudes [n, 5]. Checks when due."""
        n = len(magnitudes)
        if not n:
            return
        kept = math.exp(-n / self._window)
        found = _quantities(estimates, magnitudes)
        for name, before in self._counts.items():
            places = _bins(found[name], self._edges[name])
            self._counts[name] = kept * before + np.bincount(places, minlength=len(before))
        self._weight = self._weight * kept + n
        self._squares = self._squares * kept**2 + n
        self.items += n
        self._unchecked += n
        if self._unchecked >= self._window / CHECKS:
            self.check()

    def check(self) -> tuple[str, ...]:
        """Compare now, set and return `alarm`. Do so at most ten times a window."""
        self._unchecked = 0
        level = FALSE_ALARMS / CHECKS / max(1, len(self._counts))
        self.alarm = tuple(
            name
            for name, each in self._compared().items()
            if each["p"] < level and each["distance"] >= self._matters
        )
        return self.alarm

    def state(self) -> State:
        """Everything that is known, for JSON.

        items, weight, squares   how many were seen; sums of their weights and of the squares
        alarm                    names of the quantities adrift at the last check
        quantities               by name: `counts` in the bins, and against the reference

            psi        population stability index: sum of (seen - expected) ln(seen / expected);
                       by custom 0.1 is a change, 0.25 a large one
            distance   largest difference of the two cumulative shares, from 0 to 1
            p          chance of such a distance in a stream like the reference
        """
        return {
            "items": self.items,
            "weight": self._weight,
            "squares": self._squares,
            "alarm": list(self.alarm),
            "quantities": {
                name: {"counts": self._counts[name].tolist(), **each}
                for name, each in self._compared().items()
            },
        }

    @classmethod
    def merged(
        cls,
        reference: Mapping[str, Any],
        states: Iterable[State],
        *,
        window: int = WINDOW,
        matters: float = MATTERS,
    ) -> DriftMonitor:
        """A monitor that has seen what all of these have, checked once.

        The window is each worker's own, so the merged one is as many times as long; merge at most
        ten times in the time that the workers together need for a window.
        """
        monitor = cls(reference, window=window, matters=matters)
        for state in states:
            monitor.items += int(state["items"])
            monitor._weight += float(state["weight"])
            monitor._squares += float(state["squares"])
            for name, before in monitor._counts.items():
                monitor._counts[name] = before + state["quantities"][name]["counts"]
        monitor.check()
        return monitor

    def _compared(self) -> dict[str, dict[str, float]]:
        if not self._weight:
            return {name: {"psi": 0.0, "distance": 0.0, "p": 1.0} for name in self._counts}
        # As many equal weights as tell as much as these (Kish 1965); then, as the reference is a
        # sample as well, the size of the two-sample test.
        effective = self._weight**2 / self._squares
        size = effective * self._items_of_reference / (effective + self._items_of_reference)
        return {
            name: _compare(counts, self._expected[name], size if effective >= _LEAST_ITEMS else 0.0)
            for name, counts in self._counts.items()
        }


def _compare(seen: Floats, expected: Floats, size: float) -> dict[str, float]:
    there, due = seen / seen.sum(), expected / expected.sum()
    distance = float(np.abs(np.cumsum(there - due)).max())
    # Flags are yes or no: for them Kolmogorov's law is far too careful.
    yes_or_no = len(seen) == _bin_count(1)
    p = _chernoff(there, due, size) if yes_or_no else _kolmogorov(distance * math.sqrt(size))
    a, b = np.maximum(there, _FLOOR), np.maximum(due, _FLOOR)
    return {"psi": float(((a - b) * np.log(a / b)).sum()), "distance": distance, "p": p}


def _kolmogorov(scaled: float) -> float:
    """P(sup|Brownian bridge| > scaled): an upper bound for the same distance between bins."""
    if scaled < 0.3:  # the series converges slowly there, to 1
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 20))
    return float(min(1.0, max(0.0, 2 * sum(terms))))


def _chernoff(there: Floats, due: Floats, size: float) -> float:
    """Bound of the chance of such a share or a further one, for the most telling bin."""
    # A reference without a single case is not a promise that there is none.
    due = np.clip(due, 1 / (size + 2), 1 - 1 / (size + 2))
    there = np.clip(there, 1e-12, 1 - 1e-12)
    information = there * np.log(there / due) + (1 - there) * np.log((1 - there) / (1 - due))
    return float(min(1.0, 2 * len(due) * math.exp(-size * float(information.max()))))


def _quantities(estimates: Estimates, magnitudes: Floats) -> dict[str, Floats]:
    """What is watched: [n] each, NaN where there is none."""
    magnitudes = np.asarray(magnitudes, dtype=float)
    width = (estimates.z_err68_high - estimates.z_err68_low) / (1 + estimates.z_median)
    score = np.asarray(estimates.out_of_domain, dtype=float)
    found = {
        "z_median": estimates.z_median,
        "width": width,
        "flagged": (np.asarray(estimates.quality_flag) != 0).astype(float),
        "unusual": np.where(np.isnan(score), np.nan, score > UNUSUAL),
    }
    found |= {band: magnitudes[:, i] for i, band in enumerate(_BANDS)}
    # A zero point that moves by a tenth is lost in the spread of a magnitude, not of a colour.
    for i, (blue, red) in enumerate(pairwise(_BANDS)):
        found[f"{blue}-{red}"] = magnitudes[:, i] - magnitudes[:, i + 1]
    return found


def _edges(values: Floats) -> Floats:
    """Inner edges of bins with equally many of `values` each; yes or no has one, at a half."""
    known = np.unique(values[np.isfinite(values)])
    if len(known) <= 2:
        return np.array([0.5])
    shares = np.arange(1, _BINS) / _BINS
    edges: Floats = np.unique(np.quantile(values[np.isfinite(values)], shares))
    return edges


def _bins(values: Floats, edges: Floats) -> NDArray[np.intp]:
    """The bin [n] of each value; NaN has one of its own, the last."""
    places = np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), len(edges) + 1, places)


def _bin_count(edges: int) -> int:
    return edges + 2
