"""Which rows a line of the table is about.

A population is one kind of objects with real or with simulated pixels. It is told as a whole, by
the cuts of its kind, and in bins of r magnitude and of redshift.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.training.cutouts import Cutouts

Mask = NDArray[np.bool_]

R_EDGES: Final = (0.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 26.6)
"""Bins of r, as the row brings it. Rows without r, or fainter than its end, are in none."""

Z_EDGES: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 2.2, 2.7, 3.2, 3.7, 4.5, 6.0)
"""Bins of the true redshift. Within them every estimator has a bias towards the many."""

CUTS: Final[dict[str, dict[str, Callable[[Cutouts], Mask]]]] = {
    "quasar": {"z >= 2.7": lambda rows: _mask(rows.z >= 2.7)},
    "galaxy": {"r < 19.5": lambda rows: _mask(rows.magnitudes[:, 2] < 19.5)},
}
"""By kind: sub-populations that a model is made for, by the name they have in the table."""

_MANY: Final = {"galaxy": "galaxies", "quasar": "quasars"}


def populations(rows: Cutouts) -> dict[str, Mask]:
    """Real quasars, simulated galaxies and so on: a mask [n] for each that has rows."""
    found = {
        f"{'simulated' if simulated else 'real'} {_MANY.get(kind, f'{kind}s')}": (
            (rows.kind == kind) & (rows.simulated == simulated)
        )
        for kind in np.unique(rows.kind).tolist()
        for simulated in (False, True)
    }
    return _not_empty(found)


def headline(rows: Cutouts) -> dict[str, Mask]:
    """Every population as a whole ("real quasars, all") and by its cuts."""
    found: dict[str, Mask] = {}
    for name, mask in populations(rows).items():
        found[f"{name}, all"] = mask
        kind = str(rows.kind[mask][0])
        for cut, which in CUTS.get(kind, {}).items():
            found[f"{name}, {cut}"] = mask & which(rows)
    return _not_empty(found)


def by_r(rows: Cutouts, mask: Mask) -> dict[str, Mask]:
    """Bins of r of the rows in `mask`, without empty ones."""
    return _bins(rows.magnitudes[:, 2], R_EDGES, mask)


def by_z(rows: Cutouts, mask: Mask) -> dict[str, Mask]:
    """Bins of true redshift of the rows in `mask`, without empty ones."""
    return _bins(rows.z, Z_EDGES, mask)


def _bins(values: NDArray[Any], edges: tuple[float, ...], mask: Mask) -> dict[str, Mask]:
    return _not_empty(
        {
            f"{low:g} to {high:g}": mask & (values >= low) & (values < high)
            for low, high in pairwise(edges)
        }
    )


def _mask(which: NDArray[Any]) -> Mask:
    return np.asarray(which, dtype=bool)


def _not_empty(masks: dict[str, Mask]) -> dict[str, Mask]:
    return {name: mask for name, mask in masks.items() if mask.any()}
