import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.tracker import PartitionTracker, Progress


@given(st.lists(st.integers(1, 5), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_a_restart_redoes_only_what_was_open(steps, random):
    """Any order of completion, a crash at any point, holes between offsets."""
    offsets = [sum(steps[: i + 1]) for i in range(len(steps))]
    tracker = PartitionTracker()
    assert all(tracker.take(each) for each in offsets)
    settled = random.sample(offsets, random.randint(0, len(offsets)))
    for each in settled:
        tracker.settle(each)

    progress = tracker.progress()
    resumed = PartitionTracker.resume(progress)
    redone = [each for each in offsets if each >= progress.watermark and resumed.take(each)]

    assert redone == sorted(set(offsets) - set(settled))
    for each in redone:
        resumed.settle(each)
    assert resumed.progress() == Progress(offsets[-1] + 1)


def test_nothing_is_settled_twice():
    tracker = PartitionTracker()
    tracker.take(0)
    tracker.settle(0)
    with pytest.raises(ValueError, match="twice"):
        tracker.settle(0)


def test_memory_follows_what_is_in_flight():
    tracker = PartitionTracker()
    for offset in range(100_000):
        tracker.take(offset)
        tracker.settle(offset)
    assert tracker.open_count == 0
    assert len(tracker._settled) <= 1
