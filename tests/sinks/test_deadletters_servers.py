"""Dead letters on Kafka, SQS and PostgreSQL: what their other readers see, and what goes wrong."""

import asyncio

import asyncpg
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from letters import by_place, held, letter, new_name, new_queue, opened, queue, s3_at, sqs_at
from parts.aws import ministack
from parts.kafka import noida
from parts.postgres import postgres as postgres_cluster
from parts.process import free_port

from sinks.deadletters import ErrorClass
from sinks.deadletters.table import DeadLetterTable
from sinks.deadletters.topic import DeadLetterTopic
from sinks.errors import SinkRefused, SinkUnavailable

LARGE = bytes(800_000)


@pytest.mark.parametrize(
    "sink",
    [
        DeadLetterTopic(f"127.0.0.1:{free_port()}", "dead", timeout_s=2),
        queue("http://127.0.0.1/dead", f"http://127.0.0.1:{free_port()}", timeout_s=2),
        DeadLetterTable(f"postgresql://lookback@127.0.0.1:{free_port()}/postgres", timeout_s=2),
    ],
    ids=["topic", "queue", "table"],
)
async def test_a_server_that_is_not_there_yet_is_unavailable(sink):
    with pytest.raises(SinkUnavailable):
        await sink.open()
    await sink.close()


# Kafka


async def test_readers_of_the_topic_see_what_the_survey_sent(kafka):
    topic = new_name()
    async with opened(DeadLetterTopic(kafka, topic)) as sink:
        await sink.write([letter(1, body=b"\x00sent"), letter(2)])
        await sink.remove([letter(2).place])
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        first, _, stone = [await consumer.getone() for _ in range(3)]
    finally:
        await consumer.stop()
    assert orjson.loads(first.key) == ["night:n.sqlite", "p", str(2**60 + 1)]
    assert first.value == b"\x00sent"
    headers = dict(first.headers)
    assert (headers["reason"], headers["error_class"]) == (b"bad_sync", b"malformed")
    assert orjson.loads(headers["letter"])["detail"] == letter(1).detail
    assert stone.key == letter(2).place.key()
    assert stone.value is None


async def test_a_topic_that_forgets_by_age_is_refused(kafka):
    topic = new_name()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    with pytest.raises(SinkRefused, match="policy=delete"):
        await DeadLetterTopic(kafka, topic).open()


async def test_a_topic_of_several_partitions_keeps_the_last_of_each_key(kafka):
    topic = new_name()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    compacted = {"cleanup.policy": "compact"}
    await admin.create_topics([NewTopic(topic, 4, 1, topic_configs=compacted)])
    await admin.close()
    async with opened(DeadLetterTopic(kafka, topic)) as sink:
        for redriven in range(3):
            await sink.write([letter(n, redriven=redriven) for n in range(40)])
        await sink.remove([letter(n).place for n in range(0, 40, 2)])
        assert await held(sink) == by_place(*(letter(n, redriven=2) for n in range(1, 40, 2)))


async def test_messages_that_are_no_letters_are_refused(kafka):
    topic = new_name()
    async with opened(DeadLetterTopic(kafka, topic)) as sink:
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        await producer.send_and_wait(topic, b"something", key=b"else")
        await producer.stop()
        with pytest.raises(SinkRefused, match="offset 0 of partition 0 what is no dead letter"):
            await held(sink)


async def test_a_letter_beyond_the_limit_of_the_topic_is_refused(kafka):
    async with opened(DeadLetterTopic(kafka, new_name())) as sink:
        with pytest.raises(SinkRefused, match=r"max\.message\.bytes"):
            await sink.write([letter(1, body=bytes(18 << 20))])
        await sink.write([letter(2, body=LARGE)])
        assert await held(sink) == by_place(letter(2, body=LARGE))


async def test_a_broker_that_was_killed_is_found_again(tmp_path):
    with noida(tmp_path) as server:
        async with opened(DeadLetterTopic(server.address, "dead", timeout_s=2)) as sink:
            await sink.write([letter(1)])
            server.kill()
            with pytest.raises(SinkUnavailable, match="dead"):
                await sink.write([letter(2)])
            with pytest.raises(SinkUnavailable):
                await held(sink)
            server.start()
            await sink.write([letter(2)])
            assert letter(2).place in await held(sink)


# SQS


async def test_readers_of_the_queue_see_letters_again_after_a_look(aws):
    address = await new_queue(aws, new_name())
    async with opened(queue(address, aws)) as sink, sqs_at(aws) as sqs:
        await sink.write([letter(1)])
        assert await held(sink) == by_place(letter(1))
        answer = await sqs.receive_message(QueueUrl=address, MessageAttributeNames=["All"])
        (message,) = answer["Messages"]
        told = {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}
        assert told == {"reason": "bad_sync", "error_class": "malformed"}
        assert orjson.loads(message["Body"]) == letter(1).to_json()


async def test_a_look_costs_a_letter_nothing_however_often(aws):
    address = await new_queue(aws, new_name())
    letters = by_place(*(letter(n, body=LARGE[:n]) for n in range(33)))
    async with opened(queue(address, aws)) as sink:
        await sink.write(list(letters.values()))
        for _ in range(3):
            assert await held(sink) == letters


