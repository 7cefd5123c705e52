"""A model whose errors are known, and rows of a data set for it."""

import numpy as np
import pytest

from workers.density import Grid
from workers.estimator import Estimates
from workers.training.cutouts import Cutouts


class Model:
    """Finds in the first pixel which row it is, and says a redshift that is wrong by a normal.

    p(z) is that normal. Rows without magnitudes are flagged (16), and off by three times as much.
    """

    name, version, sha256, calibration_id = "known", "2", "ab" * 32, "none"

    def __init__(self, z, bins=300, width=0.03):
        self.grid, self.width = Grid(bins, 6.0), width * (1 + z)
        self.edges = np.expm1(np.linspace(0, np.log(7), bins + 1))
        self.error = np.random.default_rng(5).normal(size=len(z)) * self.width
        self.z, self.asked = z, 0

    @property
    def truth(self):
        """What it says about all rows."""
        return self.z + self.error

    def estimate(self, images, magnitudes):
        assert images.shape[1:] == (5, 32, 32)
        rows = np.round(images[:, 0, 0, 0]).astype(int)
        self.asked += len(rows)
        bare = np.isnan(magnitudes).any(axis=1)
        z, width = self.z[rows] + self.error[rows] * np.where(bare, 3, 1), self.width[rows]
        flag, score = np.where(bare, 16, 0), np.where(rows % 10 == 0, 0.96, 0.2).astype(np.float32)
        if self.grid.bins == 1:
            nan = np.full(len(z), np.nan)
            return Estimates(
                z, z, z, nan, nan, nan, nan, flag, np.empty((len(z), 0), np.float32), nan
            )
        p = np.exp(-0.5 * ((self.grid.middles() - z[:, None]) / width[:, None]) ** 2)
        p = p * np.diff(self.edges)
        p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
        low95, high95, low68, high68 = (z + k * width for k in (-1.96, 1.96, -1, 1))
        return Estimates(z, z, z, low68, high68, low95, high95, flag, p, score)


@pytest.fixture(scope="module")
def redshifts():
    return np.random.default_rng(3).uniform(1.0, 4.0, 600)


@pytest.fixture(scope="module")
def model(redshifts):
    return Model(redshifts)


@pytest.fixture(scope="module")
def point_model(redshifts):
    return Model(redshifts, bins=1)


@pytest.fixture(scope="module")
def some_rows(redshifts):
    """Makes the first n of 600 rows: two of a group, quasars with every fifth one simulated."""

    def make(n, size=32, kind="quasar"):
        middle = (size - 32) // 2
        images = np.zeros((n, 5, size, size), np.float32)
        images[:, 0, middle, middle] = np.arange(n)
        rng = np.random.default_rng(4)
        magnitudes = rng.normal(19, 1, (n, 1)) + 0.3 * redshifts[:n, None] * np.arange(5)[::-1]
        return Cutouts(
            images,
            magnitudes.astype(np.float32),
            redshifts[:n].copy(),
            np.arange(n) // 2,
            np.full(n, kind),
            np.arange(n) % 10 >= 8,
        )

    return make
