"""What a model is worth on rows it has not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from workers.estimator import Estimates, Estimator
from workers.training.cutouts import Cutouts
from workers.training.metrics import bootstrap, coverage, point_metrics

_CHUNK: Final = 64


def evaluate(weights: Path | None, data: Path) -> dict[str, Any]:
    """Metrics of `weights` (None: the shipped ones) on the dataset file `data`, by population.

    Quasars are also given for z >= 2.7, galaxies for r < 19.5; all once more with their
    magnitudes withheld.

    Raises:
        WeightsError, DataError: the weights or the data cannot be used.
    """
    cutouts, estimator = Cutouts.load(data), Estimator.load(weights, threads=2)
    populations = {
        "real quasars, z >= 2.7": ~cutouts.simulated & (cutouts.z >= 2.7),
        "real quasars, all": ~cutouts.simulated,
        "simulated galaxies, r < 19.5": (cutouts.kind == "galaxy")
        & cutouts.simulated
        & (cutouts.magnitudes[:, 2] < 19.5),
        "simulated quasars, z >= 2.7": (cutouts.kind == "quasar")
        & cutouts.simulated
        & (cutouts.z >= 2.7),
    }
    nothing_given = replace(cutouts, magnitudes=np.full_like(cutouts.magnitudes, np.nan))
    found = {
        "": estimate_all(estimator, cutouts),
        ", magnitudes measured in the stamp": estimate_all(estimator, nothing_given),
    }
    table = {
        name + how: _metrics(estimates, cutouts.z, which)
        for how, estimates in found.items()
        for name, which in populations.items()
        if which.any()
    }
    return {
        "model": estimator.name,
        "weights_sha256": estimator.sha256,
        "data": data.name,
        "metrics": table,
    }


def estimate_all(estimator: Estimator, cutouts: Cutouts) -> Estimates:
    """Estimates of every row."""
    parts = [
        estimator.estimate(cutouts.images[i : i + _CHUNK], cutouts.magnitudes[i : i + _CHUNK])
        for i in range(0, len(cutouts), _CHUNK)
    ]
    names = Estimates.__dataclass_fields__
    return Estimates(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def _metrics(found: Estimates, true: Any, which: Any) -> dict[str, Any]:
    z = true[which]
    return {
        **point_metrics(found.z_median[which], z),
        **bootstrap(found.z_median[which], z),
        "coverage68": coverage(found.z_err68_low[which], found.z_err68_high[which], z),
        "coverage95": coverage(found.z_err95_low[which], found.z_err95_high[which], z),
        "flagged": float((found.quality_flag[which] != 0).mean()),
    }
