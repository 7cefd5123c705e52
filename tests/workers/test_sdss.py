"""Datasets made of the survey's files: what is in them, and that nothing leaks."""

import gzip

import numpy as np
import pytest

from workers.errors import DataError
from workers.photometry import measure
from workers.training.cutouts import Cutouts
from workers.training.sdss import (
    prepare,
    real_quasars,
    rendered_galaxies,
    rendered_quasars,
    rendered_stars,
    sky_frames,
    unlabelled,
)

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
    assert made.images.shape == (5, 5, 64, 64)
    assert made.simulated.all() and set(made.kind) == {"galaxy"}
    light = 10 ** (0.4 * (22.5 - made.magnitudes))
    share = made.images.astype(np.float32).sum(axis=(2, 3)) / light
    assert ((share > 0.5) & (share < 1.02)).all(), "what falls outside the frame is lost"
    assert np.ptp(share, axis=1).max() < 0.05, "of all bands alike"


def test_no_quasar_that_is_among_the_real_ones_is_rendered(folder):
    made = rendered_quasars(folder, 100, seed=1)
    np.testing.assert_allclose(sorted(made.magnitudes[:, 2]), [17.1, 17.2, 17.4], rtol=1e-6)
    assert sorted(made.z.tolist()) == [NEAR, FAR, FAR]
    assert made.simulated.all() and set(made.kind) == {"quasar"}


def test_far_quasars_are_rendered_first_up_to_three_quarters(folder):
    assert sorted(rendered_quasars(folder, 2, seed=1).z.tolist()) == [NEAR, FAR]


def test_stars_are_points_without_a_redshift(folder):
    made = rendered_stars(folder, 40, seed=1)
    assert np.isnan(made.z).all() and made.simulated.all() and set(made.kind) == {"star"}
    bright = made.magnitudes.max(axis=1) < 19
    assert bright.sum() > 3
    difference = measure(made.stamps[bright]) - made.magnitudes[bright]
    assert np.abs(difference).max() < 0.15, "all of a point's light is within 6 pixels"


def test_the_same_seed_renders_the_same_rows(folder):
    first, again, other = (rendered_quasars(folder, 3, seed) for seed in (4, 4, 5))
    assert first.images.tobytes() == again.images.tobytes()
    assert first.images.tobytes() != other.images.tobytes()


def test_real_quasars_are_not_called_simulated(folder):
    real = real_quasars(folder)
    assert real.images.shape == (2, 5, 64, 64)
    assert not real.simulated.any()


def test_images_of_one_object_are_one_group_whatever_the_file_says(folder, tmp_path):
    with np.load(folder / "quasars_ugriz64.npz", allow_pickle=False) as stored:
        rows = {name: np.repeat(stored[name], 2, axis=0) for name in stored.files}
    arcsec = 1 / 3600
    rows["ra"] = np.array([10, 10, 10, 200.0])
    rows["dec"] = np.array([5, 5 + 1.5 * arcsec, 5 + 3 * arcsec, 5])  # a chain, and one far away
    rows["group"] = np.arange(4)
    np.savez(tmp_path / "quasars_ugriz64.npz", **rows)
    group = real_quasars(tmp_path).group
    assert group[0] == group[1] == group[2] != group[3]


def test_sky_has_no_trace_of_the_object_in_its_frame(folder):
    sky = sky_frames(unlabelled(folder).images)
    assert sky.shape == (5, 5, 64, 64), "the frame with a gap is left out"
    assert np.abs(sky).max() < 1
    assert sky.astype(np.float32).std() == pytest.approx(0.05, rel=0.05)


def test_unlabelled_cutouts_are_all_taken(folder):
    rows = unlabelled(folder)
    assert len(rows) == 6 and np.isnan(rows.z).all()
    assert rows.stamps[:, :, 16, 16].min() > 90


def test_everything_is_prepared_once(folder, tmp_path):
    said = []
    wanted = {"galaxies": 3, "quasars": 3, "stars": 4}
    prepare(folder, tmp_path / "data", 1, **wanted, on_progress=said.append)
    made = {path.stem: Cutouts.load(path) for path in (tmp_path / "data").glob("*.npz")}
    assert {name: len(rows) for name, rows in made.items()} == {
        "galaxies": 3,
        "quasars": 2,
        "rendered-quasars": 3,
        "stars": 4,
        "unlabelled": 6,
    }
    assert len(said) == 5
    prepare(folder, tmp_path / "data", 1, **wanted, on_progress=said.append)
    assert len(said) == 5


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"quasars_ugriz64\.npz does not exist"):
        prepare(tmp_path, tmp_path / "data", 1)
