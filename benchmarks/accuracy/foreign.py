"""How much has the out-of-domain flag, of what a model is not for and of what it is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workers.domain import Domain
from workers.photometry import measure
from workers.training.cutouts import Cutouts, centre, split
from workers.training.domain import flagged
from workers.training.spoiled import KINDS, shifted
from workers.weights import load

_SEED = 42  # of the split that the shipped models were trained on
_MOST = 2000  # rows of each kind


def flagged_shares(
    weights: Path | str | None, good: Cutouts, sky: dict[str, Cutouts]
) -> dict[str, float]:
    """Share flagged of held-out `good` rows, of these spoiled in each way, and of `sky` by name."""
    domain, rng = Domain.of(load(weights)[0]), np.random.default_rng(1)
    good = good.rows(rng.permutation(len(good))[:_MOST])
    spoiled = {name: make(good, rng) for name, make in KINDS.items()}
    spoiled["shifted by 25 pixels"] = shifted(good, rng, 25.0)
    asked = {"held-out rows (false alarms)": good, **spoiled, **sky}
    return {f"{name}, {len(rows)}": flagged(domain, rows) for name, rows in asked.items()}


def stars(data: Path | None, real: Path | None) -> dict[str, Cutouts]:
    """Held-out rendered stars of `data`/stars.npz; real ones of the npz file `real` (`stars`)."""
    found = {}
    if data and (data / "stars.npz").exists():
        found["SIMULATED stars"] = split(Cutouts.load(data / "stars.npz"), _SEED).test
    if real:
        with np.load(real, allow_pickle=False) as stored:
            stamps = centre(stored["stars"])
        n = len(stamps)
        found["real stars"] = Cutouts(
            stamps,
            measure(stamps),
            np.full(n, np.nan),
            np.arange(n),
            np.full(n, "star"),
            np.zeros(n, bool),
        )
    return found