async def test_large_bodies_go_to_s3_and_leave_it_with_their_letter(aws):
    address, bucket = await new_queue(aws, new_name()), "dead-letter-bodies"
    async with s3_at(aws) as s3:
        await s3.create_bucket(Bucket=bucket)
        async with opened(queue(address, aws, bodies=f"{bucket}/of/letters/")) as sink:
            await sink.write([letter(1, body=LARGE), letter(2, body=b"small")])
            await sink.write([letter(1, body=LARGE, redriven=1), letter(1, body=LARGE + b"x")])
            listed = await s3.list_objects_v2(Bucket=bucket)
            assert len(listed["Contents"]) == 2  # one for each of the two contents
            assert all(each["Key"].startswith("of/letters/") for each in listed["Contents"])
            await sink.remove([letter(1).place])
            assert (await s3.list_objects_v2(Bucket=bucket))["KeyCount"] == 0
            assert await held(sink) == by_place(letter(2, body=b"small"))


async def test_a_large_body_without_a_place_for_it_is_refused_and_not_cut(aws):
    address = await new_queue(aws, new_name())
    async with opened(queue(address, aws)) as sink:
        with pytest.raises(SinkRefused, match="give it an S3 location"):
            await sink.write([letter(1, body=LARGE)])
        assert await held(sink) == {}


async def test_a_queue_that_moves_letters_on_is_refused(aws):
    name = new_name()
    await new_queue(aws, f"{name}-next")
    policy = {
        "deadLetterTargetArn": f"arn:aws:sqs:us-east-1:000000000000:{name}-next",
        "maxReceiveCount": "2",
    }
    address = await new_queue(aws, name, RedrivePolicy=orjson.dumps(policy).decode())
    with pytest.raises(SinkRefused, match="redrive policy"):
        await queue(address, aws).open()


async def test_a_queue_that_is_missing_or_holds_something_else_is_refused(aws):
    address = await new_queue(aws, new_name())
    with pytest.raises(SinkRefused, match="check the queue's address"):
        await queue(f"{address}-absent", aws).open()
    async with opened(queue(address, aws)) as sink, sqs_at(aws) as sqs:
        await sqs.send_message(QueueUrl=address, MessageBody="something else")
        with pytest.raises(SinkRefused, match="no dead letter"):
            await held(sink)


async def test_a_queue_that_is_gone_is_unavailable(tmp_path):
    with ministack(tmp_path) as server:
        url = f"http://{server.address}"
        address = await new_queue(url, "dead")
        async with opened(queue(address, url, timeout_s=2)) as sink:
            server.kill()
            with pytest.raises(SinkUnavailable, match="SQS queue dead"):
                await sink.write([letter(1)])
            with pytest.raises(SinkUnavailable):
                await held(sink)
            server.start()
            await new_queue(url, "dead")
            await sink.write([letter(1)])
            assert await held(sink) == by_place(letter(1))


# PostgreSQL


async def test_the_table_can_be_asked_in_sql(postgres):
    table = new_name()
    async with opened(DeadLetterTable(postgres, table)) as sink:
        await sink.write([letter(1), letter(2), letter(3, reason="times_out", body=b"\x00\x01")])
    db = await asyncpg.connect(postgres)
    try:
        rows = await db.fetch(f'SELECT error_class, count(*) FROM "{table}" GROUP BY 1')
        assert dict(map(tuple, rows)) == {ErrorClass.MALFORMED: 2, ErrorClass.POISON: 1}
        query = f'SELECT body FROM "{table}" WHERE reason = $1'
        assert await db.fetchval(query, "times_out") == b"\x00\x01"
    finally:
        await db.close()


async def test_a_character_zero_does_not_stop_a_night(postgres):
    async with opened(DeadLetterTable(postgres, new_name())) as sink:
        await sink.write([letter(1, detail="a\0b", alert_id="\0", headers={"h\0": "\0"})])
        (found,) = (await held(sink)).values()
    assert (found.detail, found.alert_id) == ("a\ufffdb", "\ufffd")
    assert found.headers == {"h\0": "\0"}


async def test_a_text_that_is_no_unicode_is_refused_not_tried_for_ever(postgres):
    async with opened(DeadLetterTable(postgres, new_name())) as sink:
        with pytest.raises(SinkRefused, match="does not take this"):
            await sink.write([letter(1, detail="\ud800")])


async def test_services_that_start_together_make_one_table(postgres):
    sinks = [DeadLetterTable(postgres, "opened_together") for _ in range(6)]
    await asyncio.gather(*(each.open() for each in sinks))
    await asyncio.gather(*(each.write([letter(n) for n in range(50)]) for each in sinks))
    assert await held(sinks[0]) == by_place(*(letter(n) for n in range(50)))
    for each in sinks:
        await each.close()


async def test_a_table_of_something_else_is_refused(postgres):
    table = new_name()
    db = await asyncpg.connect(postgres)
    await db.execute(f'CREATE TABLE "{table}" (a int)')
    await db.close()
    with pytest.raises(SinkRefused, match=r"column .* does not exist"):
        await DeadLetterTable(postgres, table).open()


async def test_a_refusal_does_not_tell_the_password(postgres):
    dsn = postgres.replace("lookback@", "nobody:hunter2@")
    with pytest.raises(SinkRefused, match="nobody") as refusal:
        await DeadLetterTable(dsn, new_name()).open()
    assert "hunter2" not in str(refusal.value)


async def test_a_server_that_was_restarted_is_found_again():
    with postgres_cluster() as server:
        async with opened(DeadLetterTable(server.dsn, timeout_s=2)) as sink:
            await sink.write([letter(1)])
            server.stop("immediate")
            with pytest.raises(SinkUnavailable, match="cannot be used now"):
                await sink.write([letter(2)])
            with pytest.raises(SinkUnavailable):
                await held(sink)
            server.start()
            await sink.write([letter(2)])
            assert await held(sink) == by_place(letter(1), letter(2))
