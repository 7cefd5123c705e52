"""One contract for every source, archives, topics, queues and their twins in memory.

A source delivers everything once, keeps what is committed (or lets the keeper keep it), and gives
again, to whoever comes next, exactly what was not.
"""

import asyncio
import random
import uuid

import packets
import pytest
from aiobotocore.session import get_session
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from parts.aws import ACCESS

from dispatcher.books import Outcome
from dispatcher.custody import Custody
from dispatcher.tracker import PartitionTracker, ReceiptTracker
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources import open_source
from ingest.sources.group import MemoryBroker
from ingest.sources.kafka import KafkaOptions, KafkaSource, TopicArchive
from ingest.sources.memory import MemorySource
from ingest.sources.memory_queue import MemoryQueue
from ingest.sources.night import NightArchive
from ingest.sources.sqs import SqsOptions, SqsSource

BODIES = [packets.notice(n).to_bytes() for n in range(40)]
KEEPS_NOTHING = ("archive", "topic-archive")


class Keeper:
    """Keeps custody as a lane does; `records` outlive it, as a lane's state file does."""

    def __init__(self, source, records):
        self.source, self.records, self.custody = source, records, Custody()

    def assign(self, partition, committed=None):
        progress = committed or self.records.get(partition) or Progress()
        tracker = (
            PartitionTracker.resume(progress) if self.source.ordered else ReceiptTracker.resume(())
        )
        self.custody.assign(partition, tracker, progress.outcomes)
        return progress.watermark

    async def revoke(self, partitions):
        await self.commit()
        self.lose(partitions)

    def lose(self, partitions):
        self.custody.release(partitions)

    async def commit(self):
        progress = self.custody.progress()
        self.records.update(progress)
        await self.source.commit(progress)


class Reading:
    """A source that is open, and what was taken of it."""

    def __init__(self, source, records):
        self.source, self.keeper = source, Keeper(source, records)
        self.errands = []

    async def take(self, limit=7):
        deliveries = await self.source.take(limit)
        assert len(deliveries) <= limit
        taken = self.keeper.custody.take(deliveries, 0.0)
        self.errands += taken
        if not taken:
            await asyncio.sleep(0.01)
        return taken

    async def all(self, count):
        """Take until `count` events are there."""
        async with asyncio.timeout(30):
            while len(self.errands) < count:
                await self.take()
        return self.errands

    def settle(self, errands):
        self.keeper.custody.settle([(each, Outcome.WRITTEN) for each in errands])


def spread(count=3):
    return {str(n): BODIES[n::count] for n in range(count)}


@pytest.fixture(params=["memory", "archive", "group", "queue", "kafka", "topic-archive", "sqs"])
async def kind(request):
    return request.param


@pytest.fixture
async def new_source(kind, request, tmp_path):
    """Makes the source, again and again: what was committed to one, the next one knows."""
    if kind == "memory":
        committed = {}
        return lambda: MemorySource(spread(), committed=committed)
    if kind == "archive":
        with NightArchive(tmp_path / "night.sqlite") as archive:
            for partition, bodies in spread().items():
                for each in bodies:
                    archive.add(partition, each)
        return lambda: open_source(str(tmp_path / "night.sqlite"))
    if kind == "group":
        return MemoryBroker(spread()).member
    if kind == "queue":
        return MemoryQueue(BODIES).receiver
    if kind == "sqs":
        return await _queue(request.getfixturevalue("aws"))
    address = request.getfixturevalue("kafka")
    topic = await _topic(address)
    if kind == "topic-archive":
        return lambda: TopicArchive(address, topic, topic)
    options = KafkaOptions(group=topic, until_end=True)
    return lambda: KafkaSource(address, topic, options)


async def _topic(address):
    topic = f"contract-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 3, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        for partition, bodies in spread().items():
            for each in bodies:
                await producer.send_and_wait(topic, each, partition=int(partition))
    return topic


async def _queue(url):
    name = f"contract-{uuid.uuid4().hex[:8]}"
    client = {**ACCESS, "endpoint_url": url}
    async with get_session().create_client("sqs", **client) as sqs:
        at = (await sqs.create_queue(QueueName=name))["QueueUrl"]
        for each in BODIES:
            await sqs.send_message(QueueUrl=at, MessageBody=each.decode())
    options = SqsOptions(wait_s=1, until_empty=True, visibility_s=30)
    return lambda: SqsSource(name, options, client)


@pytest.fixture
async def reading(new_source):
    """Opens the source anew and closes what was open."""
    records, opened = {}, []

    async def again():
        if opened:
            await opened.pop().source.close()
        made = Reading(new_source(), records)
        await made.source.open(made.keeper)
        opened.append(made)
        return made

    yield again
    for each in opened:
        await each.source.close()


async def test_everything_comes_once_and_then_it_is_exhausted(reading):
    source = await reading()
    errands = await source.all(len(BODIES))
    assert sorted(each.delivery.body for each in errands) == sorted(BODIES)
    assert len({each.delivery.position for each in errands}) == len(BODIES)
    if source.source.ordered:
        for partition in {each.delivery.position.home for each in errands}:
            offsets = [
                each.delivery.position.offset
                for each in errands
                if each.delivery.position.home == partition
            ]
            assert offsets == sorted(offsets)
    source.settle(errands)
    await source.keeper.commit()
    async with asyncio.timeout(30):
        while not source.source.exhausted:
            assert await source.take() == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_restart_gives_again_what_was_not_settled_and_nothing_else(reading, kind, seed):
    source = await reading()
    shuffle = random.Random(seed)
    errands = list(await source.all(30))
    shuffle.shuffle(errands)
    settled = errands[: len(errands) // 2]
    source.settle(settled)
    await source.keeper.commit()
    late = errands[len(settled)]
    source.settle([late])  # and never committed

    again = await reading()
    wanted = sorted(set(BODIES) - {each.delivery.body for each in settled})
    found = await again.all(len(wanted))
    assert sorted(each.delivery.body for each in found) == wanted
    again.settle(found)
    await again.keeper.commit()
    if kind not in KEEPS_NOTHING and again.source.ordered:
        third = await reading()
        async with asyncio.timeout(30):
            while not third.source.exhausted:
                assert await third.take() == []
        totals = third.keeper.custody.totals()
        assert totals.outcomes == {"written": len(BODIES)}, "the books travel with the commits"


async def test_a_partition_that_is_held_gives_nothing_until_it_is_let_go(reading, kind):
    if kind not in ("memory", "archive", "group", "kafka"):
        return  # a queue has one partition, and an archive of files is read in order
    source = await reading()
    await source.all(1)
    held = source.errands[0].delivery.position.home
    source.source.hold([held])
    source.errands.clear()
    free = {each for each in source.keeper.custody.partitions if each != held}
    async with asyncio.timeout(30):
        while {each.delivery.position.home for each in source.errands} != free:
            await source.take()
    assert held not in {each.delivery.position.home for each in source.errands}
    source.source.hold([])
    async with asyncio.timeout(30):
        while held not in {each.delivery.position.home for each in source.errands}:
            await source.take()


async def test_a_commit_of_what_is_not_ours_is_passed_over(reading):
    source = await reading()
    await source.all(1)
    await source.source.commit({Partition("someone-elses", "7"): Progress(5, settled=(1,))})
