"""Topics on a broker for the tests of the Kafka source, and what is read of them."""

import asyncio
import contextlib
import time
import uuid

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ingest.sources.kafka import KafkaOptions, KafkaSource


class Recorder:
    """A keeper that writes down what it is told."""

    def __init__(self, on_revoke=None):
        self.assigned, self.revoked, self.lost = [], [], []
        self.on_revoke = on_revoke

    def assign(self, partition, committed=None):
        self.assigned.append((partition, committed))
        return committed.watermark if committed else 0

    async def revoke(self, partitions):
        self.revoked += partitions
        if self.on_revoke:
            await self.on_revoke(partitions)

    def lose(self, partitions):
        self.lost += partitions


def fresh(word):
    return f"{word}-{uuid.uuid4().hex[:8]}"


@contextlib.asynccontextmanager
async def admin(address):
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create(address, topic, partitions=1):
    async with admin(address) as client:
        await client.create_topics([NewTopic(topic, partitions, 1)])
    return topic


@contextlib.asynccontextmanager
async def producing(address, **options):
    producer = AIOKafkaProducer(bootstrap_servers=address, max_request_size=1 << 22, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(address, topic, bodies, partition=0, **more):
    async with producing(address) as producer:
        sent = [await producer.send(topic, body, partition=partition, **more) for body in bodies]
        await asyncio.gather(*sent)


def numbered(first, last):
    return [b"%d" % number for number in range(first, last)]


@contextlib.asynccontextmanager
async def opened(address, topics, keeper=None, *, client=None, clock=time.time, **options):
    options = {"group": fresh("group"), "refresh_s": 0.3, **options}
    source = KafkaSource(address, topics, KafkaOptions(**options), client, clock)
    await source.open(keeper or Recorder())
    try:
        yield source
    finally:
        await source.close()


async def taken(source, count, limit=1000, seconds=15):
    """The next `count` deliveries, and what else came with the last of them."""
    deliveries = []
    async with asyncio.timeout(seconds):
        while len(deliveries) < count:
            deliveries += await source.take(limit)
    return deliveries


async def rest(source, limit=1000):
    deliveries = []
    async with asyncio.timeout(15):
        while not source.exhausted:
            deliveries += await source.take(limit)
    return deliveries


async def until(condition, source, limit=1000, seconds=15):
    """Take until `condition()` holds; what came meanwhile."""
    deliveries = []
    async with asyncio.timeout(seconds):
        while not condition():
            deliveries += await source.take(limit)
    return deliveries


def bodies(deliveries):
    return [each.body for each in deliveries]


async def kept(address, group, topic, partition=0):
    async with admin(address) as client:
        offsets = await client.list_consumer_group_offsets(group)
    return offsets.get(TopicPartition(topic, partition))


async def first(source):
    """The next delivery."""
    return (await taken(source, 1))[0]
