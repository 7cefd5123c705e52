"""What the model sees of pixels and magnitudes."""

import numpy as np
import pytest

from workers.transform import InputTransform, colors

MAGNITUDES = np.array(
    [[20.0, 19.0, 18.5, 18.25, 18.125], [22.0, 22.5, 21.0, 20.0, 21.5]], np.float32
)


def test_colours_are_differences_of_neighbouring_bands_and_r():
    before = MAGNITUDES.copy()
    expected = [[1.0, 0.5, 0.25, 0.125, 18.5], [-0.5, 1.5, 1.0, -1.5, 21.0]]
    assert colors(MAGNITUDES).tolist() == expected
    assert np.array_equal(MAGNITUDES, before)


def test_magnitudes_become_standardised_colours():
    transform = InputTransform(mean=(1.0, 0.5, 0.0, 0.0, 18.0), std=(1.0, 1.0, 0.5, 0.25, 2.0))
    expected = [[0.0, 0.0, 0.5, 0.5, 0.25], [-1.5, 1.0, 2.0, -6.0, 1.5]]
    assert transform.magnitudes(MAGNITUDES).tolist() == expected


def test_an_undetected_band_is_clipped_at_six_deviations():
    transform = InputTransform(mean=(0.0,) * 5, std=(0.1,) * 5)
    undetected = np.array([[99.0, 20.0, 20.0, 20.0, 99.0]], np.float32)
    assert transform.magnitudes(undetected).tolist() == [[6.0, 0.0, 0.0, -6.0, 6.0]]


def test_a_fainter_object_of_the_same_colours_differs_in_r_only():
    transform = InputTransform(mean=(1.0,) * 4 + (19.0,), std=(1.0,) * 5)
    near, far = transform.magnitudes(np.stack([MAGNITUDES[0], MAGNITUDES[0] + 1.5]))
    assert (far - near).tolist() == [0.0, 0.0, 0.0, 0.0, 1.5]


def test_pixels_are_compressed_by_asinh_band_by_band():
    softening = (0.1, 0.2, 0.4, 0.8, 1.6)
    images = np.linspace(-5, 500, 2 * 5 * 3 * 3, dtype=np.float32).reshape(2, 5, 3, 3)
    expected = np.arcsinh(images / np.reshape(softening, (5, 1, 1)))
    found = InputTransform(softening=softening).images(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pixels_are_left_as_they_were():
    images = np.ones((1, 5, 2, 2), np.float32)
    InputTransform(softening=(0.1,) * 5).images(images)
    assert (images == 1).all()


@pytest.mark.parametrize("method", ["images", "magnitudes"])
def test_the_published_model_gets_its_inputs_raw(method):
    asked = {"images": np.ones((2, 5, 32, 32), np.float32), "magnitudes": MAGNITUDES}[method]
    assert np.array_equal(getattr(InputTransform(), method)(asked), asked)
