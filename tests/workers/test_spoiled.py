"""What is spoiled is spoiled in the way it says, and the rest of the row stays as it was."""

import numpy as np
import pytest

from workers.training.cutouts import Cutouts
from workers.training.spoiled import KINDS, empty, saturated, shifted, swapped


@pytest.fixture
def rows():
    """Twenty Gaussians in the middle of their frames, each band with its own brightness."""
    y, x = np.mgrid[:64, :64] - 31.5
    light = np.exp(-(y**2 + x**2) / 8)
    peaks = np.arange(1, 101).reshape(20, 5, 1, 1)
    return Cutouts(
        (peaks * light).astype(np.float16),
        np.arange(100, dtype=np.float32).reshape(20, 5),
        np.ones(20, np.float32),
        np.arange(20),
        np.full(20, "galaxy"),
        np.ones(20, dtype=bool),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_changed_and_the_given_ones_are_not(rows, kind):
    before = rows.images.copy()
    spoiled = KINDS[kind](rows, np.random.default_rng(1))
    assert len(spoiled) == len(rows)
    assert spoiled.images.dtype == np.float16 and np.isfinite(spoiled.images).all()
    np.testing.assert_array_equal(rows.images, before)
    assert all((a != b).any() for a, b in zip(spoiled.images, before, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_spoils_alike(rows, kind):
    first, again = (KINDS[kind](rows, np.random.default_rng(3)).images for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_shifted_object_is_where_it_was_moved_to(rows):
    moved = shifted(rows, np.random.default_rng(1), pixels=25.0)
    for frame in moved.images:
        y, x = np.unravel_index(frame[4].argmax(), (64, 64))
        assert np.hypot(y - 31.5, x - 31.5) == pytest.approx(25, abs=1.5)


def test_an_empty_stamp_has_no_light(rows):
    assert empty(rows, np.random.default_rng(1)).stamps.max() < 0.01


def test_swapped_bands_are_two_and_their_magnitudes_follow_in_half_of_the_rows(rows):
    done = swapped(rows, np.random.default_rng(1))
    changed = (done.images != rows.images).any(axis=(2, 3)).sum(axis=1)
    assert (changed == 2).all()
    followed = (done.magnitudes != rows.magnitudes).any(axis=1)
    assert 4 < followed.sum() < 16


def test_a_saturated_stamp_has_a_plateau(rows):
    done = saturated(rows, np.random.default_rng(1))
    flat = (done.images == done.images.max(axis=(2, 3), keepdims=True)).sum(axis=(2, 3))
    assert (flat.max(axis=1) > 4).all()
    assert (done.images <= rows.images).all()
