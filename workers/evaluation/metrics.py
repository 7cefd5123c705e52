"""What point estimates are worth. dz = (z_estimated - z_true) / (1 + z_true).

The definitions are those of photometric-redshift papers (Ilbert et al. 2006, A&A 457, 841, for
NMAD and the limit of 0.15; Schmidt, Malz et al. 2020, MNRAS 499, 1587, for a comparison of them).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

OUTLIER: Final = 0.15
"""An estimate is an outlier if |dz| is larger."""

_DRAWS: Final = 1000
_NORMAL: Final = 1.4826  # a normal's standard deviation, in medians of its absolute deviation
_95: Final = (2.5, 97.5)


def scaled(estimated: Floats, true: Floats) -> Floats:
    """The scaled errors dz [n] of redshifts [n]."""
    dz: Floats = (estimated - true) / (1 + true)
    return dz


def point_metrics(estimated: Floats, true: Floats) -> dict[str, float]:
    """All metrics of estimates [n] against true redshifts [n].

    mae, rmse    mean absolute and root mean square error of z (not of dz)
    bias         median of dz
    bias_mean    mean of dz: outliers draw it
    nmad         see `nmad`
    outliers     share of |dz| > 0.15
    r2           1 - sum of squared errors / sum of squares about the mean, of z; NaN if z is one
    """
    estimated, true = estimated.astype(float), true.astype(float)
    dz, error = scaled(estimated, true), estimated - true
    spread = float(((true - true.mean()) ** 2).sum())
    return {
        "n": float(len(true)),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(np.median(dz)),
        "bias_mean": float(dz.mean()),
        "nmad": nmad(dz),
        "outliers": outliers(dz),
        "r2": 1 - float((error**2).sum()) / spread if spread else float("nan"),
    }


def nmad(dz: Floats) -> float:
    """Normalised median absolute deviation: 1.4826 median|dz - median(dz)|."""
    return float(_NORMAL * np.median(np.abs(dz - np.median(dz))))


def outliers(dz: Floats) -> float:
    """Share of |dz| > 0.15."""
    return float((np.abs(dz) > OUTLIER).mean())


def bootstrap(
    estimated: Floats,
    true: Floats,
    group: NDArray[np.integer] | None = None,
    *,
    seed: int = 1,
    draws: int = _DRAWS,
) -> dict[str, list[float]]:
    """Central 95 % intervals of NMAD, outliers, MAE and bias, e.g. `nmad_95: [low, high]`.

    Whole groups are drawn with replacement, as rows of one object err together (the cluster
    bootstrap; Davison & Hinkley 1997, section 3.8). None: every row is a group of its own.
    """
    estimated, true = estimated.astype(float), true.astype(float)
    dz, error = scaled(estimated, true), np.abs(estimated - true)
    found = []
    for rows in _resampled(np.arange(len(true)) if group is None else group, seed, draws):
        drawn = dz[rows]
        bias = np.median(drawn)
        spread = _NORMAL * np.median(np.abs(drawn - bias))
        found.append((spread, (np.abs(drawn) > OUTLIER).mean(), error[rows].mean(), bias))
    ends = np.percentile(found, _95, axis=0).T.tolist()
    return dict(zip(("nmad_95", "outliers_95", "mae_95", "bias_95"), ends, strict=True))


def _resampled(group: NDArray[np.integer], seed: int, draws: int) -> Iterator[NDArray[np.intp]]:
    """Rows of as many groups as there are, drawn with replacement."""
    rng = np.random.default_rng(seed)
    _, which, sizes = np.unique(group, return_inverse=True, return_counts=True)
    order, ends = np.argsort(which, kind="stable"), np.cumsum(sizes)
    for _ in range(draws):
        drawn = rng.integers(len(sizes), size=len(sizes))
        length = sizes[drawn]
        first = np.repeat(ends[drawn] - length - (np.cumsum(length) - length), length)
        yield order[first + np.arange(len(first))]


def coverage(low: Floats, high: Floats, true: Floats) -> float:
    """Share of true redshifts inside their interval, ends included."""
    return float(((true >= low) & (true <= high)).mean())


def binomial(share: float, n: int) -> list[float]:
    """95 % interval of a share of `n` (Wilson 1927, JASA 22, 209)."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]
