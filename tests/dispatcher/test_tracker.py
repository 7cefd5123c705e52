import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.tracker import REMEMBERED, PartitionTracker, ReceiptTracker
from ingest.progress import Progress


@given(st.lists(st.integers(1, 5), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_a_restart_redoes_only_what_was_open(steps, random):
    """Any order of completion, a crash at any point, holes between offsets."""
    offsets = [sum(steps[: i + 1]) for i in range(len(steps))]
    tracker = PartitionTracker()
    assert tracker.take(offsets, 0.0) == offsets
    settled = random.sample(offsets, random.randint(0, len(offsets)))
    ahead = tracker.progress({}, settled) if settled and random.random() < 0.5 else None
    for each in settled:
        tracker.settle([each])

    progress = tracker.progress({})
    assert ahead in (None, progress), "what would be is what is, once it is"
    resumed = PartitionTracker.resume(progress)
    redone = list(resumed.take([each for each in offsets if each >= progress.watermark], 0.0))

    assert redone == sorted(set(offsets) - set(settled))
    resumed.settle(redone)
    assert resumed.progress({}) == Progress(offsets[-1] + 1)


@pytest.mark.parametrize("tracker", [PartitionTracker(), ReceiptTracker()])
def test_nothing_is_settled_twice(tracker):
    tracker.take([0], 0.0)
    tracker.settle([0])
    with pytest.raises(ValueError, match="twice"):
        tracker.settle([0])


def test_memory_follows_what_is_in_flight():
    tracker = PartitionTracker()
    for offset in range(100_000):
        tracker.take([offset], 0.0)
        tracker.settle([offset])
    assert tracker.open_count == 0
    assert tracker.settled_above <= 1


def test_what_holds_a_partition_back_is_its_lowest_open_offset():
    tracker = PartitionTracker()
    for offset in (3, 5, 9):
        tracker.take([offset], float(offset))
    tracker.settle([5])
    assert tracker.oldest == (3, 3.0)
    tracker.settle([3])
    assert tracker.oldest == (9, 9.0)
    tracker.settle([9])
    assert tracker.oldest is None


def test_a_queue_acknowledges_each_message_and_remembers_the_last():
    tracker = ReceiptTracker.resume([7])
    assert tracker.take([7], 0.0) == [], "settled before the crash: acknowledged again, not redone"
    assert tracker.take([8], 1.0) == [8]
    assert tracker.take([9], 2.0) == [9]
    tracker.settle([9])
    assert tracker.oldest == (8, 1.0)
    assert tracker.progress({"written": 1}) == Progress(outcomes={"written": 1}, settled=(7, 9))
    assert tracker.progress({}).settled == ()
    assert tracker.take([9], 3.0) == []
    for message in range(100, 100 + REMEMBERED):
        tracker.take([message], 4.0)
        tracker.settle([message])
    assert tracker.take([9], 5.0) == [9], "what is remembered is bounded"


@pytest.mark.parametrize("offsets", [[4, 3], [3, 3], [1]])
def test_a_source_that_breaks_its_order_is_found_out(offsets):
    tracker = PartitionTracker()
    tracker.take([0, 1], 0.0)
    with pytest.raises(ValueError, match="not in order"):
        tracker.take(offsets, 0.0)
