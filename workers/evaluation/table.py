"""What a model is worth on rows it has not seen: one table, ready for JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.errors import DataError
from workers.estimator import Estimator
from workers.evaluation import baselines
from workers.evaluation.metrics import bootstrap, point_metrics
from workers.evaluation.pdf import edges_of
from workers.evaluation.predictions import (
    Columns,
    Model,
    Step,
    estimate_all,
    unseen,
    without_magnitudes,
)
from workers.evaluation.scores import none_for_nan, scores
from workers.evaluation.slices import Mask, by_r, by_z, headline, populations
from workers.training.cutouts import Cutouts

MEASURED: Final = "magnitudes measured in the stamp"
_BIN_DRAWS: Final = 300  # there are many bins, and their intervals are wide


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The table, and what it was made of: `rows` with a redshift, what was `found` for them."""

    table: dict[str, Any]
    rows: Cutouts
    found: Columns
    edges: NDArray[np.float64]


def evaluate(weights: Path | str | None, data: Path, train: Path | None = None) -> dict[str, Any]:
    """The table of `evaluate_files`, ready for JSON.

    Raises:
        WeightsError, DataError: the weights or the data cannot be used.
    """
    return evaluate_files(weights, data, train).table


def evaluate_files(
    weights: Path | str | None, data: Path, train: Path | None = None, step: Step = unseen
) -> Evaluation:
    """Evaluate `weights` (see `workers.weights.find`) on the data set `data`.

    `train`, the rows that the model was trained on, adds simple estimators trained on the same.
    `step` is told of the rows that are done; every row is estimated twice.

    Raises:
        WeightsError, DataError: the weights or the data cannot be used.
    """
    rows, model = Cutouts.load(data), Estimator.load(weights, threads=2)
    found = evaluate_rows(model, rows, Cutouts.load(train) if train else None, step)
    return replace(found, table={**found.table, "data": data.name})


def evaluate_rows(
    model: Model, rows: Cutouts, train: Cutouts | None = None, step: Step = unseen
) -> Evaluation:
    """Evaluate a loaded model on all `rows` that have a redshift.

    The table has

    model, version, weights_sha256, calibration_id, rows
    left_out         rows without a redshift, rows that are also in `train`
    metrics          by population as a whole and by its cuts: see `scores`
    by_r, by_z       the same by population and bin
    comparisons      by estimator, then as `metrics`: the model with magnitudes withheld
                     (all of `scores`), and with `train` the simple ones (`point_metrics`)

    Raises:
        DataError: no row has a redshift, or most are training rows.
    """
    rows, left_out = _known(rows, train)
    edges, found = edges_of(model.grid), estimate_all(model, rows, step)
    lines, groups = headline(rows), populations(rows)
    measured = estimate_all(model, without_magnitudes(rows), step)
    comparisons = {MEASURED: {n: scores(measured, rows, m, edges) for n, m in lines.items()}}
    if train is not None:
        comparisons |= _simple(train, rows)

    def in_bin(mask: Mask) -> dict[str, Any]:
        return scores(found, rows, mask, edges, draws=_BIN_DRAWS)

    table = {
        "model": model.name,
        "version": model.version,
        "weights_sha256": model.sha256,
        "calibration_id": model.calibration_id,
        "rows": len(rows),
        "left_out": left_out,
        "metrics": {n: scores(found, rows, m, edges) for n, m in lines.items()},
        "by_r": {
            name: {n: in_bin(m) for n, m in by_r(rows, mask).items()}
            for name, mask in groups.items()
        },
        "by_z": {
            # Rows that are chosen by the truth have no uniform PIT, however good p(z) is.
            name: {n: {**in_bin(m), "pit": None} for n, m in by_z(rows, mask).items()}
            for name, mask in groups.items()
        },
        "comparisons": comparisons,
    }
    return Evaluation(table, rows, found, edges)


def _simple(train: Cutouts, rows: Cutouts) -> dict[str, dict[str, Any]]:
    """Simple estimators, each trained on the training rows of the population it is asked for."""
    out: dict[str, dict[str, Any]] = {}
    for kind in np.unique(rows.kind).tolist():
        asked = rows.rows(rows.kind == kind)
        of_kind = train.rows((train.kind == kind) & np.isfinite(train.z))
        if not len(of_kind):
            raise DataError(f"the training rows hold no {kind}, the rows to estimate do")
        lines = headline(asked)
        for name, z in baselines.compare(of_kind, asked).items():
            entry = out.setdefault(name, {})
            for line, mask in lines.items():
                entry[line] = none_for_nan(
                    {
                        **point_metrics(z[mask], asked.z[mask]),
                        "n": int(mask.sum()),
                        **bootstrap(z[mask], asked.z[mask], asked.group[mask]),
                    }
                )
    return out


def _known(rows: Cutouts, train: Cutouts | None) -> tuple[Cutouts, dict[str, int]]:
    """The rows that have a redshift and were not trained on, and how many are left out."""
    known = rows.rows(np.isfinite(rows.z))
    if not len(known):
        raise DataError("no row of the data set has a redshift: there is nothing to compare with")
    trained = set(_prints(train)) - {None} if train is not None else set()
    new = np.array([each not in trained for each in _prints(known)])
    if 2 * new.sum() < len(known):
        raise DataError(
            f"{len(known) - new.sum()} of {len(known)} rows to estimate are training rows: "
            "--data is to be the test part of a split, and --train its training part"
        )
    left_out = {"no_redshift": len(rows) - len(known), "in_training": int((~new).sum())}
    return known.rows(new), left_out


def _prints(rows: Cutouts) -> list[bytes | None]:
    """What tells a row: its redshift and magnitudes. Groups are numbered anew in every file."""
    marks = np.column_stack([rows.z, rows.magnitudes]).astype(np.float32)
    return [each.tobytes() if np.isfinite(each).all() else None for each in marks]
