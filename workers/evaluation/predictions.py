"""Estimates of every row of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.density import Grid
from workers.estimator import Estimates
from workers.training.cutouts import Cutouts, centre

CHUNK: Final = 64

Columns = dict[str, NDArray[Any]]

Step = Callable[[int], None]
"""Is told that so many more rows are done."""


def unseen(_: int) -> None:
    """Nobody is told."""


class Model(Protocol):
    """What is asked of a `workers.estimator.Estimator`."""

    name: str
    version: str
    sha256: str
    calibration_id: str | None
    grid: Grid

    def estimate(self, images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> Estimates:
        """Estimates of images [n, 5, 32, 32] (nanomaggies) and magnitudes [n, 5]."""


def columns(estimates: Estimates) -> Columns:
    """The arrays of `Estimates`, by name."""
    return {each.name: getattr(estimates, each.name) for each in fields(estimates)}


def chunks(model: Model, cutouts: Cutouts, step: Step = unseen) -> Iterator[Columns]:
    """Estimates of the rows, 64 at a time, in order. Larger images are cut to their middle."""
    for start in range(0, len(cutouts), CHUNK):
        part = slice(start, start + CHUNK)
        images = centre(cutouts.images[part])
        yield columns(model.estimate(images, cutouts.magnitudes[part].astype(np.float32)))
        step(len(images))


def estimate_all(model: Model, cutouts: Cutouts, step: Step = unseen) -> Columns:
    """Estimates of all rows, by name of the field of `Estimates`."""
    parts = list(chunks(model, cutouts, step))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def without_magnitudes(cutouts: Cutouts) -> Cutouts:
    """The same rows with all magnitudes withheld: they are measured in the stamp instead."""
    return replace(cutouts, magnitudes=np.full_like(cutouts.magnitudes, np.nan, dtype=np.float32))
