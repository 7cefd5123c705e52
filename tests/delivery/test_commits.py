"""What random nights have found, each by itself."""

import asyncio

from delivery.dispatcher import Dispatcher
from delivery.minds import Answers, Stamps
from delivery.plan import settings_of
from delivery.shelves import Shelf, letter
from dispatcher import gapmap
from dispatcher.books import Outcome
from dispatcher.simulate.virtual import VirtualLoop
from dispatcher.tracker import PartitionTracker
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources.memory import MemorySource
from sinks.deadletters.memory import MemoryDeadLetters

A = Partition("memory", "a")
SETTINGS = settings_of(items=10, fetch=10, batch=1, rows=1, commit_s=1, revoke_s=1)


def test_an_offset_settled_by_an_earlier_stay_stays_so_when_it_is_the_next_to_be_taken():
    tracker = PartitionTracker.resume(Progress(2, gapmap.encode(2, {4})))
    assert tracker.take([2, 3], 0.0) == [2, 3]
    tracker.settle([2, 3])
    kept = tracker.progress({})
    assert gapmap.decode(kept.watermark, kept.gaps).union(range(kept.watermark)) == {0, 1, 2, 3, 4}
    assert tracker.take([4], 0.0) == []
    assert tracker.progress({}) == Progress(5)


class Recording(MemorySource):
    """Writes down what it is asked to commit."""

    def __init__(self):
        super().__init__({"a": []})
        self.commits = []

    async def commit(self, progress):
        self.commits.append(progress)


def test_a_stay_that_ends_during_a_commit_is_not_committed_by_the_next(tmp_path):
    async def night():
        source, letters = Recording(), Shelf(MemoryDeadLetters(), letter, None, None)
        stamps, answers = Stamps(None, {}), Answers(None, None, 0, {})
        one = Dispatcher(tmp_path / "s", source, [], letters, stamps, answers, SETTINGS, 1)
        lane = one.lane
        lane.assign(A)
        (errand,) = lane.custody.take([Delivery(Position(*A, 0), b"x", 0.0)], 0.0)
        lane.credit.items = 1
        lane.settle([(errand, Outcome.WRITTEN)])
        commit = asyncio.create_task(lane._commit())
        await asyncio.sleep(1)  # the state file is being written
        lane.lose([A])
        lane.assign(A, Progress(0))
        await commit
        one.checkpoint.close()
        assert source.commits == [{}]

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(lambda: 2.0)) as runner:
        runner.run(night())
