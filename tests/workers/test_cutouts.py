"""Data sets: what is in them, and that nothing of the test set is seen in training."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import DataError
from workers.training.cutouts import (
    Cutouts,
    centre,
    real_quasars,
    real_sky,
    rendered_galaxies,
    rendered_quasars,
    split,
    unlabelled,
)


def cutouts(group):
    """Rows that can be told apart by their redshift."""
    n = len(group)
    return Cutouts(
        np.zeros((n, 5, 1, 1), np.float32),
        np.zeros((n, 5), np.float32),
        np.arange(n, dtype=np.float32),
        np.asarray(group, dtype=np.int64),
        np.full(n, "quasar"),
        np.zeros(n, dtype=bool),
    )


@settings(max_examples=100, deadline=None)
@given(
    group=st.lists(st.integers(-3, 40), min_size=1, max_size=120),
    seed=st.integers(0, 2**31),
)
def test_a_split_never_parts_a_group_and_loses_no_row(group, seed):
    parts = split(cutouts(group), seed)
    sets = [set(part.group.tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, sets)) == len(set(group))
    rows = np.concatenate([parts.train.z, parts.validation.z, parts.test.z])
    assert sorted(rows.tolist()) == list(range(len(group)))


def test_a_split_gives_seven_tenths_to_training_and_two_to_the_test():
    parts = split(cutouts(np.arange(1000) // 2), seed=1)
    sizes = [len(each) for each in (parts.train, parts.validation, parts.test)]
    assert sizes == [700, 100, 200]


def test_a_split_is_the_same_for_the_same_seed_only():
    rows = cutouts(np.arange(200))
    first, again, other = (split(rows, seed).test.z.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_data_set_is_stored_and_joined_row_by_row(tmp_path):
    first, second = cutouts([1, 2, 2]), cutouts([5])
    joined = Cutouts.join([first, second])
    assert joined.group.tolist() == [1, 2, 2, 5]
    joined.save(tmp_path / "set.npz")
    stored = Cutouts.load(tmp_path / "set.npz")
    for name in Cutouts.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(stored, name), getattr(joined, name))
    assert stored.rows(stored.group == 2).z.tolist() == [1.0, 2.0]


NO_DATA_SET = {
    "absent": (lambda path: None, "does not exist.*--data"),
    "a folder": (lambda path: path.mkdir(), "does not exist.*--data"),
    "garbage": (lambda path: path.write_bytes(b"garbage" * 50), "not an npz file"),
    "without images": (lambda path: np.savez(path, z=np.zeros(2)), "lacks the arrays.*images"),
}


@pytest.mark.parametrize("case", NO_DATA_SET)
def test_what_is_no_data_set_says_so(case, tmp_path):
    make, says = NO_DATA_SET[case]
    make(tmp_path / "set.npz")
    with pytest.raises(DataError, match=says) as caught:
        Cutouts.load(tmp_path / "set.npz")
    assert str(tmp_path / "set.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_middle_of_a_frame_is_taken_and_gaps_are_dark():
    frame = np.arange(64 * 64, dtype=np.float64).reshape(1, 64, 64)
    frame[0, 20, 20:23] = np.nan, np.inf, -np.inf
    cut = centre(frame)
    assert cut.shape == (1, 32, 32) and cut.dtype == np.float32
    assert cut[0, 0, 0] == 16 * 64 + 16 and cut[0, 31, 31] == 47 * 64 + 47
    assert cut[0, 4, 4:7].tolist() == [0, 0, 0]


NEAR, FAR = 1.0, 3.0
CATALOGUE = [  # name, z
    ("001500.00-003000.0", FAR),
    ("001500.00+003000.0", FAR),
    ("233000.50+101010.1", FAR),
    ("120000.00-001500.0", NEAR),
    ("120030.00-001500.0", NEAR),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of the form of the survey's: one real quasar, and a bright object on each sky frame."""
    path, rng = tmp_path_factory.mktemp("sdss"), np.random.default_rng(1)
    frames = rng.normal(0, 0.05, (6, 5, 64, 64))
    frames[:, :, 28:36, 28:36] += 100
    frames[5, 2, 1, 1] = np.nan
    np.savez(path / "unlabelled_ugriz64.npz", images=frames.astype(np.float16))
    np.savez(
        path / "quasars_ugriz64.npz",
        images=frames[:2].astype(np.float16),
        mag=np.full((2, 5), 19.0, np.float32),
        z=np.array([FAR, FAR], np.float32),
        group=np.array([7, 7], np.int32),
        # A second of arc beside the first of the catalogue, and on the fourth.
        ra=np.array([3.75, 180.0]),
        dec=np.array([-0.5 + 1 / 3600, -0.25]),
    )
    kinds = [(each, "<f8") for each in "ugriz"]
    kinds += [("spec_class", "S6"), ("redshift", "<f8"), ("redshift_err", "<f8")]
    rows = np.zeros(8, dtype=kinds)
    for k, band in enumerate("ugriz"):
        rows[band] = 15.5 - 0.3 * k
    rows["spec_class"], rows["redshift"] = b"GALAXY", 0.1 + 0.01 * np.arange(8)
    rows["spec_class"][0] = b"QSO"
    rows["u"][1] = -9999
    rows["redshift"][2] = 0.0
    np.save(path / "galaxy_photometry.npy", rows)
    with gzip.open(path / "quasar_photometry_dr5.tab.gz", "wt") as text:
        text.write("SDSS z " + " ".join(f"{b}_mag sig_{b}_mag" for b in "ugriz") + "\n")
        for k, (name, z) in enumerate(CATALOGUE):
            text.write(f"{name} {z} " + " ".join([f"{17 + 0.1 * k} 0.02"] * 5) + "\n")
    return path


