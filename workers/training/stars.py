"""Stars, which have no redshift that a model here could give. SIMULATED."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LOCUS: Final = np.array(
    [
        # g-i, u-g, g-r, r-i, i-z: medians of SDSS stars, rounded (Covey et al. 2007, AJ 134, 2398)
        [0.20, 0.95, 0.15, 0.05, 0.00],
        [0.40, 0.95, 0.30, 0.10, 0.02],
        [0.60, 1.20, 0.45, 0.15, 0.05],
        [1.00, 1.70, 0.73, 0.27, 0.14],
        [1.50, 2.25, 1.08, 0.42, 0.23],
        [2.00, 2.50, 1.33, 0.67, 0.38],
        [2.50, 2.60, 1.42, 1.08, 0.59],
        [3.00, 2.65, 1.47, 1.53, 0.85],
        [3.60, 2.75, 1.55, 2.05, 1.15],
    ]
)
_SCATTER: Final = (0.12, 0.04, 0.03, 0.03)  # mag, of u-g, g-r, r-i, i-z: metallicity and noise


def sample(n: int, rng: np.random.Generator) -> Floats:
    """Magnitudes ugriz [n, 5] of `n` stars with 14.5 < r < 21: a sixth of them hot and blue."""
    which = rng.choice(5, size=n, p=(0.42, 0.28, 0.12, 0.12, 0.06))
    families = [
        _on_locus(rng.normal(0.7, 0.25, n)),  # turn-off stars
        _on_locus(rng.normal(2.4, 0.5, n)),  # M dwarfs
        _on_locus(rng.uniform(0.2, 3.6, n)),
        _horizontal_branch(rng.uniform(-0.3, 0.25, n)),
        _white_dwarfs(rng.uniform(-0.5, 0.3, n)),
    ]
    colors = np.choose(which[:, None], families) + rng.normal(0, _SCATTER, (n, 4))
    r = 14.5 + 6.5 * np.sqrt(rng.random(n))  # fainter ones are more frequent
    ug, gr, ri, iz = colors.T
    return np.column_stack([r + gr + ug, r + gr, r, r - ri, r - ri - iz])


def _on_locus(gi: Floats) -> Floats:
    """Colours [n, 4] of the main sequence."""
    return np.column_stack([np.interp(gi, _LOCUS[:, 0], _LOCUS[:, k]) for k in range(1, 5)])


def _horizontal_branch(gr: Floats) -> Floats:
    """Colours [n, 4] of A stars and RR Lyrae: a strong Balmer jump (Yanny et al. 2000)."""
    return np.column_stack([np.full(len(gr), 1.15), gr, 0.45 * gr - 0.07, 0.3 * gr - 0.06])


def _white_dwarfs(gr: Floats) -> Floats:
    """Colours [n, 4] of cooling DA dwarfs, roughly (Harris et al. 2003, AJ 126, 1023)."""
    return np.column_stack([0.5 + 0.8 * gr, gr, 0.5 * gr - 0.12, 0.3 * gr - 0.15])
