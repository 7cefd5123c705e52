"""From stamps to redshifts: transform, engine, density, domain, quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers import engine as engines
from workers.density import Grid, density, recalibrate
from workers.domain import PREFIX, Domain
from workers.engine import Engine
from workers.errors import WeightsError
from workers.photometry import complete, unmeasured
from workers.quality import flags
from workers.weights import Config, Identity, find, identify, load

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_FRACTIONS = (0.025, 0.16, 0.5, 0.84, 0.975)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Redshifts of n items; arrays [n], but for `pz`. See `workers.wire.Estimate`.

    `pz` [n, bins] is the probability in each bin of `Estimator.grid`. A model that gives a
    redshift and no density (one output) has no bins and no intervals: those are NaN.

    `out_of_domain`: share of good rows that look more ordinary, 0 usual to 1 foreign; NaN if the
    weights do not say.
    """

    z_median: Floats
    z_mean: Floats
    z_mode: Floats
    z_err68_low: Floats
    z_err68_high: Floats
    z_err95_low: Floats
    z_err95_high: Floats
    quality_flag: NDArray[np.int64]
    pz: Singles
    out_of_domain: Singles


class Estimator:
    """A model that is loaded and warm."""

    def __init__(
        self, engine: Engine, config: Config, identity: Identity, domain: Domain | None = None
    ) -> None:
        self._engine, self._config, self._domain = engine, config, domain
        self.grid = Grid(config.bins, config.z_max)
        self._middles = self.grid.middles()
        self.name, self.version = identity.name, identity.version
        self.sha256, self.calibration_id = identity.sha256, identity.calibration_id
        self.reference = config.reference

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        threads: int = 1,
        engine: engines.Name = "auto",
        precision: engines.Precision = "float32",
    ) -> Estimator:
        """Load weights (see `workers.weights.find`) and run once, so that the first item is fast.

        Raises:
            WeightsError: the file cannot be used.
            WorkerError: this machine cannot run the engine.
        """
        path = find(path)
        tensors, config = load(path)
        try:
            model = engines.create(tensors, engine, threads=threads, precision=precision)
        except (KeyError, ValueError, RuntimeError) as error:
            raise _unfit(path, " ".join(str(error).split())[:200]) from error
        if model.outputs != config.bins:
            raise _unfit(path, f"{model.outputs} outputs for {config.bins} bins")
        domain = Domain.of(tensors) if f"{PREFIX}mean" in tensors else None
        estimator = cls(model, config, identify(path), domain)
        estimator.estimate(np.zeros((1, 5, 32, 32), np.float32), np.full((1, 5), 20, np.float32))
        return estimator

    def estimate(self, images: Singles, magnitudes: Singles) -> Estimates:
        """Estimate redshifts of `images` [n, 5, 32, 32] (nanomaggies) and `magnitudes` [n, 5].

        Magnitudes that are NaN, or no measurement, are measured in the images.
        """
        pixels, given = (np.ascontiguousarray(each, np.float32) for each in (images, magnitudes))
        completed = complete(given, pixels)
        views = self._views(pixels, completed)
        if self._config.bins == 1:
            z, mean, mode, p = _points(views)
        else:
            z, mean, mode, p = self._read_off(views)
        low95, low68, median, high68, high95 = z
        foreign = self._foreign(pixels, given)
        flagged = flags(
            low68, high68, high95, mode, median, completed, unmeasured(given), foreign, self._config
        )
        return Estimates(median, mean, mode, low68, high68, low95, high95, flagged, p, foreign)

    def _views(self, images: Singles, magnitudes: Singles) -> tuple[Singles, ...]:
        """What the model says [n, bins]: with the image, and where wanted with it hidden."""
        transform = self._config.transform
        inputs = transform.images(images), transform.magnitudes(magnitudes)
        if self._config.magnitudes_alone:
            return self._engine.both(*inputs)
        return (self._engine(*inputs),)

    def _read_off(self, views: tuple[Singles, ...]) -> tuple[Floats, Floats, Floats, Singles]:
        """Quantiles [5, n], mean and mode [n], and p(z) [n, bins] of logits."""
        p = recalibrate(density(views, self._config.temperature), self._config.calibration)
        quantiles = self.grid.quantiles(p, _FRACTIONS).T
        return quantiles, p.astype(np.float64) @ self._middles, self._middles[p.argmax(axis=1)], p

    def _foreign(self, images: Singles, magnitudes: Singles) -> Singles:
        """Out-of-domain score [n] of what came in, as it came in."""
        if self._domain is None:
            return np.full(len(images), np.nan, np.float32)
        return self._domain.score(images, magnitudes)


def _points(views: tuple[Singles, ...]) -> tuple[Floats, Floats, Floats, Singles]:
    """As `Estimator._read_off`, of a model whose one output is the redshift."""
    z: Floats = np.stack(views)[..., 0].mean(axis=0, dtype=np.float64)
    quantiles = np.full((len(_FRACTIONS), len(z)), np.nan)
    quantiles[_FRACTIONS.index(0.5)] = z
    return quantiles, z, z, np.empty((len(z), 0), np.float32)


def _unfit(path: Path, why: str) -> WeightsError:
    return WeightsError(
        f"weights {path} do not fit the model ({why}); `lookback train` writes ones that do"
    )
