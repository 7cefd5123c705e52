"""Results on a real Kafka broker: once in the log, whatever is killed, fenced, or out of reach."""

import asyncio
import base64
import gc
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

import fastavro
import jsonschema
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from parts.kafka import noida
from rows import record

from sinks.errors import SinkRefused, SinkUnavailable
from sinks.kafka import KafkaSink
from sinks.kafka_clients import dismiss
from sinks.kafka_errors import explained
from sinks.kafka_topic import Remembered
from sinks.record import SCHEMA_VERSION, ResultRecord
from sinks.registry import SchemaRegistry
from sinks.schemas import published_avro, published_json


async def make(servers, topic, partitions=3, **configs):
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
    await admin.close()


async def delete(servers, topic):
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()


@pytest.fixture
async def topic(kafka):
    """A topic of three partitions."""
    name = f"results-{uuid.uuid4().hex}"
    await make(kafka, name)
    return name


@pytest.fixture
async def open_sink():
    """Opens sinks; they are closed at the end."""
    opened = []

    async def opener(*args, **options):
        sink = KafkaSink(*args, **{"timeout_s": 5.0, **options})
        opened.append(sink)
        await sink.open()
        return sink

    yield opener
    for each in opened:
        await each.close()


async def keys(sink):
    return sorted([each.src_offset async for each in sink.scan()])


