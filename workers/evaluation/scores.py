"""One entry of the table: everything that is measured on one set of rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.domain import FOREIGN, UNUSUAL
from workers.evaluation import pdf
from workers.evaluation.metrics import binomial, bootstrap, coverage, point_metrics
from workers.evaluation.predictions import Columns
from workers.evaluation.slices import Mask
from workers.quality import Quality
from workers.training.cutouts import Cutouts

Floats = NDArray[np.floating]


def scores(
    found: Columns, rows: Cutouts, which: Mask, edges: Floats, *, draws: int = 1000
) -> dict[str, Any]:
    """All metrics of the rows `which` [n]; None for what the model or the rows do not give.

    Those of `point_metrics`, of `bootstrap` by group, of `of_density`, and:

    groups           number of objects
    coverage68, 95   share of true redshifts in the interval; `..._95` its binomial interval
    flagged          share with a quality flag; `flags` of each bit
    unusual          share of rows whose out-of-domain score sets a flag (5 % are meant to)
    foreign          share of rows whose score is so high that they would get no redshift
    """
    z, median = rows.z[which], found["z_median"][which]
    group = rows.group[which]
    out: dict[str, Any] = {
        **point_metrics(median, z),
        "n": len(z),
        "groups": len(np.unique(group)),
        **bootstrap(median, z, group, draws=draws),
        **_intervals(found, z, which),
        **_flags(found["quality_flag"][which]),
        **_domain(found.get("out_of_domain"), which),
    }
    whole: dict[str, Any] = none_for_nan(out | of_density(found, rows, which, edges))
    return whole


def of_density(found: Columns, rows: Cutouts, which: Mask, edges: Floats) -> dict[str, Any]:
    """crps, log_score (means), cde_loss, and `pit` (see `pdf.uniformity`).

    PIT values are of one row per group: repeats of one object would count as agreement.
    """
    p = found.get("pz")
    if p is None or p.shape[1] < 2:
        return dict.fromkeys(("crps", "log_score", "cde_loss", "pit"))
    p, z = p[which], rows.z[which]
    _, first = np.unique(rows.group[which], return_index=True)
    return {
        "crps": float(pdf.crps(p, edges, z).mean()),
        "log_score": float(pdf.log_score(p, edges, z).mean()),
        "cde_loss": pdf.cde_loss(p, edges, z),
        "pit": pdf.uniformity(pdf.pit(p[first], edges, z[first])),
    }


def none_for_nan(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: none_for_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [none_for_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _intervals(found: Columns, z: Floats, which: Mask) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for percent in (68, 95):
        low = found[f"z_err{percent}_low"][which]
        high = found[f"z_err{percent}_high"][which]
        share = coverage(low, high, z) if np.isfinite(low).all() else None
        out[f"coverage{percent}"] = share
        out[f"coverage{percent}_95"] = None if share is None else binomial(share, len(z))
    return out


def _flags(flag: NDArray[np.integer]) -> dict[str, Any]:
    return {
        "flagged": float((flag != 0).mean()),
        "flags": {str(bit.name): float(((flag & int(bit)) != 0).mean()) for bit in Quality},
    }


def _domain(score: Floats | None, which: Mask) -> dict[str, float | None]:
    if score is None or not np.isfinite(score[which]).any():
        return {"unusual": None, "foreign": None}
    asked = score[which]
    return {
        "unusual": float((asked > UNUSUAL).mean()),
        "foreign": float((asked > FOREIGN).mean()),
    }
