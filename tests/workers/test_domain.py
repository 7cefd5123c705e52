"""The out-of-domain score: what it looks at, how it is calibrated, and that it is learned."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from workers.domain import FOREIGN, UNUSUAL, Domain, statistics
from workers.photometry import measure
from workers.training import domain as training
from workers.training.cutouts import Cutouts
from workers.training.progress import Journal
from workers.training.recipe import Domain as Settings
from workers.training.render import render_galaxies
from workers.training.spoiled import KINDS, empty, shifted


@cache
def rendered(n, seed):
    made = render_galaxies(n, seed)
    return Cutouts(
        made.images.astype(np.float16),
        made.magnitudes,
        made.z,
        np.arange(n),
        np.full(n, "galaxy"),
        np.ones(n, dtype=bool),
    )


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    return Journal(tmp_path_factory.mktemp("domain"), say=str)


@pytest.fixture(scope="module")
def trained(journal):
    """Trained in some seconds on 300 rendered galaxies."""
    settings = Settings(epochs=16)
    return training.train(rendered(300, 1), [], rendered(400, 2), settings, 1, journal)


def test_most_of_what_is_spoiled_is_flagged_and_few_of_the_good(trained):
    good, rng = rendered(300, 3), np.random.default_rng(4)
    assert training.flagged(trained, good) < 0.12
    for name, make in KINDS.items():
        assert training.flagged(trained, make(good, rng)) > 0.85, name


def test_the_magnitudes_need_not_be_given(trained):
    good = rendered(300, 3)
    withheld = replace(good, magnitudes=np.full_like(good.magnitudes, np.nan))
    assert training.flagged(trained, withheld) < 0.15
    moved = shifted(withheld, np.random.default_rng(1), pixels=25.0)
    assert training.flagged(trained, moved) > 0.9


def test_the_score_is_a_share_of_the_good_rows_it_was_calibrated_on(trained):
    rows = rendered(400, 2)  # those
    score = trained.score(rows.stamps, rows.magnitudes)
    assert (score > UNUSUAL).mean() == pytest.approx(1 - UNUSUAL, abs=0.005)
    assert np.median(score) == pytest.approx(0.5, abs=0.01)
    assert (score > FOREIGN).sum() <= 2, "good rows are given their redshift"


def test_a_stamp_without_an_object_is_foreign(trained):
    rows = empty(rendered(100, 5), np.random.default_rng(1))
    assert (trained.score(rows.stamps, rows.magnitudes) > FOREIGN).mean() > 0.8


def test_the_tensors_of_a_file_give_the_same_scores(trained):
    rows = rendered(20, 6)
    again = Domain.of(trained.tensors())
    np.testing.assert_array_equal(
        again.score(rows.stamps, rows.magnitudes), trained.score(rows.stamps, rows.magnitudes)
    )


def test_a_row_is_scored_alike_whatever_is_beside_it(trained):
    rows = rendered(9, 7)
    together = trained.score(rows.stamps, rows.magnitudes)
    alone = [trained.score(rows.stamps[i : i + 1], rows.magnitudes[i : i + 1])[0] for i in range(9)]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_statistics_are_finite_for_any_pixels():
    hard = np.zeros((6, 5, 32, 32), np.float32)
    hard[1] = 1e30
    hard[2] = -1e30
    hard[3, :, 16, 16] = 3e38
    hard[4] = np.random.default_rng(1).normal(size=(5, 32, 32)) * 1e-30
    hard[5, 0] = np.finfo(np.float32).max
    magnitudes = np.full((6, 5), np.nan, np.float32)
    magnitudes[3] = 99.0
    assert np.isfinite(statistics(hard, magnitudes)).all()


def test_statistics_see_a_magnitude_that_does_not_belong_to_the_stamp():
    rows = rendered(5, 8)
    measured = measure(rows.stamps)
    right, wrong = statistics(rows.stamps, measured), statistics(rows.stamps, measured + 1)
    np.testing.assert_allclose((wrong - right)[:, -11:-6], 1, atol=1e-4)


def test_no_rows_have_no_scores(trained):
    none = np.empty((0, 5, 32, 32), np.float32), np.empty((0, 5), np.float32)
    assert trained.score(*none).shape == (0,)
