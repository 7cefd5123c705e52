"""Metrics, on cases that can be counted by hand."""

import numpy as np
import pytest

from workers.evaluation.metrics import binomial, bootstrap, coverage, nmad, point_metrics


def test_metrics_of_three_estimates():
    true, estimated = np.array([0.0, 1.0, 3.0]), np.array([0.1, 1.0, 2.0])
    assert point_metrics(estimated, true) == pytest.approx(
        {
            "n": 3,
            "mae": 1.1 / 3,
            "rmse": (1.01 / 3) ** 0.5,
            "bias": 0.0,  # dz = 0.1, 0, -0.25
            "bias_mean": -0.05,
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


def test_one_redshift_for_all_leaves_nothing_to_explain():
    assert np.isnan(point_metrics(np.array([1.0, 1.2]), np.array([1.0, 1.0]))["r2"])


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


def test_rows_of_one_object_are_drawn_together():
    rng = np.random.default_rng(1)
    # 50 objects with 8 rows each that err alike: as much is known as from 50 rows.
    dz = np.repeat(rng.normal(0, 0.02, 50), 8)
    true, group = rng.uniform(0, 2, 400), np.repeat(np.arange(50), 8)
    estimated = true + dz * (1 + true)

    def width(name, group):
        low, high = bootstrap(estimated, true, group, draws=400)[name]
        return high - low

    for name in ("nmad_95", "bias_95"):
        assert width(name, group) > 1.8 * width(name, None)
    single = bootstrap(estimated[::8], true[::8], draws=400)
    assert width("nmad_95", group) == pytest.approx(np.ptp(single["nmad_95"]), rel=0.2)


def test_groups_may_have_any_numbers_and_any_order():
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 2, 60)
    estimated = true + rng.normal(0, 0.1, 60)
    group = np.repeat(np.arange(20), 3)
    order = np.random.default_rng(2).permutation(60)
    straight = bootstrap(estimated, true, group, draws=200)
    shuffled = bootstrap(estimated[order], true[order], -7 * group[order], draws=200)
    for name, (low, high) in straight.items():
        assert shuffled[name] == pytest.approx([low, high], abs=0.5 * (high - low)), name


def test_every_draw_has_as_many_groups_as_there_are():
    # One group of one row, one of three: the mean size of four draws of two is 2 to 6 rows.
    true, estimated = np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0])
    found = bootstrap(estimated, true, np.array([0, 1, 1, 1]), draws=2000)
    # All of the lone row, none of it, or one of four rows.
    assert found["mae_95"] == [0.0, 1.0]


def test_the_interval_of_a_share_is_wilsons():
    low, high = binomial(0.9, 10)
    assert (low, high) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert binomial(1.0, 20)[1] == pytest.approx(1)
