"""Simple estimators: what they are given, and that they learn."""

import sys

import numpy as np
import pytest

from workers.errors import DataError
from workers.evaluation.baselines import (
    APERTURES,
    aperture_features,
    aperture_fluxes,
    compare,
    magnitude_features,
)


def test_an_aperture_holds_its_area_of_a_flat_image():
    fluxes = aperture_fluxes(np.full((2, 5, 32, 32), 2.0, np.float32))
    assert fluxes.shape == (2, len(APERTURES), 5)
    np.testing.assert_allclose(fluxes[0, :, 0], 2 * np.pi * np.square(APERTURES), rtol=0.02)


def test_a_point_in_the_middle_is_in_every_aperture_whatever_the_size_of_the_image():
    images = np.zeros((1, 5, 64, 64), np.float32)
    images[0, :, 31:33, 31:33] = 1.0
    np.testing.assert_allclose(aperture_fluxes(images), 4.0, rtol=0.01)
    np.testing.assert_array_equal(
        aperture_fluxes(images[..., 16:48, 16:48]), aperture_fluxes(images)
    )


def test_colours_in_apertures_are_those_of_the_source():
    magnitudes = np.array([20.0, 19.0, 18.5, 18.3, 18.2])
    images = np.zeros((1, 5, 32, 32), np.float32)
    images[0, :, 15:17, 15:17] = (10 ** (0.4 * (22.5 - magnitudes)) / 4)[:, None, None]
    features = aperture_features(images)[0]
    n = len(APERTURES)
    np.testing.assert_allclose(features[:4], [1.0, 0.5, 0.2, 0.1], atol=0.02)
    np.testing.assert_allclose(features[4 * n : 5 * n], 18.5, atol=0.02)
    np.testing.assert_allclose(features[5 * n :], 0, atol=0.02)
    assert len(features) == 9 * n - 4


def test_magnitudes_that_are_not_there_are_still_numbers():
    magnitudes = np.array([[np.nan, 19.0, 18.0, 17.5, np.nan]])
    features = magnitude_features(magnitudes)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features[0], [11.0, 1.0, 0.5, -12.5, 18.0])


def test_the_mean_is_that_of_the_training_rows(some_rows):
    rows = some_rows(60)
    train, test = rows.rows(np.arange(40)), rows.rows(np.arange(40, 60))
    found = compare(train, test)
    assert found["mean of the training set"] == pytest.approx(np.full(20, train.z.mean()))
    assert all(len(each) == 20 for each in found.values())


def test_the_same_seed_grows_the_same_forest(some_rows):
    rows = some_rows(60)
    first, again = (compare(rows, rows)["forest on magnitudes"] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_without_scikit_learn_the_message_says_what_to_install(some_rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(DataError, match="lookback\\[train\\]"):
        compare(some_rows(10), some_rows(10))
