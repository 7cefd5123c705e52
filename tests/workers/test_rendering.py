"""Rendered galaxies and quasars carry the light of their magnitudes, in the middle, repeatably."""

import numpy as np
import pytest

from workers.training.population import Population
from workers.training.render import PIXEL_ARCSEC, render, render_galaxies

BLUE = (15.6, 15.1, 14.9, 14.8, 14.7)
RED = (17.0, 15.2, 14.4, 14.1, 13.9)


def flux(magnitudes):
    return 10 ** (0.4 * (22.5 - np.asarray(magnitudes)))


def rendered(magnitudes, radius, *, n=1, size=160, seed=1):
    radii = None if radius is None else np.full(n, radius)
    return render(np.array([magnitudes] * n), radii, np.random.default_rng(seed), size=size)


@pytest.mark.parametrize(
    ("magnitudes", "radius"),
    [(BLUE, 3.0), (RED, 3.0), (BLUE, 0.5), (RED, 0.5), (BLUE, None), (RED, None)],
    ids=["blue", "red", "small blue", "small red", "blue point", "red point"],
)
def test_the_pixels_sum_up_to_the_magnitudes(magnitudes, radius):
    image = rendered(magnitudes, radius)[0]
    assert image.shape == (5, 160, 160)
    np.testing.assert_allclose(image.sum(axis=(1, 2)), flux(magnitudes), rtol=0.02)


def test_half_of_a_galaxys_light_lies_within_its_half_light_radius():
    """On average: an elongated one has as much outside of the circle as its shape asks for."""
    radius, size = 6.0, 200
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = np.hypot(x, y) * PIXEL_ARCSEC < radius
    images = rendered(BLUE, radius, n=12, size=size)[:, 2]
    share = (images * inside).sum(axis=(1, 2)) / images.sum(axis=(1, 2))
    assert 0.40 < share.mean() < 0.53


def test_a_red_galaxy_is_more_concentrated_than_a_blue_one():
    peaks = [
        rendered(each, 4.0, n=5)[:, 2].max(axis=(1, 2)).mean() / flux(each)[2]
        for each in (BLUE, RED)
    ]
    assert peaks[1] > 1.5 * peaks[0]


@pytest.mark.parametrize("radius", [None, 1.0])
@pytest.mark.parametrize("size", [32, 64])
def test_an_object_is_in_the_middle_to_half_a_pixel(radius, size):
    images = rendered(BLUE, radius, n=40, size=size)[:, 2].astype(float)
    light = images.sum(axis=(1, 2))
    axis = np.arange(size) - (size - 1) / 2
    y = (images.sum(axis=2) @ axis) / light
    x = (images.sum(axis=1) @ axis) / light
    for place in (y, x):
        assert np.abs(place).max() < 0.6
        # Anywhere within the pixel, with no side preferred.
        assert place.min() < -0.3 and place.max() > 0.3
        assert abs(place.mean()) < 0.2


def test_a_point_source_is_as_wide_as_the_seeing():
    images = rendered(BLUE, None, n=20, size=32)[:, 2].astype(float)
    light = images.clip(min=0)
    axis = np.arange(32) - 15.5
    across = light.sum(axis=1)
    mean = (across @ axis) / across.sum(axis=1)
    variance = (across @ axis**2) / across.sum(axis=1) - mean**2
    fwhm = 2.3548 * np.sqrt(variance) * PIXEL_ARCSEC
    assert (fwhm > 0.85).all() and (fwhm < 2.2).all()
    assert 1.2 < np.median(fwhm) < 1.5


def test_the_same_seed_gives_the_same_pixels():
    first, again, other = (render_galaxies(3, seed, size=32) for seed in (5, 5, 6))
    assert first.images.tobytes() == again.images.tobytes()
    assert first.magnitudes.tobytes() == again.magnitudes.tobytes()
    assert first.z.tobytes() == again.z.tobytes()
    assert not np.array_equal(first.images, other.images)


def test_rendered_galaxies_look_like_the_survey():
    made = render_galaxies(20, 1)
    assert made.images.shape == (20, 5, 64, 64) and made.images.dtype == np.float32
    assert np.isfinite(made.images).all()
    sky = made.images[:, :, :6, :6].std(axis=(2, 3))
    np.testing.assert_allclose(np.median(sky, axis=0), [0.06, 0.024, 0.034, 0.051, 0.18], rtol=0.25)
    assert ((made.z > 0.005) & (made.z < 0.8)).all()


def test_drawn_galaxies_are_as_many_and_as_bright_as_asked():
    drawn = Population.load().sample(500, np.random.default_rng(1))
    assert drawn.magnitudes.shape == (500, 5) and len(drawn.z) == len(drawn.radius_arcsec) == 500
    r = drawn.magnitudes[:, 2]
    assert ((r > 14) & (r < 20.5)).all()
    assert (drawn.radius_arcsec > 0).all()
    faint = r > np.median(r)
    assert np.median(drawn.z[faint]) > np.median(drawn.z[~faint])
    assert np.median(drawn.radius_arcsec[faint]) < np.median(drawn.radius_arcsec[~faint])
