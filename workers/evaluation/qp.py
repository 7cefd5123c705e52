"""p(z) in a file that qp reads: the library of LSST DESC for redshift distributions.

An HDF5 file as `qp.Ensemble.write_to` lays it out (qp-prob 1.1, parameterisation "hist"):

    meta/pdf_name      [1] "hist"
    meta/pdf_version   [1] 0
    meta/bins          [1, bins + 1] redshifts of the edges
    data/pdfs          [n, bins] probability density, its integral over z is 1
    ancil/...          [n] one array for each column that goes with the rows

    ensemble = qp.read("estimates.hdf5")
    ensemble.ppf(0.5), ensemble.ancil["z_median"]

Needs h5py (extra `pdf`); qp itself is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.density import Grid
from workers.errors import DataError
from workers.evaluation.pdf import edges_of


def write_qp(
    path: Path,
    grid: Grid,
    pz: NDArray[np.floating],
    ancil: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write probabilities `pz` [n, bins] on `grid`, and columns [n] that belong to the rows.

    Raises:
        DataError: h5py is not installed, or the model gives no p(z), or lengths differ.
    """
    if grid.bins < 2 or pz.shape[1:] != (grid.bins,):
        raise DataError(
            f"there is no p(z) to write: the array is {pz.shape}, the grid has {grid.bins} bins; "
            "weights that give one number instead of p(z) cannot be exported"
        )
    for name, column in (ancil or {}).items():
        if len(column) != len(pz):
            raise DataError(f"column {name} has {len(column)} rows, p(z) has {len(pz)}")
    try:
        import h5py
    except ImportError as error:
        raise DataError("writing qp files needs h5py: pip install 'lookback[pdf]'") from error

    edges = edges_of(grid)
    density = pz / pz.sum(axis=1, keepdims=True) / np.diff(edges)
    with h5py.File(path, "w") as file:
        file["meta/pdf_name"] = np.array([b"hist"])
        file["meta/pdf_version"] = np.array([0])
        file["meta/bins"] = edges[None, :]
        file["data/pdfs"] = density.astype(np.float32)
        for name, column in (ancil or {}).items():
            file[f"ancil/{name}"] = _storable(column)


def _storable(column: NDArray[Any]) -> NDArray[Any]:
    """HDF5 has no numpy text: UTF-8 bytes instead, as qp writes it."""
    return np.char.encode(column.astype(str), "utf-8") if column.dtype.kind in "UO" else column