async def messages(servers, topic):
    """What any consumer sees that reads what is committed."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    found = await consumer.getmany(timeout_ms=1000)
    while more := await consumer.getmany(timeout_ms=100):
        found = {tp: found.get(tp, []) + more.get(tp, []) for tp in found.keys() | more.keys()}
    await consumer.stop()
    return [message for each in found.values() for message in each]


async def committed(servers, group, topic):
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=group)
    await consumer.start()
    offset = await consumer.committed(TopicPartition(topic, 0))
    await consumer.stop()
    return offset


# What is in a message


async def test_json_is_read_by_any_consumer(kafka, topic, open_sink):
    sink = await open_sink(kafka, topic)
    of_an_object, without = record(1, object_id="3139"), record(2)
    await sink.write([of_an_object, without])
    found = {each.key: each for each in await messages(kafka, topic)}
    assert found.keys() == {b"3139", without.result_id.encode()}
    row = json.loads(found[b"3139"].value)
    jsonschema.validate(row, published_json())
    assert row["source_id"] == str(2**62 + 1)
    assert ResultRecord(**row) == of_an_object
    headers = dict(found[b"3139"].headers)
    assert headers["result_id"] == of_an_object.result_id.encode()
    assert headers["status"] == b"ok"
    assert headers["tense"] == b"current"
    assert headers["schema_version"] == str(SCHEMA_VERSION).encode()


async def test_avro_is_read_with_the_published_schema(kafka, topic, open_sink):
    sink = await open_sink(kafka, topic, form="avro")
    await sink.write([record(1)])
    (message,) = await messages(kafka, topic)
    assert struct.unpack(">bI", message.value[:5]) == (0, SCHEMA_VERSION)
    body = io.BytesIO(message.value[5:])
    assert ResultRecord(**fastavro.schemaless_reader(body, published_avro())) == record(1)
    assert await keys(sink) == [1]


async def test_the_results_of_an_object_keep_their_order(kafka, topic, open_sink):
    sink = await open_sink(kafka, topic, batch_bytes=4096)
    for start in range(0, 300, 100):
        await sink.write([record(n, object_id=str(n % 5)) for n in range(start, start + 100)])
    of_objects = {}
    for each in sorted(await messages(kafka, topic), key=lambda each: each.offset):
        of_objects.setdefault(each.key, []).append(json.loads(each.value)["src_offset"])
    assert {key: list(map(int, of)) for key, of in of_objects.items()} == {
        str(n).encode(): list(range(n, 300, 5)) for n in range(5)
    }


# Once


@pytest.mark.parametrize("transactional", [False, True])
async def test_a_key_is_stored_once_also_after_a_restart(kafka, topic, open_sink, transactional):
    ours = {"transactional_id": topic if transactional else None}
    source = random.Random(5)
    for _ in range(3):
        sink = await open_sink(kafka, topic, **ours)
        numbers = [*range(60), *range(20)]
        source.shuffle(numbers)
        while numbers:
            batch, numbers = numbers[:17], numbers[17:]
            await sink.write([record(n) for n in batch])
        assert await keys(sink) == list(range(60))
        await sink.close()


async def test_what_is_older_than_what_is_remembered_is_written_again(kafka, open_sink):
    topic = f"results-{uuid.uuid4().hex}"
    await make(kafka, topic, partitions=1)
    sink = await open_sink(kafka, topic)
    await sink.write([record(n) for n in range(50)])
    restarted = await open_sink(kafka, topic, remember=10)
    await restarted.write([record(0), *(record(n) for n in range(40, 50))])
    assert await keys(restarted) == sorted([0, *range(50)])


async def test_a_topic_that_was_made_anew_gets_what_the_old_one_had(kafka, topic, open_sink):
    sink = await open_sink(kafka, topic)
    await sink.write([record(n) for n in range(10)])
    await sink.close()
    await delete(kafka, topic)
    await make(kafka, topic)
    await sink.open()
    await sink.write([record(n) for n in range(10)])
    assert await keys(sink) == list(range(10))


def test_memory_of_keys_is_bounded_and_holds_the_last_ones():
    remembered = Remembered(100)
    for n in range(10_000):
        remembered.add(str(n))
        assert len(remembered) <= 200
    assert all(str(n) in remembered for n in range(9_900, 10_000))
    assert "0" not in remembered


def test_memory_for_nothing_holds_nothing():
    remembered = Remembered(0)
    remembered.add("a")
    assert "a" not in remembered


# Transactions


async def test_results_and_offsets_are_committed_together(kafka, topic, open_sink):
    group, events = f"g-{topic}", f"events-{topic}"
    await make(kafka, events, partitions=1)
    sink = await open_sink(kafka, topic, transactional_id=topic)
    await sink.write_with([record(1), record(2)], {(events, 0): (3, "gaps")}, group)
    assert await keys(sink) == [1, 2]
    assert await committed(kafka, group, events) == 3
    await sink.write_with([record(1)], {(events, 0): (4, "")}, group)
    assert await keys(sink) == [1, 2]
    assert await committed(kafka, group, events) == 4
    await sink.write_with([record(3)], {}, group)  # a person decided on it: its event was settled
    assert await keys(sink) == [1, 2, 3]
    assert await committed(kafka, group, events) == 4


async def test_offsets_need_a_transactional_id(kafka, topic, open_sink):
    sink = await open_sink(kafka, topic)
    with pytest.raises(SinkRefused, match="give transactional_id"):
        await sink.write_with([record(1)], {("t", 0): (1, "")}, "g")


async def test_what_a_killed_producer_left_open_is_never_seen(kafka, topic, open_sink):
    killed = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    await killed.start()
    await killed.begin_transaction()
    headers = [("result_id", record(1).result_id.encode())]
    await killed.send_and_wait(topic, b"half", key=b"k", headers=headers)
    await dismiss(killed)
    sink = await open_sink(kafka, topic, transactional_id=topic)
    assert await keys(sink) == []
    await sink.write([record(1)])
    assert [each.value for each in await messages(kafka, topic)] != [b"half"]
    assert await keys(sink) == [1]


async def test_who_is_fenced_says_so_and_takes_over_again(kafka, topic, open_sink):
    first = await open_sink(kafka, topic, transactional_id=topic)
    await first.write([record(1)])
    second = await open_sink(kafka, topic, transactional_id=topic)
    await second.write([record(2)])
    with pytest.raises(SinkUnavailable, match=r"ProducerFenced.*transactional id"):
        await first.write([record(3)])
    await first.write([record(2), record(3)])
    assert await keys(first) == [1, 2, 3]
    # aiokafka leaves two futures with the error behind; asyncio logs them when they are collected,
    # and a traceback that is formatted while pytest parses a module upsets Python 3.11's parser.
    gc.collect()


EXACTLY_ONCE = """
import asyncio, sys
sys.path[:0] = [sys.argv[4], sys.argv[5]]
from aiokafka import AIOKafkaConsumer, TopicPartition
from sinks.kafka import KafkaSink
from rows import record

servers, results, events = sys.argv[1:4]

async def main():
    # Remembers nothing: the transaction alone has to do it.
    sink = KafkaSink(servers, results, transactional_id=results, remember=0)
    await sink.open()
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=results)
    await consumer.start()
    start = await consumer.committed(TopicPartition(events, 0)) or 0
    for n in range(start, 10**9, 7):
        rows = [record(each) for each in range(n, n + 7)]
        await sink.write_with(rows, {(events, 0): (n + 7, "")}, results)
        print(n + 7, flush=True)

