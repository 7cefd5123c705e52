"""p(z) on the grid: what is put in is read off."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax
from scipy.stats import norm

from workers.density import Grid, density, recalibrate

GRID = Grid(400, 6.0)
FRACTIONS = (0.025, 0.16, 0.5, 0.84, 0.975)


def places(z, grid=GRID):
    """Redshifts as places on the grid, by the definition: uniform in ln(1 + z)."""
    return np.log1p(np.asarray(z)) / (math.log1p(grid.z_max) / grid.bins)


def test_the_grid_reaches_from_nothing_to_its_end():
    middles = places(GRID.middles())
    np.testing.assert_allclose(middles, np.arange(400) + 0.5)
    np.testing.assert_allclose(places(6.0), 400)


@pytest.mark.parametrize("one", [0, 17, 399])
def test_a_density_in_one_bin_is_spread_over_that_bin(one):
    p = np.zeros((1, 400), np.float32)
    p[0, one] = 1
    np.testing.assert_allclose(places(GRID.quantiles(p, FRACTIONS)), [one + np.array(FRACTIONS)])


def test_quantiles_of_a_uniform_density_are_evenly_spaced():
    p = np.full((2, 400), 1 / 400, np.float32)
    expected = [400 * np.array(FRACTIONS)] * 2
    np.testing.assert_allclose(places(GRID.quantiles(p, FRACTIONS)), expected, rtol=1e-4)


@pytest.mark.parametrize(("mean", "deviation"), [(200, 20), (120.3, 5), (330, 2)])
def test_quantiles_of_a_normal_are_those_of_the_normal(mean, deviation):
    edges = norm.cdf(np.arange(401), mean, deviation)
    p = np.diff(edges).astype(np.float32)[None]
    found = places(GRID.quantiles(p, FRACTIONS))[0]
    # Within a bin the density is flat, so a narrow normal is a little off.
    np.testing.assert_allclose(found, norm.ppf(FRACTIONS, mean, deviation), atol=0.05)


def test_quantiles_of_each_row_are_its_own():
    p = softmax(np.random.default_rng(1).normal(size=(5, 400)), axis=1).astype(np.float32)
    together = GRID.quantiles(p, FRACTIONS)
    alone = np.concatenate([GRID.quantiles(row[None], FRACTIONS) for row in p])
    assert np.array_equal(together, alone)


LOGITS = hnp.arrays(
    np.float32, (3, 50), elements=st.floats(-80, 80, width=32, allow_subnormal=False)
)


@settings(max_examples=200, deadline=None)
@given(logits=LOGITS, fractions=st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_quantiles_rise_with_the_fraction_and_stay_on_the_grid(logits, fractions):
    grid = Grid(50, 3.0)
    z = grid.quantiles(softmax(logits, axis=1), sorted(fractions))
    assert (np.diff(z, axis=1) >= 0).all()
    assert (z >= 0).all() and (z <= 3.0 + 1e-9).all()


@settings(max_examples=200, deadline=None)
@given(logits=LOGITS, fraction=st.floats(0.01, 0.99))
def test_a_quantile_has_its_share_of_the_density_below_it(logits, fraction):
    grid = Grid(50, 3.0)
    p = softmax(logits, axis=1)
    at = places(grid.quantiles(p, (fraction,)), grid)[:, 0]
    for row, place in zip(p.astype(np.float64), at, strict=True):
        share = np.interp(place, np.arange(51), np.concatenate([[0], np.cumsum(row)]))
        assert share == pytest.approx(fraction, abs=1e-5)


@pytest.mark.parametrize("width", [0.5, 1.5, 4.0])
def test_a_smooth_label_sums_to_one_and_peaks_where_the_redshift_is(width):
    positions = GRID.position(np.array([0.0, 0.1, 0.731, 2.9, 5.4, 6.0, 9.0]))
    label = GRID.smooth(positions, width)
    np.testing.assert_allclose(label.sum(axis=1), 1, rtol=1e-5)
    assert label.argmax(axis=1).tolist() == positions.astype(int).tolist()


@pytest.mark.parametrize("position", [100.0, 100.25, 100.5])
def test_a_smooth_label_has_the_asked_middle_and_width(position):
    label = GRID.smooth(np.array([position]), 2.0)[0].astype(np.float64)
    middles = np.arange(400) + 0.5
    mean = label @ middles
    assert mean == pytest.approx(position, abs=1e-4)
    assert np.sqrt(label @ (middles - mean) ** 2) == pytest.approx(2.0, abs=1e-3)


@settings(max_examples=200, deadline=None)
@given(z=st.floats(-0.875, 100, width=32))
def test_every_redshift_has_a_place_on_the_grid(z):
    position = GRID.position(np.array([z])).item()
    assert 0 <= position < 400
    if 0 <= z <= 5.99:
        assert position == pytest.approx(places(z), abs=1e-3)


def test_redshifts_off_the_grid_count_as_its_ends():
    below, end, beyond = GRID.position(np.array([-0.01, 6.0, 50.0])).tolist()
    assert below == 0
    assert int(end) == int(beyond) == 399


def test_the_density_of_one_view_is_its_softmax():
    logits = np.array([[0.0, math.log(3.0), 0.0]])
    np.testing.assert_allclose(density([logits], 1.0), [[0.2, 0.6, 0.2]], rtol=1e-6)


def test_a_temperature_of_two_takes_the_square_root_of_every_odds():
    logits = np.array([[0.0, math.log(9.0), 0.0]])
    np.testing.assert_allclose(density([logits], 2.0), [[0.2, 0.6, 0.2]], rtol=1e-6)


def test_views_count_alike_however_sure_they_are():
    sure, unsure = np.array([[100.0, 0.0]]), np.array([[0.0, 0.0]])
    np.testing.assert_allclose(density([sure, unsure], 1.0), [[0.75, 0.25]], rtol=1e-6)


def some_density(n=6):
    return softmax(3 * np.random.default_rng(2).normal(size=(n, 50)), axis=1).astype(np.float32)


@pytest.mark.parametrize("table", [(), (0.0, 1.0), tuple(np.linspace(0, 1, 129))])
def test_a_map_that_changes_nothing_leaves_the_density_as_it_is(table):
    np.testing.assert_allclose(recalibrate(some_density(), table), some_density(), atol=1e-7)


def test_a_recalibrated_density_has_the_mapped_cumulative_probability():
    table, p = np.linspace(0, 1, 21) ** 2, some_density()
    found = np.cumsum(recalibrate(p, table), axis=1, dtype=np.float64)
    expected = np.interp(np.cumsum(p, axis=1, dtype=np.float64), np.linspace(0, 1, 21), table)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(logits=LOGITS, steps=st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_a_recalibrated_density_is_one(logits, steps):
    table = np.concatenate([[0.0], np.cumsum(np.array(steps) + 1e-3)])
    found = recalibrate(softmax(logits, axis=1), tuple(table / table[-1]))
    assert found.dtype == np.float32 and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_a_map_that_favours_the_middle_narrows_the_density():
    p = GRID.smooth(np.array([200.3]), 20.0)
    narrow = recalibrate(p, tuple(norm.cdf(1.5 * norm.ppf(np.linspace(0, 1, 129)))))
    before, after = (np.diff(places(GRID.quantiles(each, (0.16, 0.84)))) for each in (p, narrow))
    assert after / before == pytest.approx(1 / 1.5, rel=0.02)
