"""Recalibration makes p(z) mean what it says."""

import numpy as np
import pytest
from scipy.stats import kstest

from workers.density import Grid, density, recalibrate
from workers.evaluation.pdf import edges_of, pit
from workers.training.calibrate import table, temperature

GRID = Grid(200, 3.0)
EDGES = edges_of(GRID)


def believed(n, *, claimed, true, shift=0.0, seed=1):
    """Logits of normals of width `claimed` (in bins), and redshifts that scatter by `true`."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(60, 140, n)
    bins = np.arange(GRID.bins) + 0.5
    logits = -0.5 * ((bins - centre[:, None]) / claimed) ** 2
    place = centre + shift + true * rng.normal(size=n)
    return logits.astype(np.float32), np.expm1(place * GRID.step)


def test_the_temperature_widens_what_is_too_sure():
    logits, z = believed(4000, claimed=4, true=8)
    # The variance of a normal grows with the temperature: (8 / 4) squared, but 3 is the most.
    assert temperature([logits], GRID, z) == pytest.approx(3.0, abs=0.05)
    logits, z = believed(4000, claimed=8, true=8)
    assert temperature([logits], GRID, z) == pytest.approx(1.0, abs=0.1)


def test_the_probability_integral_transform_of_what_is_right_is_uniform():
    logits, z = believed(4000, claimed=8, true=8)
    assert kstest(pit(density([logits], 1.0), EDGES, z), "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    "wrong",
    [{"claimed": 8, "true": 5}, {"claimed": 6, "true": 9}, {"claimed": 8, "true": 8, "shift": 4}],
)
def test_the_map_makes_rows_uniform_that_it_was_not_fitted_on(wrong):
    logits, z = believed(2000, **wrong)
    knots = table(pit(density([logits], 1.0), EDGES, z))
    assert knots[0] == 0 and knots[-1] == 1 and (np.diff(knots) >= 0).all()
    logits, z = believed(2000, **wrong, seed=2)
    before = pit(density([logits], 1.0), EDGES, z)
    after = pit(recalibrate(density([logits], 1.0), knots), EDGES, z)
    assert kstest(before, "uniform").pvalue < 1e-6
    assert kstest(after, "uniform").pvalue > 0.001
