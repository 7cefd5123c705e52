"""Custody: what is ours is settled once and committed; what is not ours any more never is."""

import pytest

from dispatcher import gapmap
from dispatcher.books import Outcome
from dispatcher.custody import Custody
from dispatcher.tracker import PartitionTracker
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress

A, B = Partition("t", "a"), Partition("t", "b")


def deliveries(partition, *offsets):
    return [Delivery(Position(*partition, offset), b"x", 0.0) for offset in offsets]


@pytest.fixture
def custody():
    made = Custody()
    made.assign(A, PartitionTracker(), {"written": 5})
    made.assign(B, PartitionTracker(), {})
    return made


def test_books_balance_at_every_step(custody):
    errands = custody.take([*deliveries(A, 0, 1), *deliveries(B, 0)], 0.0)
    assert str(custody.totals()) == (
        "8 received = 5 written + 0 duplicate + 0 filtered + 0 not applicable + 0 dead"
        " + 3 in flight"
    )
    custody.settle([(errands[2], Outcome.DEAD), (errands[1], Outcome.WRITTEN)])
    assert custody.totals().balanced
    assert not custody.unbalanced()
    assert custody.progress() == {
        A: Progress(0, gapmap.encode(0, {1}), {"written": 6}),
        B: Progress(1, "", {"dead": 1}),
    }
    assert custody.progress() == {}, "nothing changed since"
    custody.spoil([A])
    assert custody.progress().keys() == {A}


def test_two_errors_do_not_hide_each_other(custody):
    errands = custody.take(deliveries(A, 0), 0.0)
    errands[0].assignment.page.received -= 1
    other = custody.take(deliveries(B, 0), 0.0)
    other[0].assignment.page.received += 1
    assert custody.totals().balanced
    assert custody.unbalanced() == [A, B]


def test_a_late_result_is_settled_and_never_committed(custody):
    late, early = custody.take(deliveries(A, 0, 1), 0.0)
    custody.settle([(early, Outcome.WRITTEN)])
    custody.release([A])
    assert A not in custody.progress()
    custody.assign(A, PartitionTracker(), {"written": 5})
    (again,) = custody.take(deliveries(A, 0), 1.0)
    custody.settle([(late, Outcome.WRITTEN)])
    assert custody.progress()[A].watermark == 0, "the new stay knows nothing of the old one"
    assert custody.totals().received == 6
    custody.settle([(again, Outcome.WRITTEN)])
    assert custody.totals().balanced
    assert custody.progress()[A] == Progress(1, "", {"written": 6})


def test_what_is_not_ours_is_dropped(custody):
    assert custody.take(deliveries(Partition("t", "c"), 0), 0.0) == []
    assert custody.totals().received == 5


def test_progress_ahead_of_a_transaction(custody):
    errands = custody.take(deliveries(A, 0, 1, 2), 0.0)
    ahead = custody.progress_with([(errands[0], Outcome.WRITTEN), (errands[1], Outcome.DEAD)])
    assert ahead == {A: Progress(2, "", {"written": 6, "dead": 1})}
    assert custody.progress()[A].watermark == 0, "nothing was settled by asking"


def test_a_partition_that_one_event_holds_back_is_crowded(custody):
    errands = custody.take(deliveries(A, *range(0, 120_000, 2)), 0.0)
    custody.settle([(each, Outcome.WRITTEN) for each in errands[1:]])
    assert custody.crowded(custody.progress()) == {A}
    custody.settle([(errands[0], Outcome.WRITTEN)])
    assert custody.crowded(custody.progress()) == set()