asyncio.run(main())
"""


async def test_a_killed_service_gives_every_result_exactly_once(kafka, topic, open_sink):
    events, acknowledged, source = f"events-{topic}", 0, random.Random(3)
    await make(kafka, events, partitions=1)
    here = Path(__file__).parent
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", EXACTLY_ONCE, kafka, topic, events, here.parents[1], here],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(source.randint(3, 40)):
            acknowledged = int(await asyncio.to_thread(process.stdout.readline))
        process.kill()
        process.communicate()
    sink = await open_sink(kafka, topic, transactional_id=topic)
    found = await keys(sink)
    assert found == list(range(len(found))), "something is missing or doubled"
    assert len(found) == await committed(kafka, topic, events) >= acknowledged


# Brokers that go away


@pytest.fixture
def broker(tmp_path):
    """A broker that may be killed."""
    with noida(tmp_path) as server:
        yield server


async def test_a_broker_that_restarts_is_unavailable_and_then_has_all_once(broker, open_sink):
    await make(broker.address, "results")
    sink = await open_sink(broker.address, "results", timeout_s=1.5)
    await sink.write([record(n) for n in range(20)])
    await asyncio.to_thread(broker.terminate)
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(SinkUnavailable):
            await sink.write([record(n) for n in range(10, 30)])
        assert time.monotonic() - begun < 9
    await asyncio.to_thread(broker.start)
    await sink.write([record(n) for n in range(10, 30)])
    assert await keys(sink) == list(range(30))


async def test_a_producer_that_outlives_its_broker_is_replaced(broker, open_sink):
    """The broker forgets its producers: an idempotent one is out of sequence for ever."""
    await make(broker.address, "results", partitions=1)
    sink = await open_sink(broker.address, "results", timeout_s=5.0)
    await sink.write([record(n) for n in range(20)])
    await asyncio.to_thread(broker.terminate)
    await asyncio.to_thread(broker.start)
    for _ in range(2):
        try:
            await sink.write([record(n) for n in range(10, 30)])
            break
        except SinkUnavailable:
            continue
    await sink.write([record(30)])
    assert await keys(sink) == list(range(31))


async def test_a_write_that_is_not_answered_ends_in_time_and_is_not_doubled(broker, open_sink):
    await make(broker.address, "results", partitions=1)
    sink = await open_sink(broker.address, "results", timeout_s=1.0)
    await sink.write([record(0)])
    os.kill(broker.process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    try:
        with pytest.raises(SinkUnavailable):
            await sink.write([record(1)])  # it is in the broker's buffers
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    assert time.monotonic() - begun < 9
    patient = KafkaSink(broker.address, "results")
    for _ in range(20):
        if await keys(patient) == [0, 1]:
            break
        await asyncio.sleep(0.05)
    await sink.write([record(1), record(2)])
    assert await keys(sink) == [0, 1, 2]


async def test_a_write_that_is_cancelled_is_not_doubled(kafka, topic, open_sink):
    sink = await open_sink(kafka, topic, transactional_id=topic)
    rows = [record(n) for n in range(2000)]
    for wait_s in (0.001, 0.02, 0.05, 0.1):
        write = asyncio.create_task(sink.write(rows))
        await asyncio.sleep(wait_s)
        write.cancel()
        await asyncio.wait([write])
    await sink.write(rows)
    assert await keys(sink) == list(range(2000))


async def test_no_broker_at_all_is_unavailable_in_time(unused_tcp_port):
    sink = KafkaSink(f"127.0.0.1:{unused_tcp_port}", "results", timeout_s=1.0)
    for use in (sink.open, lambda: sink.write([record(1)]), lambda: keys(sink)):
        begun = time.monotonic()
        with pytest.raises(SinkUnavailable, match="KafkaConnectionError"):
            await use()
        assert time.monotonic() - begun < 5
    await sink.close()


async def test_a_broker_without_idempotence_is_named_and_can_be_used(tansu, open_sink):
    topic = f"results-{uuid.uuid4().hex}"
    with pytest.raises(SinkUnavailable, match="set idempotent to false"):
        await open_sink(tansu, topic)
    sink = await open_sink(tansu, topic, idempotent=False)
    await sink.write([record(1)])
    await sink.write([record(1), record(2)])
    assert await keys(sink) == [1, 2]


# What is never taken


async def test_what_is_too_large_is_refused_with_advice(kafka, open_sink):
    topic = f"results-{uuid.uuid4().hex}"
    await make(kafka, topic, **{"max.message.bytes": "2000"})
    sink = await open_sink(kafka, topic)
    with pytest.raises(SinkRefused, match=r"max\.message\.bytes"):
        await sink.write([record(1, reason=random.Random(1).randbytes(4000).hex())])
    await sink.write([record(2)])
    assert await keys(sink) == [2]


async def test_a_topic_of_something_else_is_refused_by_a_scan(kafka, topic, open_sink):
    other = AIOKafkaProducer(bootstrap_servers=kafka)
    await other.start()
    await other.send_and_wait(topic, b"news")
    await other.stop()
    sink = await open_sink(kafka, topic)
    with pytest.raises(SinkRefused, match=r"no result .*topic of their own"):
        await keys(sink)


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (errors.TopicAuthorizationFailedError("t"), SinkRefused, "write the topic"),
        (errors.SaslAuthenticationFailed(), SinkRefused, "user and password"),
        (errors.UnknownTopicOrPartitionError(), SinkRefused, "create the topic"),
        (errors.NotLeaderForPartitionError(), SinkUnavailable, "NotLeader"),
        (errors.KafkaTimeoutError(), SinkUnavailable, "Timeout"),
        (errors.OutOfOrderSequenceNumber(), SinkUnavailable, "OutOfOrder"),
        (TimeoutError(), SinkUnavailable, "Timeout"),
    ],
)
def test_errors_say_whether_to_try_again_and_what_to_do(error, kind, advice):
    said = explained(error, "kafka://k:9092/results")
    assert type(said) is kind
    assert advice in str(said)
    assert "kafka://k:9092/results" in str(said)


async def test_a_topic_that_was_there_is_waited_for(kafka, topic, open_sink, monkeypatch):
    """Brokers that start again do not know their topics at once: that must not stop a service."""

    async def unknown(producer, topic):
        raise errors.UnknownTopicOrPartitionError

    sink = await open_sink(kafka, topic)
    await sink.write([record(1)])
    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaProducer, "partitions_for", unknown)
        with pytest.raises(SinkUnavailable, match="do not know the topic just now"):
            await sink.write([record(2)])
        with pytest.raises(SinkRefused, match="create the topic"):
            await open_sink(kafka, topic)
    await sink.write([record(2)])
    assert await keys(sink) == [1, 2]


# The registry


class Registry:
    """A schema registry of the Confluent kind; what is in `answers` is said first."""

    def __init__(self):
        self.asked, self.answers, self.url = [], [], None

    async def register(self, request):
        self.asked.append((request.match_info["subject"], request.headers, await request.json()))
        status, body = self.answers.pop(0) if self.answers else (200, {"id": 70_001})
        return web.json_response(body, status=status)


@pytest.fixture
async def registry():
    made, app = Registry(), web.Application()
    app.router.add_post("/subjects/{subject}/versions", made.register)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_messages_name_the_schema_of_the_registry(kafka, topic, open_sink, registry):
    schemas = SchemaRegistry(registry.url + "/", login=("user", "secret"))
    for number in range(2):
        sink = await open_sink(kafka, topic, form="avro", registry=schemas)
        await sink.write([record(number)])
    for message in await messages(kafka, topic):
        assert struct.unpack(">bI", message.value[:5]) == (0, 70_001)
    ((subject, headers, body),) = registry.asked
    assert subject == f"{topic}-value"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"user:secret").decode()
    assert json.loads(body["schema"]) == published_avro()


@pytest.mark.parametrize(
    ("status", "answer", "kind", "said"),
    [
        (503, {"message": "not now"}, SinkUnavailable, "503.*not now"),
        (409, {"message": "incompatible"}, SinkRefused, "incompatible.*another topic"),
        (401, {}, SinkRefused, "user and password"),
        (200, ["what"], SinkRefused, "check its address"),
        (302, {}, SinkRefused, "check its address"),
    ],
)
async def test_a_registry_that_says_no(registry, status, answer, kind, said):
    registry.answers.append((status, answer))
    schemas = SchemaRegistry(registry.url, login=("user", "secret"))
    sink = KafkaSink("127.0.0.1:1", "results", form="avro", registry=schemas)
    with pytest.raises(kind, match=said) as caught:
        await sink.open()
    assert "secret" not in str(caught.value)


async def test_a_registry_that_is_away_is_unavailable(unused_tcp_port):
    schemas = SchemaRegistry(f"http://user:secret@127.0.0.1:{unused_tcp_port}")
    with pytest.raises(SinkUnavailable, match="registry does not answer") as caught:
        await schemas.register("results-value", published_avro())
    assert "secret" not in str(caught.value)
