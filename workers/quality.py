"""Quality flags of an estimate: bits, 0 = nothing to remark."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from workers.domain import UNUSUAL

if TYPE_CHECKING:
    from workers.weights import Config


class Quality(IntFlag):
    """What to know before an estimate is used."""

    BROAD = 1
    """Half the 68 % interval is wider than 0.1 (1 + z)."""
    SEVERAL_PEAKS = 2
    """The mode lies outside the 68 % interval: p(z) has several peaks, or a long tail."""
    UNUSUAL_MAGNITUDES = 4
    """A magnitude lies outside the range of the training data."""
    EDGE_OF_GRID = 8
    """The 95 % interval reaches the end of the redshift grid."""
    MEASURED_MAGNITUDES = 16
    """A magnitude was absent, or no measurement, and was measured in the stamp."""
    OUT_OF_DOMAIN = 32
    """The stamp looks unlike what the model was trained on (score above 0.95)."""
    NO_UNCERTAINTY = 64
    """The model gives a redshift alone: there is neither p(z) nor an interval."""


_BROAD: Final = 0.1
_EDGE: Final = 0.98


def flags(
    low68: NDArray[np.floating],
    high68: NDArray[np.floating],
    high95: NDArray[np.floating],
    mode: NDArray[np.floating],
    median: NDArray[np.floating],
    magnitudes: NDArray[np.floating],
    measured: NDArray[np.bool_],
    out_of_domain: NDArray[np.floating],
    config: Config,
) -> NDArray[np.int64]:
    """Flags [n] of estimates [n] with magnitudes [n, 5], some `measured` [n, 5] in the stamp.

    `out_of_domain` [n] is the score of `workers.domain`. A comparison with NaN sets no flag.
    """
    low, high = np.array(config.magnitude_range or [(-np.inf, np.inf)] * 5).T
    found = {
        Quality.OUT_OF_DOMAIN: out_of_domain > UNUSUAL,
        Quality.NO_UNCERTAINTY: np.full(len(median), config.bins == 1),
        Quality.BROAD: (high68 - low68) > _BROAD * 2 * (1 + median),
        Quality.SEVERAL_PEAKS: (mode < low68) | (mode > high68),
        Quality.UNUSUAL_MAGNITUDES: ((magnitudes < low) | (magnitudes > high)).any(axis=1),
        Quality.EDGE_OF_GRID: high95 > _EDGE * config.z_max,
        Quality.MEASURED_MAGNITUDES: measured.any(axis=1),
    }
    out = np.zeros(len(median), dtype=np.int64)
    for flag, where in found.items():
        out |= np.where(where, int(flag), 0)
    return out
