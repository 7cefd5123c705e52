"""Who is out there: a Gaussian mixture over magnitudes, redshift and size of SDSS galaxies.

Fitted to the photometry of 40,000 SDSS galaxies with spectroscopic redshifts and the sizes of
1,000; only its parameters are shipped. A drawn galaxy is SIMULATED: it is nobody's real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_FILE: Final = Path(__file__).with_name("population.npz")
_SIZE_SCATTER: Final = "size_scatter"


@dataclass(frozen=True, slots=True)
class Galaxies:
    """Drawn or catalogued galaxies: magnitudes [n, 5] (ugriz), z [n], radius_arcsec [n]."""

    magnitudes: Array
    z: Array
    radius_arcsec: Array


@dataclass(frozen=True, slots=True)
class Population:
    """Mixture over (u-g, g-r, r-i, i-z, r, ln z), and a linear relation for the size.

    `weights` [k], `means` [k, 6], `factors` [k, 6, 6] (lower Cholesky factors of the
    covariances); ln(half-light radius / arcsec) = `size` . (1, r - 17, g - r), with a normal
    scatter of `size_scatter`.
    """

    weights: Array
    means: Array
    factors: Array
    size: Array
    size_scatter: float

    @classmethod
    def load(cls) -> Population:
        """The shipped population."""
        with np.load(_FILE, allow_pickle=False) as stored:
            return cls(
                stored["weights"],
                stored["means"],
                stored["factors"],
                stored["size"],
                float(stored[_SIZE_SCATTER]),
            )

    def save(self, path: Path) -> None:
        """Store the parameters (about 4 kB)."""
        np.savez_compressed(
            path,
            weights=self.weights,
            means=self.means,
            factors=self.factors,
            size=self.size,
            size_scatter=self.size_scatter,
        )

    def sample(self, n: int, rng: np.random.Generator) -> Galaxies:
        """Draw `n` galaxies with 14 < r < 20.5 and 0.005 < z < 0.8."""
        rows = np.empty((0, 6))
        while len(rows) < n:
            part = rng.choice(len(self.weights), size=2 * n, p=self.weights)
            noise = rng.normal(size=(2 * n, 6))
            drawn = self.means[part] + np.einsum("nij,nj->ni", self.factors[part], noise)
            r, z = drawn[:, 4], np.exp(drawn[:, 5])
            inside = (r > 14) & (r < 20.5) & (z > 0.005) & (z < 0.8)
            rows = np.concatenate([rows, drawn[inside]])
        magnitudes = _magnitudes(rows[:n])
        return Galaxies(magnitudes, np.exp(rows[:n, 5]), self.radii(magnitudes, rng))

    def radii(self, magnitudes: Array, rng: np.random.Generator) -> Array:
        """Half-light radii (arcsec) for galaxies of these magnitudes [n, 5]."""
        scatter = rng.normal(size=len(magnitudes)) * self.size_scatter
        return np.exp(_size_terms(magnitudes) @ self.size + scatter)


def fit(magnitudes: Array, z: Array, *, components: int = 24, seed: int = 1) -> dict[str, Array]:
    """Fit the mixture (scikit-learn, extra `train`). Returns weights, means and factors."""
    from sklearn.mixture import GaussianMixture

    u, g, r, i, zz = magnitudes.T
    rows = np.column_stack([u - g, g - r, r - i, i - zz, r, np.log(z)])
    mixture = GaussianMixture(components, random_state=seed, reg_covar=1e-4).fit(rows)
    return {
        "weights": mixture.weights_,
        "means": mixture.means_,
        "factors": np.linalg.cholesky(mixture.covariances_),
    }


def fit_size(magnitudes: Array, petrosian_arcsec: Array) -> tuple[Array, float]:
    """Fit the size relation to Petrosian radii in r.

    The half-light radius is taken as half the Petrosian radius, less the seeing (0.65 arcsec
    half-light) in quadrature.
    """
    half = np.sqrt(np.clip((petrosian_arcsec / 2) ** 2 - 0.65**2, 0.3**2, None))
    terms = _size_terms(magnitudes)
    solution = np.linalg.lstsq(terms, np.log(half), rcond=None)[0]
    scatter = float(np.std(np.log(half) - terms @ solution))
    return solution, scatter


def _size_terms(magnitudes: Array) -> Array:
    r, color = magnitudes[:, 2], magnitudes[:, 1] - magnitudes[:, 2]
    return np.column_stack([np.ones_like(r), r - 17, color])


def _magnitudes(rows: Array) -> Array:
    ug, gr, ri, iz, r, _ = rows.T
    g, i = r + gr, r - ri
    return np.column_stack([g + ug, g, r, i, i - iz])
