"""Recalibration on validation rows: a temperature, then a map of the cumulative probability.

The temperature is the one under which the rows are most likely. What is left is seen in the
probability integral transform (PIT): were p(z) right, it would be uniform. It is fitted by a beta
distribution, and the cumulative probability goes through that distribution's own, so that it is.
Two numbers, because a validation set of some hundred rows does not bear more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from workers.density import Grid, density
from workers.training.finetune import surprise

Floats = NDArray[np.floating]

_KNOTS: Final = 129
_EDGE: Final = 1e-3  # PITs are kept away from 0 and 1, where a beta distribution may not be finite


def temperature(views: Sequence[Floats], grid: Grid, z: Floats) -> float:
    """The temperature under which redshifts `z` [n] are most likely. `views`: logits [n, bins]."""
    candidates = np.linspace(0.5, 3.0, 126)
    losses = [surprise(density(views, float(each)), grid, z) for each in candidates]
    return float(candidates[int(np.argmin(losses))])


def table(pits: Floats) -> tuple[float, ...]:
    """The map, as its values at equally spaced cumulative probabilities from 0 to 1."""
    inside = np.clip(pits, _EDGE, 1 - _EDGE)
    a, b, _, _ = beta.fit(inside, floc=0, fscale=1)
    return tuple(float(each) for each in beta.cdf(np.linspace(0, 1, _KNOTS), a, b))
