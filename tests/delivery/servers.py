"""Nights on real servers, from a seed: Kafka's protocol and SQS."""

import asyncio
import random
import uuid
from contextlib import asynccontextmanager

from aiobotocore.session import get_session
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from parts.aws import ACCESS
from parts.kafka import on_s3, tansu

from delivery.real_night import RealNight, real_sky

_KAFKA = """
[kafka]
group = "{name}"
revoke_s = 1.0
"""
_OF_MANY = "session_timeout_s = 3.0"
# Static membership: it goes on at once where it was killed.
_ALONE = """session_timeout_s = 6.0
instance_id = "only"
"""
_SQS = """
[sqs]
wait_s = 1
visibility_s = 3
[aws]
endpoint = "{endpoint}"
region = "us-east-1"
"""


async def kafka_night(address, seed, folder, *, dispatchers, events=150, faults=2, more=()):
    """Dispatchers of one group on a broker. `more`: (name, coroutine function) of other faults."""
    draw = random.Random(seed)
    sky, name = real_sky(draw, events), f"night-{uuid.uuid4().hex[:8]}"
    await _publish(address, name, sky)
    settings = _KAFKA.format(name=name) + (_ALONE if dispatchers == 1 else _OF_MANY)

    async def settled():
        return await _committed(address, name, len(sky.logs)) == [*map(len, sky.logs.values())]

    night = RealNight(
        f"kafka://{address}/{name}", sky, folder, seed, dispatchers, settings, settled
    )
    await night.run(faults, more)
    night.check()
    return night


async def _publish(address, topic, sky):
    async with _admin(address) as client:
        await client.create_topics([NewTopic(topic, len(sky.logs), 1)])
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        for partition, log in enumerate(sky.logs.values()):
            for body in log:  # one after the other: their order is their offset
                await producer.send(topic, body, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


async def _committed(address, group, partitions):
    """Committed offsets of the group, by partition (its topic has its name)."""
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=group)
    await consumer.start()
    try:
        return [
            await consumer.committed(TopicPartition(group, each)) or 0 for each in range(partitions)
        ]
    finally:
        await consumer.stop()


@asynccontextmanager
async def _admin(address):
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def restarts_of(broker):
    """A fault: the broker is killed, and started again."""

    async def broker_restart():
        broker.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(broker.start)

    return broker_restart


@asynccontextmanager
async def durable_broker(endpoint):
    """tansu with its data on S3: it may be killed and started again."""
    bucket = f"broker-{uuid.uuid4().hex[:8]}"
    async with get_session().create_client("s3", endpoint_url=endpoint, **ACCESS) as client:
        await client.create_bucket(Bucket=bucket)
    with tansu(f"s3://{bucket}/", **on_s3(endpoint)) as server:
        yield server


async def sqs_night(endpoint, seed, folder, *, dispatchers, events=150, faults=2):
    """Dispatchers on one queue."""
    draw = random.Random(seed)
    sky, name = real_sky(draw, events), f"night-{uuid.uuid4().hex[:8]}"
    async with get_session().create_client("sqs", endpoint_url=endpoint, **ACCESS) as client:
        url = (await client.create_queue(QueueName=name))["QueueUrl"]
        await _send(client, url, [body.decode() for log in sky.logs.values() for body in log])
        settings = _SQS.format(endpoint=endpoint)

        async def settled():
            return await _left(client, url) == 0

        night = RealNight(f"sqs://{name}", sky, folder, seed, dispatchers, settings, settled)
        await night.run(faults)
    night.check()
    return night


async def _send(client, url, bodies):
    for first in range(0, len(bodies), 10):
        entries = [
            {"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[first : first + 10])
        ]
        answer = await client.send_message_batch(QueueUrl=url, Entries=entries)
        if answer.get("Failed"):
            raise RuntimeError(f"the queue does not take events: {answer['Failed']}")


async def _left(client, url):
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return sum(int(answer["Attributes"][each]) for each in names)