def test_rendered_galaxies_are_real_ones_with_good_photometry(folder):
    made = rendered_galaxies(folder, 100, seed=1)
    np.testing.assert_allclose(sorted(made.z), [0.13, 0.14, 0.15, 0.16, 0.17], rtol=1e-6)
    assert len(set(made.group.tolist())) == 5
    np.testing.assert_allclose(made.magnitudes, [[15.5, 15.2, 14.9, 14.6, 14.3]] * 5, rtol=1e-6)
    assert made.images.shape == (5, 5, 32, 32)
    assert made.simulated.all() and set(made.kind) == {"galaxy"}
    light = 10 ** (0.4 * (22.5 - made.magnitudes))
    share = made.images.sum(axis=(2, 3)) / light
    assert ((share > 0.5) & (share < 1.02)).all(), "what falls outside the frame is lost"
    assert np.ptp(share, axis=1).max() < 0.05, "of all bands alike"


def test_no_quasar_that_is_among_the_real_ones_is_rendered(folder):
    made = rendered_quasars(folder, 100, seed=1)
    np.testing.assert_allclose(sorted(made.magnitudes[:, 2]), [17.1, 17.2, 17.4], rtol=1e-6)
    assert sorted(made.z.tolist()) == [NEAR, FAR, FAR]
    assert made.simulated.all() and set(made.kind) == {"quasar"}


def test_half_of_the_rendered_quasars_are_far(folder):
    assert sorted(rendered_quasars(folder, 2, seed=1).z.tolist()) == [NEAR, FAR]


def test_the_same_seed_renders_the_same_rows(folder):
    first, again, other = (rendered_quasars(folder, 3, seed) for seed in (4, 4, 5))
    assert first.images.tobytes() == again.images.tobytes()
    assert first.images.tobytes() != other.images.tobytes()


def test_real_quasars_keep_their_group_and_are_not_called_simulated(folder):
    real = real_quasars(folder)
    assert real.group.tolist() == [7, 7]
    assert real.images.shape == (2, 5, 32, 32) and real.images.dtype == np.float32
    assert not real.simulated.any()


def test_sky_has_no_trace_of_the_object_in_its_frame(folder):
    sky = real_sky(folder, 50, np.random.default_rng(1))
    assert sky.shape == (50, 5, 32, 32)
    assert np.isfinite(sky).all()
    assert np.abs(sky).max() < 1
    assert sky.std() == pytest.approx(0.05, rel=0.05)


def test_unlabelled_cutouts_are_all_taken(folder):
    images = unlabelled(folder)
    assert images.shape == (6, 5, 32, 32)
    assert images[:, :, 16, 16].min() > 90
