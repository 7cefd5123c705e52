"""What a set of estimates is worth. dz = (z_estimated - z_true) / (1 + z_true)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def point_metrics(estimated: Array, true: Array) -> dict[str, float]:
    """MAE (on z), bias, NMAD and share of outliers (|dz| > 0.15) of dz, and R2 on z."""
    dz = (estimated - true) / (1 + true)
    residual, spread = estimated - true, true - true.mean()
    return {
        "n": float(len(true)),
        "mae": float(np.abs(residual).mean()),
        "bias": float(np.median(dz)),
        "nmad": nmad(dz),
        "outliers": outliers(dz),
        "r2": float(1 - (residual**2).sum() / (spread**2).sum()),
    }


def nmad(dz: Array) -> float:
    """Normalised median absolute deviation: 1.4826 median|dz - median(dz)|."""
    return float(1.4826 * np.median(np.abs(dz - np.median(dz))))


def outliers(dz: Array) -> float:
    """Share of |dz| > 0.15."""
    return float((np.abs(dz) > 0.15).mean())


def bootstrap(estimated: Array, true: Array, *, seed: int = 1, draws: int = 1000) -> dict[str, Any]:
    """Central 95 % intervals of NMAD and outliers over resampled rows."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(true), size=(draws, len(true)))
    dz = ((estimated - true) / (1 + true))[rows]
    found = {"nmad": [nmad(each) for each in dz], "outliers": [outliers(each) for each in dz]}
    return {
        f"{name}_95": [float(v) for v in np.percentile(values, [2.5, 97.5])]
        for name, values in found.items()
    }


def coverage(low: Array, high: Array, true: Array) -> float:
    """Share of true redshifts inside their interval."""
    return float(((true >= low) & (true <= high)).mean())
