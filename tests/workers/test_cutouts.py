"""Data sets: what is in them, and that nothing of the test set is seen in training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import DataError
from workers.training.cutouts import Cutouts, centre, split


def cutouts(group):
    """Rows that can be told apart by their redshift."""
    n = len(group)
    return Cutouts(
        np.zeros((n, 5, 32, 32), np.float16),
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
    assert joined.group.tolist() == [0, 1, 1, 2]
    joined.save(tmp_path / "set.npz")
    stored = Cutouts.load(tmp_path / "set.npz")
    for name in Cutouts.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(stored, name), getattr(joined, name))
    assert stored.rows(stored.group == 1).z.tolist() == [1.0, 2.0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-5, 5), max_size=6), min_size=1, max_size=4))
def test_joined_parts_share_no_group_and_part_none(groups):
    joined = Cutouts.join([cutouts(each) for each in groups])
    asked = [(part, group) for part, each in enumerate(groups) for group in each]
    found = joined.group.tolist()
    assert len(found) == len(asked)
    assert len(set(zip(asked, found, strict=True))) == len(set(asked)) == len(set(found))


def test_kind_and_simulated_may_be_left_out(tmp_path):
    rows = cutouts([1, 2])
    np.savez(
        tmp_path / "set.npz",
        images=rows.images,
        magnitudes=rows.magnitudes,
        z=rows.z,
        group=rows.group,
    )
    found = Cutouts.load(tmp_path / "set.npz")
    assert found.kind.tolist() == ["object"] * 2
    assert not found.simulated.any()


def saved(path, **changed):
    rows = cutouts([1, 2])
    np.savez(path, **{n: getattr(rows, n) for n in Cutouts.__dataclass_fields__} | changed)


NO_DATA_SET = {
    "absent": (lambda path: None, "does not exist.*--data"),
    "a folder": (lambda path: path.mkdir(), "does not exist.*--data"),
    "garbage": (lambda path: path.write_bytes(b"garbage" * 50), "not an npz file"),
    "without images": (lambda path: np.savez(path, z=np.zeros(2)), "lacks the arrays.*images"),
    "of different length": (lambda path: saved(path, z=np.zeros(3)), "different length"),
    "one redshift": (lambda path: saved(path, z=np.float32(1)), "different length"),
    "of one band": (lambda path: saved(path, images=np.zeros((2, 40, 40))), r"\(2, 40, 40\)"),
    "too small": (lambda path: saved(path, images=np.zeros((2, 5, 31, 40))), "smaller than 32"),
    "with four magnitudes": (lambda path: saved(path, magnitudes=np.zeros((2, 4))), r"\(2, 4\)"),
    "with a pickle": (lambda path: saved(path, kind=np.array([{}, {}])), "not an npz file"),
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
