"""A queue as a source: what is settled is deleted, all else comes again."""

import asyncio
import itertools
import json
import random
import time
from contextlib import asynccontextmanager

import packets
import pytest
import structlog
from aiobotocore.session import get_session
from aiohttp import web
from botocore.exceptions import ClientError
from parts.aws import ACCESS
from parts.process import free_port

from ingest.errors import SourceError, SourceUnavailable
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources.sqs import SqsOptions, SqsSource
from ingest.sources.sqs.inflight import offset_of
from ingest.sources.sqs.outage import Outage

NUMBERS = itertools.count()
SESSION = get_session()  # one: each reads the descriptions of services anew, which takes a while


@pytest.fixture(autouse=True)
def _one_session(monkeypatch):
    monkeypatch.setattr("ingest.sources.sqs.queue.get_session", lambda: SESSION)
    monkeypatch.setattr("ingest.sources.sqs.objects.get_session", lambda: SESSION)


class Keeper:
    """Takes every partition, and keeps nothing of it."""

    def __init__(self):
        self.assigned = []

    def assign(self, partition, committed=None):
        self.assigned.append((partition, committed))
        return 0


class Queue:
    """A queue, as those see it who write to it and look at it."""

    def __init__(self, aws, client, name, url):
        self.aws, self.client, self.name, self.url = aws, client, name, url

    def source(self, aws=None, allow=(), s3=None, **options):
        """A source of it; one that leaves at once, so that tests need not wait for polls."""
        given = SqsOptions(**{"wait_s": 1, "visibility_s": 30, "leave_s": 0, **options})
        client = {"endpoint_url": aws or self.aws, **ACCESS}
        return SqsSource(self.name, given, client, allow, s3)

    async def send(self, *bodies, **more):
        for first in range(0, len(bodies), 10):
            entries = [
                {"Id": str(n), "MessageBody": body, **more}
                for n, body in enumerate(bodies[first : first + 10])
            ]
            answer = await self.client.send_message_batch(QueueUrl=self.url, Entries=entries)
            assert not answer.get("Failed")

    async def receive(self, wait_s=0, visibility_s=0):
        """What another reader would get."""
        answer = await self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait_s,
            VisibilityTimeout=visibility_s,
            MessageSystemAttributeNames=["All"],
        )
        return answer.get("Messages", [])

    async def counts(self):
        """How many messages wait, and how many somebody holds."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        answer = await self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return tuple(int(answer["Attributes"][each]) for each in names)

    async def arn(self):
        answer = await self.client.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["QueueArn"]
        )
        return answer["Attributes"]["QueueArn"]


@pytest.fixture
async def sqs(aws):
    async with SESSION.create_client("sqs", endpoint_url=aws, **ACCESS) as client:
        yield client


@pytest.fixture
def new_queue(aws, sqs):
    async def make(ending="", **attributes):
        name = f"events-{next(NUMBERS)}{ending}"
        url = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
        return Queue(aws, sqs, name, url)

    return make


@pytest.fixture
async def queue(new_queue):
    return await new_queue()


@pytest.fixture
async def fifo(new_queue):
    return await new_queue(".fifo", FifoQueue="true", ContentBasedDeduplication="true")


@asynccontextmanager
async def reading(source):
    await source.open(Keeper())
    try:
        yield source
    finally:
        await source.close()


async def taken(source, count, within_s=10.0):
    """The next `count` deliveries."""
    deliveries = []
    async with asyncio.timeout(within_s):
        while len(deliveries) < count:
            deliveries += await source.take(count - len(deliveries))
    return deliveries


async def rest(source, until_s=0.3):
    """What still comes."""
    deliveries, end = [], time.monotonic() + until_s
    while time.monotonic() < end:
        deliveries += await source.take(100)
    return deliveries


def settled(source, deliveries):
    offsets = tuple(each.position.offset for each in deliveries)
    return {source.partition: Progress(settled=offsets)}


async def crash(source):
    """End it as a kill would: nothing is deleted or handed back."""
    source._running.cancel()
    await asyncio.wait({source._running})
    await source._disconnect()


def bodies(deliveries):
    return sorted(each.body.decode() for each in deliveries)


BODIES = [f'{{"n": {n:03d}}}' for n in range(100)]


# Settling


async def test_what_is_settled_is_deleted_and_nothing_else(queue):
    await queue.send(*BODIES[:25])
    async with reading(queue.source()) as source:
        deliveries = await taken(source, 25)
        assert bodies(deliveries) == BODIES[:25]
        await source.commit(settled(source, deliveries[:12]))
        assert await queue.counts() == (0, 13)
        await source.commit(settled(source, deliveries[:12]))  # once more does no harm
        await source.commit({Partition("sqs:other", "other"): Progress(settled=(1, 2))})
        assert (source.counts.received, source.counts.deleted) == (25, 12)
        assert source.in_flight == 13


async def test_a_delivery_says_where_it_is_from(queue):
    await queue.send(BODIES[0])
    keeper, source = Keeper(), queue.source()
    await source.open(keeper)
    (delivery,) = await taken(source, 1)
    await source.close()
    assert keeper.assigned == [(Partition(source.name, queue.name), None)]
    assert source.name == f"sqs:{queue.name}"
    assert not source.ordered
    assert delivery.position[:2] == (source.name, queue.name)
    assert delivery.position.offset == offset_of(delivery.headers["sqs_message_id"])
    assert 0 <= delivery.position.offset < 2**63
    assert delivery.headers["sqs_receive_count"] == "1"
    assert abs(int(delivery.headers["sqs_sent_ms"]) / 1000 - time.time()) < 60
    assert abs(delivery.received - time.time()) < 60


async def test_a_url_names_a_queue_as_well(queue):
    await queue.send(BODIES[0])
    source = SqsSource(
        queue.url, SqsOptions(wait_s=1, leave_s=0), {"endpoint_url": queue.aws, **ACCESS}
    )
    async with reading(source):
        await taken(source, 1)
    assert source.name == f"sqs:{queue.name}"


async def test_random_settling_and_a_crash_lose_nothing_and_repeat_nothing(queue):
    names = [f'{{"n": {n}}}' for n in range(500)]
    await queue.send(*names)
    dice = random.Random(5)
    source = queue.source(visibility_s=2)
    await source.open(Keeper())
    done, open_ = set(), []
    while len(done) < 300:
        open_ += await source.take(50)
        dice.shuffle(open_)
        those, open_ = open_[:20], open_[20:]
        await source.commit(settled(source, those))
        done |= {each.body.decode() for each in those}
    await crash(source)
    async with reading(queue.source(visibility_s=10)) as after:
        left = await taken(after, 500 - len(done))
        assert bodies(left) == sorted(set(names) - done)
        assert {each.position for each in open_} <= {each.position for each in left}
        assert await rest(after) == []
        await after.commit(settled(after, left))
    assert await queue.counts() == (0, 0)


async def test_a_delete_that_fails_for_now_is_part_of_the_next_commit(queue, monkeypatch):
    await queue.send(*BODIES[:10])
    async with reading(queue.source()) as source:
        deliveries = await taken(source, 10)
        client = source._queue._sqs
        delete, unlucky = client.delete_message_batch, []

        async def fails_once(QueueUrl, Entries):
            if unlucky:
                return await delete(QueueUrl=QueueUrl, Entries=Entries)
            unlucky.append(Entries[3]["Id"])
            answer = await delete(QueueUrl=QueueUrl, Entries=Entries[:3] + Entries[4:])
            failed = {"Id": unlucky[0], "Code": "InternalError", "SenderFault": False}
            return {**answer, "Failed": [failed]}

        monkeypatch.setattr(client, "delete_message_batch", fails_once)
        with pytest.raises(SourceUnavailable, match=r"^1 messages of .* \(InternalError"):
            await source.commit(settled(source, deliveries))
        assert source.counts.deleted == 9
        assert await queue.counts() == (0, 1)
        await source.commit({})
        assert source.counts.deleted == 10
        assert await queue.counts() == (0, 0)


async def test_a_message_that_somebody_else_deleted_is_let_go_of(queue):
    await queue.send(*BODIES[:10])
    async with reading(queue.source()) as source:
        deliveries = await taken(source, 10)
        stolen = next(iter(source._inflight))
        await queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=stolen.handle)
        await source.commit(settled(source, deliveries))
        assert (source.counts.deleted, source.counts.expired) == (9, 1)
        assert source.in_flight == 0


# How much is held


async def test_nothing_there_is_said_soon(queue):
    async with reading(queue.source()) as source:
        started = time.monotonic()
        assert await source.take(10) == []
        assert time.monotonic() - started < 0.5
        assert not source.exhausted


async def test_no_more_is_held_than_allowed(queue):
    await queue.send(*BODIES[:40])
    async with reading(queue.source(max_outstanding=15)) as source:
        deliveries = await taken(source, 15)
        assert await rest(source) == []
        assert await queue.counts() == (25, 15)
        await source.commit(settled(source, deliveries[:10]))
        assert len(await taken(source, 10)) == 10
        assert await rest(source) == []


async def test_what_nobody_takes_is_bounded_and_stays_ours(queue):
    await queue.send(*BODIES[:40])
    async with reading(queue.source(receivers=1, visibility_s=1)) as source:
        await asyncio.sleep(1.4)
        assert await queue.counts() == (20, 20)
        deliveries = await taken(source, 40)
        assert bodies(deliveries) == BODIES[:40]
        await source.commit(settled(source, deliveries))
        assert source.counts.redelivered == source.counts.expired == 0


async def test_a_partition_on_hold_delivers_nothing(queue):
    await queue.send(*BODIES[:5])
    async with reading(queue.source()) as source:
        source.hold([source.partition])
        assert await rest(source) == []
        source.hold([Partition("sqs:other", "other")])
        assert len(await taken(source, 5)) == 5


async def test_a_source_until_empty_ends_when_all_is_settled(queue):
    await queue.send(*BODIES[:30])
    async with reading(queue.source(until_empty=True)) as source:
        deliveries = await taken(source, 30)
        await source.commit(settled(source, deliveries[:29]))
        assert await rest(source, 1.1) == []
        assert not source.exhausted, "one is still held"
        await source.commit(settled(source, deliveries))
        async with asyncio.timeout(5):
            while not source.exhausted:
                assert await source.take(10) == []


@pytest.mark.parametrize(
    "wrong", [{"wait_s": 0}, {"wait_s": 21}, {"receivers": 0}, {"max_age_h": 13}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SqsOptions(**wrong)


# Visibility


async def test_what_is_held_is_not_seen_by_others(queue):
    await queue.send(*BODIES[:25])
    async with reading(queue.source(visibility_s=1)) as source:
        deliveries = await taken(source, 25)
        assert await queue.receive(wait_s=2) == []
        await source.commit(settled(source, deliveries))
        assert source.counts.deleted == 25
        assert source.counts.redelivered == source.counts.expired == 0
    assert await queue.counts() == (0, 0)


async def test_what_comes_again_while_it_is_held_is_not_delivered_twice(queue):
    await queue.send(*BODIES[:3])
    # Too old at once, so that nothing is refreshed.
    async with reading(queue.source(visibility_s=1, max_age_h=0)) as source:
        deliveries = await taken(source, 3)
        async with asyncio.timeout(5):
            while source.counts.redelivered < 3:
                assert await source.take(10) == []
        assert source.counts.expired >= 3
        assert source.in_flight == 3
        await source.commit(settled(source, deliveries))
        assert source.counts.deleted == 3, "with the new handles"
    assert await queue.counts() == (0, 0)


async def test_what_comes_again_after_it_was_settled_is_deleted(queue):
    await queue.send(BODIES[0])
    async with reading(queue.source(visibility_s=1, max_age_h=0)) as source:
        deliveries = await taken(source, 1)
        source._asked = 1000  # no polls for now, so that somebody else gets it
        await asyncio.sleep(0.1)
        assert len(await queue.receive(wait_s=3, visibility_s=1)) == 1
        await source.commit(settled(source, deliveries))
        assert (source.counts.deleted, source.counts.expired) == (0, 1)
        source._asked = 0
        source._room.set()
        async with asyncio.timeout(5):
            while not source.counts.repeated:
                assert await source.take(10) == []
        assert await rest(source, 0.2) == []
    assert await queue.counts() == (0, 0)


async def test_a_heartbeat_drops_what_is_gone(queue):
    await queue.send(*BODIES[:2])
    async with reading(queue.source(visibility_s=1)) as source:
        deliveries = await taken(source, 2)
        stolen = next(iter(source._inflight))
        await queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=stolen.handle)
        await asyncio.sleep(1.2)
        assert source.counts.expired == 1
        await source.commit(settled(source, deliveries))
        assert (source.counts.deleted, source.counts.expired) == (1, 1), "counted once"


# Leaving


async def test_leaving_hands_back_what_is_not_settled(queue, monkeypatch):
    await queue.send(*BODIES[:30])
    source = queue.source(leave_s=5)
    async with reading(source):
        deliveries = await taken(source, 25)

        async def no_answer(**_):
            raise OSError("gone")

        with monkeypatch.context() as patch:
            patch.setattr(source._queue._sqs, "delete_message_batch", no_answer)
            with pytest.raises(SourceUnavailable):
                await source.commit(settled(source, deliveries[:10]))
    assert source.counts.deleted == 10, "settled ones are deleted before"
    assert source.counts.returned == 20
    assert await queue.counts() == (20, 0), "visible at once"
    assert await source.take(10) == []


async def test_polls_that_are_given_up_swallow_nothing(queue):
    """The server goes on with them: what is handed back would be handed out to nobody."""
    async with reading(queue.source(receivers=1)):
        await asyncio.sleep(0.1)
        await queue.send(*BODIES[:3])
        await asyncio.sleep(0.3)
    (first, *_) = await queue.receive(wait_s=4)
    assert first["Attributes"]["ApproximateReceiveCount"] == "2", "ours, and this"


async def test_a_queue_with_dead_letters_gets_what_is_never_settled(queue, new_queue):
    dead = await new_queue()
    policy = {"deadLetterTargetArn": await dead.arn(), "maxReceiveCount": "2"}
    await queue.client.set_queue_attributes(
        QueueUrl=queue.url, Attributes={"RedrivePolicy": json.dumps(policy)}
    )
    await queue.send("poison")
    for count in ("1", "2"):
        async with reading(queue.source(leave_s=5)) as source:
            (delivery,) = await taken(source, 1)
            assert delivery.headers["sqs_receive_count"] == count
    async with reading(queue.source()) as source:
        assert await rest(source) == []
    assert [each["Body"] for each in await dead.receive()] == ["poison"]


# Groups in order


def groups(deliveries):
    """The bodies of each group, in the order in which they came."""
    by_group = {}
    for each in deliveries:
        by_group.setdefault(each.headers["sqs_message_group"], []).append(each.body.decode())
    return by_group


def deletes_of(source, monkeypatch):
    """Ids of the messages that it deletes from now on, as it asks for it."""
    client, ids = source._queue._sqs, []
    delete = client.delete_message_batch

    async def noted(QueueUrl, Entries):
        ids.extend(each["Id"] for each in Entries)
        return await delete(QueueUrl=QueueUrl, Entries=Entries)

    monkeypatch.setattr(client, "delete_message_batch", noted)
    return ids


async def test_a_group_is_delivered_and_deleted_in_its_order(fifo, monkeypatch):
    for n in range(6):
        for group in "ab":
            await fifo.send(f"{group}{n}", MessageGroupId=group)
    source = fifo.source(visibility_s=1)
    await source.open(Keeper())
    deliveries = await taken(source, 10)  # the rest of a group waits for these
    assert groups(deliveries)["a"] == ["a0", "a1", "a2", "a3", "a4"]
    by_body = {each.body.decode(): each for each in deliveries}
    await source.commit(settled(source, [by_body[f"a{n}"] for n in (1, 2, 3, 4)]))
    assert source.counts.deleted == 0, "they wait for the first"
    await source.commit(settled(source, [by_body["b1"], by_body["b0"]]))
    assert source.counts.deleted == 2
    await crash(source)

    async with reading(fifo.source()) as after:
        again = await taken(after, 10)
        deleted = deletes_of(after, monkeypatch)
        assert groups(again) == {"a": [f"a{n}" for n in range(6)], "b": ["b2", "b3", "b4", "b5"]}
        random.Random(3).shuffle(again)
        for each in again:
            await after.commit(settled(after, [each]))
        body_of = {each.headers["sqs_message_id"]: each.body.decode() for each in again}
        order = [body_of[each] for each in deleted]
        assert len(order) == 10
        assert [each for each in order if each[0] == "a"] == [f"a{n}" for n in range(6)]
        assert [each for each in order if each[0] == "b"] == ["b2", "b3", "b4", "b5"]


async def test_a_hole_is_never_left_before_a_later_message(fifo, monkeypatch):
    for n in range(3):
        await fifo.send(f"a{n}", MessageGroupId="a")
    async with reading(fifo.source()) as source:
        deliveries = await taken(source, 3)
        client, failing = source._queue._sqs, [True]
        delete = client.delete_message_batch

        async def first_fails(QueueUrl, Entries):
            if failing:
                failed = [{"Id": Entries[0]["Id"], "Code": "InternalError", "SenderFault": False}]
                rest = Entries[1:]
                answer = await delete(QueueUrl=QueueUrl, Entries=rest) if rest else {}
                return {**answer, "Failed": failed}
            return await delete(QueueUrl=QueueUrl, Entries=Entries)

        monkeypatch.setattr(client, "delete_message_batch", first_fails)
        with pytest.raises(SourceUnavailable):
            await source.commit(settled(source, deliveries))
        assert source.counts.deleted == 0
        failing.clear()
        await source.commit({})
        assert source.counts.deleted == 3


# Through S3 and SNS


@pytest.fixture
async def s3(aws):
    async with SESSION.create_client("s3", endpoint_url=aws, **ACCESS) as client:
        yield client


@pytest.fixture
async def bucket(s3):
    name = f"sqs-source-{next(NUMBERS)}"
    await s3.create_bucket(Bucket=name)
    return name


async def test_a_new_object_comes_through_its_notification(queue, s3, bucket):
    target = {"QueueArn": await queue.arn(), "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    await s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [target]}
    )
    packet = packets.ztf_packet()
    key = "night 7/a+b é.avro"
    await s3.put_object(Bucket=bucket, Key=key, Body=packet)
    await s3.put_object(
        Bucket=bucket,
        Key="cut.npz",
        Body=b"pixels",
        Metadata={"ra": "10.5", "dec": "1", "id": "7", "survey": "T"},
    )
    await s3.delete_object(Bucket=bucket, Key="cut.npz.old")
    async with reading(queue.source(allow=[f"s3://{bucket}"], until_empty=True)) as source:
        deliveries = {each.headers["s3_address"]: each for each in await taken(source, 2)}
        assert deliveries[f"s3://{bucket}/{key}"].body == packet
        notice = json.loads(deliveries[f"s3://{bucket}/cut.npz"].body)
        assert notice["stamp"] == {"url": f"s3://{bucket}/cut.npz"}
        await source.commit(settled(source, deliveries.values()))
        async with asyncio.timeout(5):
            while not source.exhausted:
                assert await source.take(10) == []
        assert source.counts.passed_over >= 1, "S3's test when the notification was set up"
        assert source.counts.received == source.counts.deleted
    assert await queue.counts() == (0, 0)


@pytest.mark.parametrize("raw", ["true", "false"])
async def test_a_topic_s_messages_come_as_they_were_published(aws, queue, raw):
    async with SESSION.create_client("sns", endpoint_url=aws, **ACCESS) as sns:
        topic = (await sns.create_topic(Name=queue.name))["TopicArn"]
        await sns.subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=await queue.arn(),
            Attributes={"RawMessageDelivery": raw},
        )
        encoded = {"encoding": {"DataType": "String", "StringValue": "base64"}}
        await sns.publish(TopicArn=topic, Message=BODIES[0])
        await sns.publish(TopicArn=topic, Message="T2JqAf8=", MessageAttributes=encoded)
    async with reading(queue.source()) as source:
        assert {each.body for each in await taken(source, 2)} == {
            BODIES[0].encode(),
            b"Obj\x01\xff",
        }


async def test_a_message_of_many_events_is_deleted_when_all_are_settled(queue, s3, bucket):
    for n in range(3):
        await s3.put_object(Bucket=bucket, Key=f"{n}.json", Body=BODIES[n])
    records = [
        {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket}, "object": {"key": f"{n}.json"}},
        }
        for n in range(3)
    ]
    await queue.send(json.dumps({"Records": records}))
    async with reading(queue.source(allow=[f"s3://{bucket}"])) as source:
        deliveries = await taken(source, 3)
        assert [each.body.decode() for each in deliveries] == BODIES[:3]
        assert len({each.position for each in deliveries}) == 3
        await source.commit(settled(source, deliveries[1:]))
        assert source.counts.deleted == 0
        await source.commit(settled(source, deliveries[:1]))
        assert source.counts.deleted == 1
    assert await queue.counts() == (0, 0)


def pointer(bucket, key):
    name = "software.amazon.payloadoffloading.PayloadS3Pointer"
    return json.dumps([name, {"s3BucketName": bucket, "s3Key": key}])


def failing(source, times=1):
    """S3 does not answer it for the first `times` objects."""
    read, left = source._objects.read, iter(range(times))

    async def fails_first(*place):
        if next(left, None) is not None:
            raise SourceUnavailable("not now")
        return await read(*place)

    source._objects.read = fails_first
    return source


async def test_an_object_that_cannot_be_read_now_holds_up_nobody(queue, s3, bucket):
    await s3.put_object(Bucket=bucket, Key="large", Body=b"large")
    await queue.send(pointer(bucket, "large"), BODIES[0], pointer(bucket, "none"))
    source = queue.source(allow=[f"s3://{bucket}"], retry_s=1)
    async with reading(failing(source, times=2)):
        (delivery,) = await taken(source, 1)
        assert delivery.body == BODIES[0].encode()
        there, lost = sorted(await taken(source, 2), key=lambda each: "unreadable" in each.headers)
        assert source.counts.returned == 2
        assert there.body == b"large"
        assert there.headers["sqs_receive_count"] == "2"
        assert lost.body == pointer(bucket, "none").encode()
        assert "NoSuchKey" in lost.headers["unreadable"]


async def test_a_queue_is_not_empty_while_an_object_is_waited_for(queue, s3, bucket):
    await s3.put_object(Bucket=bucket, Key="large", Body=b"large")
    await queue.send(pointer(bucket, "large"))
    source = queue.source(allow=[f"s3://{bucket}"], retry_s=2, until_empty=True)
    came = []
    async with reading(failing(source)), asyncio.timeout(10):
        while not source.exhausted:
            deliveries = await source.take(1)
            came += [each.body for each in deliveries]
            await source.commit(settled(source, deliveries))
    assert came == [b"large"]


async def test_nothing_of_a_group_overtakes_an_object_that_is_waited_for(fifo, s3, bucket):
    await s3.put_object(Bucket=bucket, Key="large", Body=b"large")
    for body in (BODIES[0], pointer(bucket, "large"), BODIES[1]):
        await fifo.send(body, MessageGroupId="a")
    source = failing(fifo.source(allow=[f"s3://{bucket}"], retry_s=1))
    async with reading(source):
        first = await taken(source, 1)
        assert await rest(source, 0.2) == []
        await source.commit(settled(source, first))
        assert [each.body for each in await taken(source, 2)] == [b"large", BODIES[1].encode()]


# What AWS may answer


@asynccontextmanager
async def line_to(address):
    """An address that leads to another one, and that can be cut: `cut()`, `mend()`."""

    class Line:
        port, server, writers = free_port(), None, set()

        async def carry(self, reader, writer):
            there = await asyncio.open_connection(*address)
            self.writers |= {writer, there[1]}
            await asyncio.gather(self.pump(reader, there[1]), self.pump(there[0], writer))

        async def pump(self, reader, writer):
            try:
                while data := await reader.read(65536):
                    writer.write(data)
            except OSError:
                pass
            finally:
                writer.close()

        async def mend(self):
            self.server = await asyncio.start_server(self.carry, "127.0.0.1", self.port)

        async def cut(self):
            self.server.close()
            for each in self.writers:
                each.transport.abort()
            self.writers.clear()

    line = Line()
    await line.mend()
    try:
        yield line
    finally:
        await line.cut()


async def test_an_outage_is_waited_out_and_said_once(queue):
    await queue.send(*BODIES[:10])
    host, port = queue.aws.removeprefix("http://").split(":")
    async with line_to((host, int(port))) as line:
        source = queue.source(aws=f"http://127.0.0.1:{line.port}")
        with structlog.testing.capture_logs() as logs:
            async with reading(source):
                deliveries = await taken(source, 10)
                await line.cut()
                assert await rest(source, 0.5) == []
                with pytest.raises(SourceUnavailable, match="were not deleted"):
                    await source.commit(settled(source, deliveries))
                await line.mend()
                await queue.send(*BODIES[10:12])
                assert bodies(await taken(source, 2)) == BODIES[10:12]
                await source.commit({})
                assert source.counts.deleted + source.counts.expired == 10
    said = [each["event"] for each in logs if each.get("service") == source.name]
    assert said == ["does not answer, and is asked again", "answers again"]


def test_waits_grow_to_their_bound():
    outage = Outage("s", first_s=1.0, longest_s=8.0)
    waits = [outage.failed("no") for _ in range(2000)]
    for wait, most in zip(waits[:5], (1, 2, 4, 8, 8), strict=True):
        assert most / 2 <= wait <= most
    assert 4 <= waits[-1] <= 8
    outage.over()
    assert outage.failed("no") <= 1.0


async def test_a_throttle_is_waited_out(queue, monkeypatch):
    async with reading(queue.source()) as source:
        client, refused = source._queue._sqs, []
        receive = client.receive_message

        async def throttled(**asked):
            if len(refused) < 2:
                refused.append(asked)
                raise ClientError({"Error": {"Code": "RequestThrottled"}}, "ReceiveMessage")
            return await receive(**asked)

        monkeypatch.setattr(client, "receive_message", throttled)
        await queue.send(*BODIES[:10])
        await taken(source, 10)
        await queue.send(*BODIES[10:20])
        await taken(source, 10)
        assert len(refused) == 2


async def test_a_queue_that_does_not_exist_is_said_in_a_sentence(aws):
    source = SqsSource("nowhere", client={"endpoint_url": aws, **ACCESS})
    with pytest.raises(SourceError, match=r"^the queue nowhere does not exist: check its name"):
        await source.open(Keeper())
    await source.close()


async def test_a_queue_that_may_not_be_read_is_said_in_a_sentence():
    async def refuse(request):
        body = {"__type": "com.amazon.coral.service#AccessDeniedException", "message": "no"}
        return web.json_response(body, status=403)

    app = web.Application()
    app.router.add_post("/", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with pytest.raises(SourceError, match=r"^the queue q may not be read: allow sqs:GetQueueUrl"):
        await SqsSource("q", client={"endpoint_url": url, **ACCESS}).open(Keeper())
    await runner.cleanup()


async def test_no_answer_at_the_start_may_be_another_time():
    client = {"endpoint_url": f"http://127.0.0.1:{free_port()}", **ACCESS}
    with pytest.raises(SourceUnavailable, match="does not answer"):
        await SqsSource("q", client=client).open(Keeper())
