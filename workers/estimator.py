"""From stamps to redshifts: transform, engine, density, quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workers.density import Grid, density
from workers.engine import Engine
from workers.photometry import complete, unmeasured
from workers.quality import flags
from workers.weights import Config, Identity, identify, load

Floats = NDArray[np.float64]

_FRACTIONS = (0.025, 0.16, 0.5, 0.84, 0.975)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Redshifts of n items; every field is an array [n]. See `workers.wire.Estimate`."""

    z_median: Floats
    z_mean: Floats
    z_mode: Floats
    z_err68_low: Floats
    z_err68_high: Floats
    z_err95_low: Floats
    z_err95_high: Floats
    quality_flag: NDArray[np.int64]


class Estimator:
    """A model that is loaded and warm."""

    def __init__(self, engine: Engine, config: Config, identity: Identity) -> None:
        self._engine, self._config = engine, config
        self._grid = Grid(config.bins, config.z_max)
        self._middles = self._grid.middles()
        self.name, self.version = identity.name, identity.version
        self.sha256, self.calibration_id = identity.sha256, identity.calibration_id

    @classmethod
    def load(cls, path: Path | None = None, threads: int = 1) -> Estimator:
        """Load weights (None: the shipped ones) and run once, so that the first item is fast.

        Raises:
            WeightsError: the file cannot be used.
        """
        torch.set_num_threads(threads)
        model, config = load(path)
        estimator = cls(Engine(model), config, identify(path))
        estimator.estimate(np.zeros((1, 5, 32, 32), np.float32), np.full((1, 5), 20, np.float32))
        return estimator

    def estimate(self, images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> Estimates:
        """Estimate redshifts of `images` [n, 5, 32, 32] (nanomaggies) and `magnitudes` [n, 5].

        Magnitudes that are NaN, or no measurement, are measured in the images.
        """
        pixels, given = _tensor(images), _tensor(magnitudes)
        completed = complete(given, pixels)
        p = self._density(pixels, completed)
        z = self._grid.quantiles(p, _FRACTIONS).numpy().T
        low95, low68, median, high68, high95 = z
        mode = self._middles[p.argmax(dim=1)].numpy()
        mean = (p.double() @ self._middles).numpy()
        flagged = flags(
            low68,
            high68,
            high95,
            mode,
            median,
            completed.numpy(),
            unmeasured(given).numpy(),
            self._config,
        )
        return Estimates(median, mean, mode, low68, high68, low95, high95, flagged)

    @torch.inference_mode()
    def _density(self, images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
        """p(z) [n, bins] on the grid of the weights."""
        transform = self._config.transform
        inputs = transform.images(images), transform.magnitudes(magnitudes)
        if not self._config.magnitudes_alone:
            return density([self._engine(*inputs)], self._config.temperature)
        return density(self._engine.both(*inputs), self._config.temperature)


def _tensor(array: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
