"""Scores of p(z), on densities of which the answer is known."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from workers.density import Grid
from workers.evaluation import pdf

GRID = Grid(400, 6.0)
EDGES = pdf.edges_of(GRID)


def normals(middle, width):
    """Normal p(z) [n, 400] around redshifts [n]."""
    below = norm.cdf(EDGES[None, :], np.asarray(middle)[:, None], width)
    return np.diff(below, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def truthful():
    """Truths that are drawn from what p(z) says, and p(z)."""
    rng = np.random.default_rng(1)
    middle = rng.uniform(1.5, 3, 4000)
    return normals(middle, 0.2), rng.normal(middle, 0.2)


def test_edges_lie_around_the_middles_of_the_grid():
    assert (EDGES[0], EDGES[-1]) == pytest.approx((0, 6.0))
    assert ((EDGES[:-1] < GRID.middles()) & (GRID.middles() < EDGES[1:])).all()


def test_the_pit_is_the_share_below_the_truth():
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    p = np.array([[0.2, 0.5, 0.3]] * 5)
    found = pdf.pit(p, edges, np.array([0.0, 0.5, 1.5, 3.0, 9.0]))
    assert found == pytest.approx([0.0, 0.1, 0.45, 0.85, 1.0])


def test_the_pit_at_a_quantile_of_the_grid_is_its_fraction():
    p = normals([2.0, 0.8], 0.3)
    fractions = (0.025, 0.16, 0.5, 0.84, 0.975)
    for row, quantiles in enumerate(GRID.quantiles(p, fractions)):
        found = pdf.pit(np.repeat(p[row : row + 1], 5, axis=0), EDGES, quantiles)
        # The grid's quantiles take p as flat in ln(1 + z), these in z.
        assert found == pytest.approx(fractions, abs=1e-4)


def test_pit_values_of_the_truth_are_uniform_and_decide_by_kolmogorov_smirnov(truthful):
    found = pdf.uniformity(pdf.pit(*_with_edges(truthful)))
    assert found["uniform"]
    assert found["ks_p"] > 0.01
    assert found["ks"] < 0.03
    assert found["cvm_p"] > 0.01
    assert sum(found["histogram"]) == pytest.approx(1)
    assert len(found["histogram"]) == pdf.PIT_BINS


@pytest.mark.parametrize(("width", "edge"), [(0.12, "high"), (0.35, "low")])
def test_too_narrow_and_too_broad_densities_are_not_uniform(truthful, width, edge):
    _, true = truthful
    middle = np.random.default_rng(1).uniform(1.5, 3, 4000)
    found = pdf.uniformity(pdf.pit(normals(middle, width), EDGES, true))
    assert not found["uniform"]
    outermost, inner = found["histogram"][0], found["histogram"][10]
    assert (outermost > inner) == (edge == "high")


def test_observed_coverage_of_the_truth_is_the_nominal_one(truthful):
    values = pdf.pit(*_with_edges(truthful))
    nominal = np.array([0.0, 0.3, 0.68, 0.95, 1.0])
    assert pdf.central(values, nominal) == pytest.approx(nominal, abs=0.03)


def test_crps_of_a_normal_is_the_known_one():
    true = np.array([2.0, 2.1, 1.5, 2.6])
    found = pdf.crps(normals([2.0] * 4, 0.2), EDGES, true)
    # Gneiting & Raftery 2007, eq. 21
    u = (true - 2.0) / 0.2
    expected = 0.2 * (u * (2 * norm.cdf(u) - 1) + 2 * norm.pdf(u) - 1 / np.sqrt(np.pi))
    assert found == pytest.approx(expected, abs=1e-4)  # F is straight within a bin


def test_crps_is_the_integral_that_defines_it():
    edges = np.array([0.0, 0.7, 1.0, 2.5])
    p = np.array([[0.5, 0.2, 0.3]])
    cumulative = np.array([0.0, 0.5, 0.7, 1.0])
    for true in (0.1, 0.7, 0.95, 2.4):
        expected = sum(
            quad(lambda z, at=true: (np.interp(z, edges, cumulative) - (z >= at)) ** 2, a, b)[0]
            for a, b in _pieces(edges, true)
        )
        assert pdf.crps(p, edges, np.array([true])) == pytest.approx([expected], abs=1e-8)


def test_crps_outside_of_the_grid_grows_with_the_distance():
    edges, p = np.array([0.0, 1.0, 2.0]), np.array([[0.0, 1.0]] * 3)
    inside, outside, further = pdf.crps(p, edges, np.array([2.0, 3.0, 4.0]))
    assert outside - inside == pytest.approx(1)
    assert further - outside == pytest.approx(1)


def test_crps_is_the_same_in_one_piece_and_in_many(monkeypatch, truthful):
    p, true = truthful
    whole = pdf.crps(p[:50], EDGES, true[:50])
    monkeypatch.setattr(pdf, "_ROWS", 7)
    np.testing.assert_array_equal(pdf.crps(p[:50], EDGES, true[:50]), whole)


def test_the_log_score_is_the_log_of_the_density(truthful):
    found = pdf.log_score(*_with_edges(truthful))
    # Minus the entropy of a normal.
    assert found.mean() == pytest.approx(-0.5 * np.log(2 * np.pi * np.e * 0.04), abs=0.03)


def test_the_log_score_of_what_was_thought_impossible_is_finite():
    edges, p = np.array([0.0, 1.0, 3.0]), np.array([[1.0, 0.0], [1.0, 0.0]])
    found = pdf.log_score(p, edges, np.array([2.0, 8.0]))
    assert found == pytest.approx([np.log(pdf.LEAST / 2)] * 2)


def test_the_cde_loss_is_the_known_one_and_least_for_the_truth(truthful):
    p, true = truthful
    best = pdf.cde_loss(p, EDGES, true)
    # Of a normal: the integral of its square, with the other sign.
    assert best == pytest.approx(-1 / (2 * 0.2 * np.sqrt(np.pi)), rel=0.03)
    middle = np.random.default_rng(1).uniform(1.5, 3, 4000)
    for width in (0.12, 0.35):
        assert pdf.cde_loss(normals(middle, width), EDGES, true) > best


def test_every_score_is_best_for_the_truth(truthful):
    p, true = truthful
    middle = np.random.default_rng(1).uniform(1.5, 3, 4000)
    for width in (0.12, 0.35):
        other = normals(middle, width)
        assert pdf.crps(other, EDGES, true).mean() > pdf.crps(p, EDGES, true).mean()
        assert pdf.log_score(other, EDGES, true).mean() < pdf.log_score(p, EDGES, true).mean()


def _with_edges(truthful):
    p, true = truthful
    return p, EDGES, true


def _pieces(edges, true):
    ends = np.unique([*edges, true])
    return pairwise(ends)
