"""A model applied to a data set: one row for each cutout, in a file for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from workers.errors import DataError
from workers.estimator import Estimator
from workers.evaluation.predictions import Columns, Model, Step, estimate_all, unseen
from workers.evaluation.qp import write_qp
from workers.training.cutouts import Cutouts

_ENDINGS: Final = (".parquet", ".csv")
_DENSITY: Final = "pz"


def estimate_table(
    weights: Path | str | None,
    data: Path,
    out: Path,
    *,
    pdf: bool = False,
    step: Step = unseen,
) -> list[Path]:
    """Estimate the rows of the data set `data` into `out`, Parquet or CSV by its ending.

    `weights`: see `workers.weights.find`. `pdf`: p(z) into a qp file beside it, `OUT.hdf5`. `step`
    is told of the rows that are done. Returns the files that were written.

    Raises:
        WeightsError, DataError: the weights or the data cannot be used, the ending is another one,
            or a library is missing.
    """
    if out.suffix not in _ENDINGS:
        raise DataError(f"{out} is to end in one of {', '.join(_ENDINGS)}")
    model = Estimator.load(weights, threads=2)
    return estimate_rows(model, Cutouts.load(data), out, pdf=pdf, step=step)


def estimate_rows(
    model: Model, rows: Cutouts, out: Path, *, pdf: bool = False, step: Step = unseen
) -> list[Path]:
    """Do what `estimate_table` does, with a loaded model and loaded rows.

    Columns, in the order of the rows:

    row, group, kind, simulated    which row of the data set it is
    z_true                         its redshift, null where the data set has none
    ...                            the fields of `Estimates` but p(z); null where the model has none
    model, version, weights_sha256

    Raises:
        DataError: the folder of `out` is not there, or a library is missing.
    """
    found = estimate_all(model, rows, step)
    columns = {
        "row": np.arange(len(rows)),
        "group": rows.group,
        "kind": rows.kind,
        "simulated": rows.simulated,
        "z_true": rows.z.astype(float),
        **{name: values for name, values in found.items() if name != _DENSITY},
        "model": np.full(len(rows), model.name),
        "version": np.full(len(rows), model.version),
        "weights_sha256": np.full(len(rows), model.sha256),
    }
    written = [out]
    if pdf:
        written.append(out.with_suffix(".hdf5"))
        write_qp(written[-1], model.grid, found[_DENSITY], columns)
    _write(columns, out)
    return written


def _write(columns: Columns, out: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    # NaN is null: "not given", in the words of both formats.
    table = pa.table({name: pa.array(each, from_pandas=True) for name, each in columns.items()})
    write = csv.write_csv if out.suffix == ".csv" else parquet.write_table
    try:
        write(table, out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error}") from error
