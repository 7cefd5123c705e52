"""What half precision does to redshifts: on rendered galaxies, which are SIMULATED."""

from __future__ import annotations

import numpy as np

from workers.engine import Precision
from workers.errors import WorkerError
from workers.estimator import Estimates, Estimator
from workers.training.render import render_galaxies

_GALAXIES = 512


def paragraph() -> str:
    """Differences between float32 and bfloat16, in a sentence."""
    try:
        single, half = _estimates("float32"), _estimates("bfloat16")
    except WorkerError as error:
        return f"bfloat16 was not measured: {error}."
    moved = np.abs(half.z_median - single.z_median) / (1 + single.z_median)
    width = (single.z_err68_high - single.z_err68_low) / 2 / (1 + single.z_median)
    return (
        f"\nIn bfloat16, z_median of {_GALAXIES} rendered galaxies (SIMULATED) moves by "
        f"{np.median(moved):.1e} (1 + z) in the median, {np.quantile(moved, 0.99):.1e} at the "
        f"99th percentile and {moved.max():.1e} at most; their 68 % intervals are "
        f"{np.median(width):.1e} (1 + z) to each side in the median, and the quality flags of "
        f"{(half.quality_flag != single.quality_flag).sum()} change."
    )


def _estimates(precision: Precision) -> Estimates:
    rows = render_galaxies(_GALAXIES, seed=5, size=32)
    return Estimator.load(precision=precision).estimate(rows.images, rows.magnitudes)
