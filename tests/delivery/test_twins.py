"""The twins of brokers and queues, that users' tests use too."""

import asyncio

import pytest

from dispatcher.clock import ManualClock
from ingest.errors import SourceUnavailable
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources.group import MemoryBroker
from ingest.sources.memory_queue import MemoryQueue

A, B = Partition("memory", "a"), Partition("memory", "b")


class Recorder:
    """Writes down what a source tells its keeper."""

    def __init__(self):
        self.told, self.mine = [], {}

    def assign(self, partition, committed=None):
        self.mine[partition] = committed
        return committed.watermark if committed else 0

    async def revoke(self, partitions):
        self.told.append(("revoke", sorted(partitions)))

    def lose(self, partitions):
        self.told.append(("lose", sorted(partitions)))
        for each in partitions:
            self.mine.pop(each, None)


@pytest.fixture
def broker():
    return MemoryBroker({"a": [b"a0", b"a1", b"a2"], "b": [b"b0"]})


async def joined(broker):
    member, keeper = broker.member(), Recorder()
    await member.open(keeper)
    return member, keeper


async def bodies(source, limit=10):
    return [each.body for each in await source.take(limit)]


async def test_a_member_reads_all_and_commits(broker):
    member, _ = await joined(broker)
    assert await bodies(member, 2) == [b"a0", b"a1"]
    assert sorted(await bodies(member)) == [b"a2", b"b0"]
    assert await bodies(member) == []
    assert not member.exhausted
    await member.commit({A: Progress(3), B: Progress(1)})
    assert member.exhausted
    broker.append("a", b"a3")
    assert not member.exhausted
    assert await bodies(member) == [b"a3"]


async def test_what_is_held_is_not_delivered(broker):
    member, _ = await joined(broker)
    member.hold([A])
    assert await bodies(member) == [b"b0"]
    member.hold([])
    assert await bodies(member) == [b"a0", b"a1", b"a2"]


async def test_who_joins_takes_over_at_the_commit(broker):
    one, first = await joined(broker)
    await one.take(10)
    await one.commit({A: Progress(2, "gaps", {"written": 2})})
    two, second = await joined(broker)
    assert ("revoke", [A, B]) in first.told
    assert first.mine.keys() | second.mine.keys() == {A, B}
    assert len(first.mine) == len(second.mine) == 1
    (of_a,) = (each.mine[A] for each in (first, second) if A in each.mine)
    assert of_a == Progress(2, "gaps", {"written": 2})
    assert sorted(await bodies(one) + await bodies(two)) == [b"a2", b"b0"]
    await two.close()
    assert first.mine.keys() == {A, B}


async def test_an_expelled_member_commits_nothing_and_comes_back(broker):
    one, keeper = await joined(broker)
    await one.take(10)
    await broker.expel(one)
    await one.commit({A: Progress(3)})
    assert broker.committed == {}
    assert broker.fenced == 1
    assert keeper.told[-1] == ("lose", [A, B])
    assert sorted(await bodies(one)) == [b"a0", b"a1", b"a2", b"b0"]


async def test_a_commit_on_its_way_during_a_rebalance_is_late():
    opened = asyncio.Event()
    broker = MemoryBroker({"a": [b"a0"]})
    one, _ = await joined(broker)
    broker.pause = opened.wait
    late = asyncio.create_task(one.commit({A: Progress(1)}))
    await asyncio.sleep(0)
    await joined(broker)
    opened.set()
    await late
    assert broker.committed == {}
    assert broker.fenced == 1


async def test_who_is_cut_off_is_done_without(broker):
    one, keeper = await joined(broker)
    one.connected = False
    assert await bodies(one) == []
    with pytest.raises(SourceUnavailable):
        await one.commit({A: Progress(1)})
    _, other = await joined(broker)
    assert other.mine.keys() == {A, B}
    assert keeper.told == [("revoke", [])], "it cannot be told"
    one.connected = True
    await one.take(10)
    assert keeper.told[1] == ("lose", [A, B])
    assert len(keeper.mine) == len(other.mine) == 1


async def test_a_broker_that_was_away_keeps_commits_and_forgets_members(broker):
    one, keeper = await joined(broker)
    await one.commit({A: Progress(1)})
    broker.stop()
    assert await bodies(one) == []
    with pytest.raises(SourceUnavailable, match="start it again"):
        await one.commit({A: Progress(2)})
    with pytest.raises(SourceUnavailable):
        await joined(broker)
    broker.start()
    assert sorted(await bodies(one)) == [b"a1", b"a2", b"b0"]
    assert ("lose", [A, B]) in keeper.told


async def test_a_message_that_is_not_deleted_in_time_comes_again():
    clock = ManualClock()
    queue = MemoryQueue([b"0", b"1"], visibility_s=10, clock=clock.monotonic)
    one, two = queue.receiver(), queue.receiver()
    for each in (one, two):
        await each.open(Recorder())
    assert await bodies(one) == [b"0", b"1"]
    await one.commit({one.partition: Progress(settled=(0,))})
    assert await bodies(two) == []
    clock.advance(10)
    assert await bodies(one) == [], "it has it already"
    clock.advance(10)
    assert await bodies(two) == [b"1"]
    await two.commit({two.partition: Progress(settled=(1,))})
    assert one.exhausted
    queue.put_back(0)
    assert await bodies(two) == [b"0"]


async def test_a_delete_that_fails_is_part_of_the_next_commit():
    refusals = {0}
    queue = MemoryQueue([b"0", b"1"], refuses=lambda each: each in refusals)
    source = queue.receiver()
    await source.open(Recorder())
    await source.take(10)
    with pytest.raises(SourceUnavailable, match="1 messages"):
        await source.commit({source.partition: Progress(settled=(0, 1))})
    refusals.clear()
    await source.commit({})
    assert queue.settled


async def test_who_leaves_hands_back_what_is_open():
    queue = MemoryQueue([b"0"])
    one, two = queue.receiver(), queue.receiver()
    for each in (one, two):
        await each.open(Recorder())
    await one.take(10)
    await one.close()
    assert await bodies(two) == [b"0"]
    assert queue.send(b"1") == 1
    assert await bodies(two) == [b"1"]
