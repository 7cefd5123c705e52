"""What p(z) is worth, not only a number read off it.

Everywhere p [n, bins] is a probability per bin, and flat within a bin. `edges` [bins + 1] are
redshifts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.density import Grid

Floats = NDArray[np.floating]

UNIFORM: Final = 0.01
"""PIT values count as uniform if the Kolmogorov-Smirnov test gives p > 0.01. It decides alone;
Cramer-von Mises stands beside it."""

PIT_BINS: Final = 20
LEAST: Final = 1e-6
"""A bin's probability counts as at least this in the log score: one surprise is not the end."""

_ROWS: Final = 4096  # at a time: bounds the memory of what is as large as p


def edges_of(grid: Grid) -> NDArray[np.float64]:
    """Redshifts [bins + 1] of the edges of the bins."""
    return np.expm1(np.linspace(0.0, np.log1p(grid.z_max), grid.bins + 1))


def pit(p: Floats, edges: Floats, true: Floats) -> NDArray[np.float64]:
    """Probability integral transform [n]: the share of p(z) below the true redshift.

    Uniform from 0 to 1 if p(z) says the truth (Dawid 1984, JRSS A 147, 278).
    """
    return np.concatenate([_below(*part)[0] for part in _parts(p, edges, true)])


def crps(p: Floats, edges: Floats, true: Floats) -> NDArray[np.float64]:
    """Continuous ranked probability score [n], in units of z; 0 is perfect.

    The integral over z of (F(z) - [z >= z_true])^2 (Hersbach 2000, Wea. Forecasting 15, 559),
    exactly, as F is straight within a bin. Of a point estimate it would be |error|.
    """
    return np.concatenate([_crps(*part) for part in _parts(p, edges, true)])


def log_score(p: Floats, edges: Floats, true: Floats) -> NDArray[np.float64]:
    """Logarithm [n] of the density, per unit of z, at the true redshift; more is better."""
    return np.log(_at(p, edges, true, LEAST))


def cde_loss(p: Floats, edges: Floats, true: Floats) -> float:
    """Conditional density estimation loss: less is better, and it is negative if p(z) is good.

    Mean integral of p(z)^2 less twice the mean density at the true redshift (Izbicki & Lee 2017,
    EJS 11, 2800; as in Schmidt, Malz et al. 2020).
    """
    squared = (np.asarray(p, dtype=float) ** 2 / np.diff(edges)).sum(axis=1)
    return float(squared.mean() - 2 * _at(p, edges, true, 0.0).mean())


def uniformity(values: Floats) -> dict[str, Any]:
    """How far PIT values are from uniform.

    ks, ks_p      Kolmogorov-Smirnov: largest distance of the distributions, and p
    cvm, cvm_p    Cramer-von Mises: statistic and p
    uniform       ks_p > 0.01
    histogram     shares in 20 equal bins
    """
    from scipy.stats import cramervonmises, kstest

    ks, cvm = kstest(values, "uniform"), None
    if len(values) > 1:
        cvm = cramervonmises(values, "uniform")
    counts, _ = np.histogram(values, PIT_BINS, (0, 1))
    return {
        "ks": float(ks.statistic),
        "ks_p": float(ks.pvalue),
        "cvm": float(cvm.statistic) if cvm else None,
        "cvm_p": float(cvm.pvalue) if cvm else None,
        "uniform": bool(ks.pvalue > UNIFORM),
        "histogram": [float(share) for share in counts / len(values)],
    }


def central(values: Floats, nominal: Floats) -> NDArray[np.float64]:
    """Observed share [m] of true redshifts in the central interval of each `nominal` [m] size.

    Read off PIT values [n]: the truth is in the central 68 % if its PIT is within 0.16 to 0.84.
    """
    distance = np.sort(2 * np.abs(values - 0.5))
    observed: NDArray[np.float64] = np.searchsorted(distance, nominal, "right") / len(values)
    return observed


def _at(p: Floats, edges: Floats, true: Floats, least: float) -> NDArray[np.float64]:
    """Density at the true redshift [n]; `least` is the least probability of a bin."""
    place = _place(edges, true)
    share = np.maximum(p[np.arange(len(true)), place].astype(float), least)
    outside = (true < edges[0]) | (true > edges[-1])
    density: NDArray[np.float64] = np.where(outside, least, share) / np.diff(edges)[place]
    return density


def _place(edges: Floats, true: Floats) -> NDArray[np.intp]:
    return np.clip(np.searchsorted(edges, true, "right") - 1, 0, len(edges) - 2)


def _parts(p: Floats, edges: Floats, true: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    for start in range(0, max(len(true), 1), _ROWS):
        part = slice(start, start + _ROWS)
        yield np.asarray(p[part], dtype=float), edges, true[part].astype(float)


def _below(p: Floats, edges: Floats, true: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """F at the true redshifts [n], F at the edges [n, bins + 1], the bins of the true ones [n]."""
    cumulative = np.zeros((len(p), len(edges)))
    np.cumsum(p, axis=1, out=cumulative[:, 1:])
    cumulative /= cumulative[:, -1:]
    place, rows = _place(edges, true), np.arange(len(true))
    inside = np.clip((true - edges[place]) / np.diff(edges)[place], 0, 1)
    low, high = cumulative[rows, place], cumulative[rows, place + 1]
    return low + inside * (high - low), cumulative, place


def _crps(p: Floats, edges: Floats, true: Floats) -> Floats:
    at, cumulative, place = _below(p, edges, true)
    low, high, width = cumulative[:, :-1], cumulative[:, 1:], np.diff(edges)
    above = np.arange(len(width)) > place[:, None]
    whole = np.where(above, _squares(low - 1, high - 1), _squares(low, high)) * width
    rows = np.arange(len(true))
    # The bin that holds the true redshift is two pieces.
    split = np.clip(true, edges[place], edges[place + 1])
    whole[rows, place] = _squares(low[rows, place], at) * (split - edges[place]) + _squares(
        at - 1, high[rows, place] - 1
    ) * (edges[place + 1] - split)
    # Outside of the grid F is 0 or 1, and wrong as far as the truth.
    outside = np.maximum(true - edges[-1], 0) + np.maximum(edges[0] - true, 0)
    score: Floats = whole.sum(axis=1) + outside
    return score


def _squares(start: Floats, end: Floats) -> Floats:
    """Mean square of what goes straight from `start` to `end`."""
    mean: Floats = (start * start + start * end + end * end) / 3
    return mean
