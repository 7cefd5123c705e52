"""Metrics, on cases that can be counted by hand."""

import numpy as np
import pytest

from workers.training.metrics import bootstrap, coverage, nmad, point_metrics


def test_metrics_of_three_estimates():
    true, estimated = np.array([0.0, 1.0, 3.0]), np.array([0.1, 1.0, 2.0])
    assert point_metrics(estimated, true) == pytest.approx(
        {
            "n": 3,
            "mae": 1.1 / 3,
            "bias": 0.0,  # dz = 0.1, 0, -0.25
            "nmad": 0.14826,
            "outliers": 1 / 3,
            "r2": 1 - 1.01 / (42 / 9),
        }
    )


def test_a_bias_is_the_median_and_does_not_widen_the_nmad():
    true = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    estimated = true + (1 + true) * np.array([0.05, 0.06, 0.04, 0.05, 3.0])
    found = point_metrics(estimated, true)
    assert found["bias"] == pytest.approx(0.05)
    assert found["nmad"] == pytest.approx(0.014826)
    assert found["outliers"] == pytest.approx(0.2)


def test_the_nmad_of_a_normal_is_its_deviation():
    dz = np.random.default_rng(1).normal(0.3, 0.02, 100_000)
    assert nmad(dz) == pytest.approx(0.02, rel=0.02)


def test_coverage_is_the_share_inside_ends_included():
    low, high = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert coverage(low, high, np.array([0.0, 2.0, 3.5, 2.9])) == 0.5


def test_a_bootstrap_gives_the_interval_that_statistics_asks_for():
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 2, 400)
    dz = np.where(np.arange(400) < 80, 0.5, rng.normal(0, 0.02, 400))
    found = bootstrap(true + dz * (1 + true), true, draws=400)
    deviation = np.sqrt(0.2 * 0.8 / 400)
    assert found["outliers_95"] == pytest.approx(
        [0.2 - 1.96 * deviation, 0.2 + 1.96 * deviation], abs=0.01
    )
    low, high = found["nmad_95"]
    assert low < nmad(dz) < high < low + 0.015


def test_a_bootstrap_gives_the_same_interval_again():
    true = np.linspace(0, 2, 50)
    estimated = true + np.random.default_rng(1).normal(0, 0.1, 50)
    first, again = (bootstrap(estimated, true, draws=50) for _ in range(2))
    assert first == again
    assert bootstrap(estimated, true, draws=50, seed=2) != first
