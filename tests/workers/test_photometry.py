"""A magnitude that is no measurement is measured in the stamp; one that is, is left alone."""

import numpy as np
import pytest

from workers.photometry import FAINTEST, asinh_magnitudes, complete, measure, unmeasured
from workers.training.render import render

GIVEN = np.array([[20.0, 19.0, 18.5, 18.25, 18.125]], np.float32)


def star(*magnitudes):
    """A point source: most of its light is inside of the aperture."""
    return render(np.array([magnitudes]), None, np.random.default_rng(1), size=32)


@pytest.mark.parametrize("magnitude", [14.0, 17.0, 19.0])
def test_a_bright_flux_has_its_usual_magnitude(magnitude):
    flux = np.full((1, 5), 10 ** (0.4 * (22.5 - magnitude)))
    np.testing.assert_allclose(asinh_magnitudes(flux), magnitude, atol=0.005)


def test_no_flux_at_all_has_the_magnitude_that_sdss_gives_for_it():
    """Table of zero-flux magnitudes in the survey's documentation of its asinh magnitudes."""
    nothing = asinh_magnitudes(np.zeros((1, 5)))
    np.testing.assert_allclose(nothing, [[24.63, 25.11, 24.80, 24.36, 22.83]], atol=0.01)


def test_less_flux_is_fainter_even_below_zero():
    flux = np.repeat([[100.0], [1.0], [0.1], [0.0], [-0.1], [-10.0]], 5, axis=1)
    assert (np.diff(asinh_magnitudes(flux), axis=0) > 0).all()


@pytest.mark.parametrize("magnitudes", [(17, 16, 15.5, 15.2, 15.1), (20, 18, 17, 16.5, 16.2)])
def test_a_point_source_is_measured_to_a_tenth_of_a_magnitude(magnitudes):
    np.testing.assert_allclose(measure(star(*magnitudes)), [magnitudes], atol=0.1)


def test_a_neighbour_outside_of_the_middle_is_not_measured():
    image = star(17, 16, 15.5, 15.2, 15.1)
    crowded = image.copy()
    crowded[:, :, :8] += 1000
    crowded[:, :, :, :8] += 1000
    assert np.array_equal(measure(crowded), measure(image))


@pytest.mark.parametrize("larger", [40, 64])
def test_the_frame_around_the_middle_changes_nothing(larger):
    image = star(17, 16, 15.5, 15.2, 15.1)
    margin = (larger - 32) // 2
    padded = np.pad(image, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    np.testing.assert_allclose(measure(padded), measure(image), rtol=1e-6)


@pytest.mark.parametrize("band", range(5))
@pytest.mark.parametrize("value", ["nan", "beyond"])
def test_one_band_that_is_no_measurement_is_replaced_alone(band, value):
    image = star(17, 16, 15.5, 15.2, 15.1)
    magnitudes = GIVEN.repeat(2, axis=0)
    magnitudes[1, band] = np.nan if value == "nan" else FAINTEST[band] + 0.01
    before = magnitudes.copy()
    found = complete(magnitudes, image.repeat(2, axis=0))
    expected = GIVEN.repeat(2, axis=0)
    expected[1, band] = measure(image)[0, band]
    assert np.array_equal(found, expected)
    assert np.array_equal(magnitudes, before, equal_nan=True)


def test_what_is_measured_by_others_is_left_alone():
    faint = np.array([FAINTEST], np.float32)
    given = np.concatenate([GIVEN, faint])
    assert not unmeasured(given).any()
    assert np.array_equal(complete(given, np.zeros((2, 5, 32, 32), np.float32)), given)
