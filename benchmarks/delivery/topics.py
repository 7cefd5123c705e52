"""Topics and queues, filled beforehand; and what a side left behind in them."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiobotocore.session import get_session
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.delivery.servers import ACCESS

PARTITIONS: Final = 4
_BATCH_BYTES: Final = 500_000
SESSION_S: Final = 6
"""Of all groups: tansu lets a first member in after half of it."""

Body = Callable[[int], bytes]


def fresh(word: str) -> str:
    """A name that nothing has yet."""
    return f"{word}-{uuid.uuid4().hex[:8]}"


async def create(servers: str, topic: str) -> str:
    """A new, empty topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    finally:
        await admin.close()
    return topic


async def filled(servers: str, count: int, body: Body) -> str:
    """A new topic with `count` events, `body(n)` each, spread evenly over its partitions."""
    topic = await create(servers, fresh("events"))
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", max_batch_size=1 << 20, max_request_size=1 << 22
    )
    await producer.start()
    try:
        numbers = [range(each, count, PARTITIONS) for each in range(PARTITIONS)]
        await asyncio.gather(
            *(_fill(producer, topic, number, each, body) for number, each in enumerate(numbers))
        )
    finally:
        await producer.stop()
    return topic


async def _fill(
    producer: AIOKafkaProducer, topic: str, partition: int, numbers: range, body: Body
) -> None:
    batch, nbytes = producer.create_batch(), 0
    for number in numbers:
        value = body(number)
        # The last one goes alone: tansu says that a topic ends after the first of its last batch.
        if nbytes and (nbytes + len(value) > _BATCH_BYTES or number == numbers[-1]):
            await (await producer.send_batch(batch, topic, partition=partition))
            batch, nbytes = producer.create_batch(), 0
        batch.append(key=None, value=value, timestamp=None)
        nbytes += len(value)
    await (await producer.send_batch(batch, topic, partition=partition))


def noise(nbytes: int) -> Body:
    """Random bytes, a few different ones: nothing in them can be compressed or decoded."""
    bodies = [os.urandom(nbytes) for _ in range(16)]
    return lambda number: bodies[number % len(bodies)]


async def stored(servers: str, topic: str, expected: int) -> int:
    """How many events the topic holds, by reading them all, or at least `expected`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, n) for n in range(PARTITIONS)])
        seen = 0
        while found := await consumer.getmany(timeout_ms=200 if seen >= expected else 3000):
            seen += sum(len(each) for each in found.values())
        return seen
    finally:
        await consumer.stop()


async def committed(servers: str, topic: str, group: str) -> int:
    """How many events of the topic the group has committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        found = [await consumer.committed(TopicPartition(topic, n)) for n in range(PARTITIONS)]
        return sum(each or 0 for each in found)
    finally:
        await consumer.stop()


@asynccontextmanager
async def queue_client(url: str) -> AsyncIterator[Any]:
    """A bare client of SQS."""
    async with get_session().create_client("sqs", endpoint_url=url, **ACCESS) as client:
        yield client


async def filled_queue(url: str, count: int, nbytes: int) -> str:
    """A new queue with `count` messages of `nbytes`; its URL."""
    text = "x" * nbytes
    async with queue_client(url) as client:
        queue = (await client.create_queue(QueueName=fresh("events")))["QueueUrl"]
        for first in range(0, count, 10):
            some = range(first, min(first + 10, count))
            await client.send_message_batch(
                QueueUrl=queue, Entries=[{"Id": str(n), "MessageBody": text} for n in some]
            )
    return str(queue)


async def drop_queue(url: str, queue: str) -> int:
    """Delete the queue; how many messages were left in it. Others get slower with what is there."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    async with queue_client(url) as client:
        got = await client.get_queue_attributes(QueueUrl=queue, AttributeNames=names)
        await client.delete_queue(QueueUrl=queue)
    return sum(int(each) for each in got["Attributes"].values())


async def paced(
    servers: str, topic: str, count: int, per_s: float, body: Body, start: float
) -> float:
    """Send event n at `start` + n / `per_s` (unix seconds); how late the last one was (s)."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", max_batch_size=1 << 20, max_request_size=1 << 22
    )
    await producer.start()
    try:
        acknowledged = []
        for number in range(count):
            if (early := start + number / per_s - time.time()) > 0:
                await asyncio.sleep(early)
            acknowledged.append(
                await producer.send(topic, body(number), partition=number % PARTITIONS)
            )
        await asyncio.gather(*acknowledged)
        return time.time() - (start + (count - 1) / per_s)
    finally:
        await producer.stop()
