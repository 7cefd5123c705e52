"""The Kafka source on a real broker: what is delivered, from where to where, and what is kept."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata
from kafka_topics import (
    Recorder,
    bodies,
    create,
    first,
    fresh,
    kept,
    numbered,
    opened,
    producing,
    rest,
    send,
    taken,
    until,
)

from ingest.errors import SourceError
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources.kafka import KafkaOptions, KafkaSource
from ingest.sources.kafka.reading import Reading

NIGHT = datetime(2026, 11, 28, tzinfo=UTC).timestamp()


# What is delivered


async def test_every_event_comes_once_and_in_the_order_of_its_partition(kafka):
    topic = await create(kafka, fresh("events"), 3)
    for partition in range(3):
        await send(kafka, topic, numbered(0, 50), partition)
    async with opened(kafka, topic) as source:
        deliveries = await taken(source, 150, limit=7)
        assert source.name == f"kafka:{topic}"
        assert source.assigned == {Partition(topic, str(n)) for n in range(3)}
    assert len(deliveries) == 150
    for partition in "012":
        mine = [each for each in deliveries if each.position.home == Partition(topic, partition)]
        assert [each.position.offset for each in mine] == list(range(50))
        assert bodies(mine) == numbered(0, 50)
    assert all(abs(each.received - time.time()) < 60 for each in deliveries)
    assert all(each.headers == {} for each in deliveries)


async def test_no_more_than_the_limit_comes_at_once(kafka):
    topic = await create(kafka, fresh("limit"), 2)
    for partition in range(2):
        await send(kafka, topic, numbered(0, 20), partition)
    async with opened(kafka, topic) as source:
        assert len(await taken(source, 30, limit=3)) == 30
        assert len(await source.take(3)) == 3


async def test_headers_are_text_and_a_message_without_a_value_says_so(kafka):
    topic = await create(kafka, fresh("headers"))
    headers = [("schema", b"ztf 4.02"), ("bytes", b"a\xff"), ("unreadable", b"by me")]
    await send(kafka, topic, [b"body"], headers=headers)
    await send(kafka, topic, [None], key=b"key")
    async with opened(kafka, topic) as source:
        event, tombstone = await taken(source, 2)
    assert event.body == b"body"
    assert event.headers == {"schema": "ztf 4.02", "bytes": "a\ufffd"}
    assert tombstone.body == b""
    assert tombstone.headers == {"unreadable": "a message without a value"}


async def test_messages_larger_than_a_fetch_come_too(kafka):
    topic = await create(kafka, fresh("large"))
    large = [bytes([n]) * 900_000 for n in range(3)]
    await send(kafka, topic, large)
    async with opened(kafka, topic, fetch_mib=0.25) as source:
        assert bodies(await taken(source, 3)) == large


async def test_a_cancelled_take_loses_nothing(kafka):
    topic = await create(kafka, fresh("cancelled"))
    async with opened(kafka, topic) as source:
        await until(lambda: source.assigned, source)
        got = []
        for number in range(5):
            await send(kafka, topic, numbered(number, number + 1))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    got += await source.take(10)
        got += await taken(source, 5 - len(got))
    assert bodies(got) == numbered(0, 5)


async def test_what_is_held_waits_and_is_not_lost(kafka):
    topic = await create(kafka, fresh("held"), 2)
    for partition in range(2):
        await send(kafka, topic, numbered(0, 30), partition)
    held, free = Partition(topic, "0"), Partition(topic, "1")
    async with opened(kafka, topic) as source:
        before = await taken(source, 1, limit=1)
        source.hold([held])
        during = []
        for _ in range(10):
            during += await source.take(5)
        await send(kafka, topic, numbered(30, 40), 1)
        during += await until(lambda: source.lag()[free].offsets == 0, source)
        assert {each.position.home for each in during} == {free}
        source.hold([])
        after = await until(lambda: source.lag()[held].offsets == 0, source)
    mine = [each for each in before + after if each.position.home == held]
    assert [each.position.offset for each in mine] == list(range(30))


# Where it begins and ends


async def test_it_ends_where_the_partitions_ended_when_it_began(kafka):
    topic = await create(kafka, fresh("end"), 2)
    await send(kafka, topic, numbered(0, 10))
    async with opened(kafka, topic, until_end=True) as source:
        assert not source.exhausted
        got = await taken(source, 4, limit=4)
        await send(kafka, topic, numbered(10, 20))
        got += await rest(source)
        assert bodies(got) == numbered(0, 10)
        assert await source.take(10) == []


def test_what_one_fetch_brings_from_beyond_the_end_is_left():
    reading = Reading(Partition("topic", "0"), next=3, committed=3, high=5, end=5)
    records = [
        ConsumerRecord("topic", 0, offset, 0, 0, None, b"", None, -1, 0, ())
        for offset in range(3, 8)
    ]
    assert [each.position.offset for each in reading.deliveries(records, 0)] == [3, 4]
    assert reading.finished
    assert reading.deliveries(records[3:], 0) == []
    assert reading.next == 5


async def test_markers_of_transactions_are_no_events_and_no_obstacle(kafka):
    topic = await create(kafka, fresh("transactions"))
    async with producing(kafka, transactional_id=fresh("id")) as producer:
        async with producer.transaction():
            await producer.send(topic, b"kept", partition=0)
        with contextlib.suppress(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"aborted", partition=0)
                raise ZeroDivisionError
    async with opened(kafka, topic, until_end=True) as source:
        assert bodies(await rest(source)) == [b"kept"]
        assert source.lag()[Partition(topic, "0")].offsets == 0


async def test_a_replay_of_no_topic_is_an_error(kafka):
    source = KafkaSource(kafka, fresh("nothing"), KafkaOptions(until_end=True))
    with pytest.raises(SourceError, match="there is no such topic"):
        await source.open(Recorder())


@pytest.mark.parametrize(
    ("start", "first"), [("earliest", 0), ("latest", 20), ("offset:7", 7), ("offset:99", 20)]
)
async def test_a_partition_without_a_commit_begins_where_it_is_told(kafka, start, first):
    topic = await create(kafka, fresh("start"))
    await send(kafka, topic, numbered(0, 20))
    keeper = Recorder()
    async with opened(kafka, topic, keeper, start=start) as source:
        await until(lambda: keeper.assigned, source)
        assert keeper.assigned == [(Partition(topic, "0"), Progress(first))]
        await send(kafka, topic, numbered(20, 21))


@pytest.mark.parametrize("zone", ["Z", "", "+00:00"])
async def test_it_can_begin_at_a_time(kafka, zone):
    topic = await create(kafka, fresh("time"))
    for hour in range(5):
        await send(kafka, topic, [b"%d" % hour], timestamp_ms=int(NIGHT + 3600 * hour) * 1000)
    async with opened(kafka, topic, start=f"2026-11-28T02:30:00{zone}") as source:
        assert bodies(await taken(source, 2)) == [b"3", b"4"]


async def test_a_time_after_the_last_event_is_its_end(kafka):
    topic = await create(kafka, fresh("time"))
    await send(kafka, topic, [b"old"], timestamp_ms=int(NIGHT) * 1000)
    async with opened(kafka, topic, start="2099-01-01", until_end=True) as source:
        assert await rest(source) == []


@pytest.mark.parametrize("start", ["sometime", "offset:-1", "2026-13-01", ""])
async def test_an_impossible_start_is_refused(start):
    with pytest.raises(SourceError, match="cannot start at"):
        KafkaSource("localhost:1", "topic", KafkaOptions(start=start))


async def test_latest_does_not_move_when_a_run_ends_before_its_first_commit(kafka):
    topic, group = await create(kafka, fresh("latest")), fresh("group")
    await send(kafka, topic, numbered(0, 5))
    async with opened(kafka, topic, group=group, start="latest") as source:
        await until(lambda: source.assigned, source)
        await send(kafka, topic, numbered(5, 8))
        assert bodies(await taken(source, 3)) == numbered(5, 8)
    async with opened(kafka, topic, group=group, start="latest") as source:
        assert bodies(await taken(source, 3)) == numbered(5, 8)


# Which topics


async def test_a_topic_that_appears_later_is_read_from_its_beginning(kafka):
    topic = fresh("later")
    async with opened(kafka, topic, start="latest") as source:
        await source.take(1)
        await create(kafka, topic)
        await send(kafka, topic, numbered(0, 3))
        assert bodies(await taken(source, 3)) == numbered(0, 3)


async def test_an_expression_finds_topics_that_are_there_and_those_that_come(kafka):
    word = fresh("night")
    await create(kafka, f"{word}_1")
    await create(kafka, f"other_{word}")
    await send(kafka, f"{word}_1", numbered(0, 3))
    keeper = Recorder()
    async with opened(kafka, f"^{word}_", keeper) as source:
        assert bodies(await taken(source, 3)) == numbered(0, 3)
        # The keeper's commit arrives although aiokafka has changed the subscription by then.
        first = Partition(f"{word}_1", "0")
        keeper.on_revoke = lambda _: source.commit({first: Progress(3, "", {"written": 3})})
        await create(kafka, f"{word}_2")
        await send(kafka, f"{word}_2", numbered(3, 5))
        assert bodies(await taken(source, 2)) == numbered(3, 5)
        assert source.assigned == {first, Partition(f"{word}_2", "0")}
    assert (first, Progress(3, "", {"written": 3})) in keeper.assigned
    assert keeper.revoked == [first]
    assert keeper.lost == []


async def test_the_topic_of_the_night_changes_at_midnight_and_the_old_one_stays_while_busy(kafka):
    word, now = fresh("ztf"), [NIGHT - 60]
    yesterday, today = f"{word}_20261127", f"{word}_20261128"
    await create(kafka, yesterday)
    await send(kafka, yesterday, numbered(0, 2))
    async with opened(kafka, f"{word}_%Y%m%d", clock=lambda: now[0], rollover_grace_h=2) as source:
        assert len(await taken(source, 2)) == 2
        now[0] = NIGHT + 60
        await create(kafka, today)
        await send(kafka, today, numbered(2, 3))
        both = {Partition(yesterday, "0"), Partition(today, "0")}
        await until(lambda: source.assigned == both, source)
        now[0] = NIGHT + 3 * 3600
        await asyncio.sleep(1.2)  # the source looks at the clock once a second
        assert source.assigned == both  # nothing of yesterday's is committed
        await source.commit({Partition(yesterday, "0"): Progress(2)})
        await until(lambda: source.assigned == {Partition(today, "0")}, source)


# Commits


async def test_a_commit_carries_outcomes_and_gaps_to_the_next_member(kafka):
    topic, group = await create(kafka, fresh("commit")), fresh("group")
    await send(kafka, topic, numbered(0, 20))
    progress = Progress(7, "UgEC/+==", {"written": 6, "duplicate": 1})
    partition, keeper = Partition(topic, "0"), Recorder()
    async with opened(kafka, topic, group=group) as source:
        await taken(source, 20)
        await source.commit({partition: progress})
    async with opened(kafka, topic, keeper, group=group) as source:
        assert (await first(source)).position.offset == 7
    assert keeper.assigned == [(partition, progress)]


async def test_gaps_that_a_broker_has_no_room_for_are_left_out(kafka):
    topic, group = await create(kafka, fresh("gaps")), fresh("group")
    await send(kafka, topic, numbered(0, 20))
    async with opened(kafka, topic, group=group) as source:
        await taken(source, 20)
        await source.commit({Partition(topic, "0"): Progress(7, "g" * 4096, {"written": 12})})
    assert await kept(kafka, group, topic) == OffsetAndMetadata(7, "L1:written=12:")


async def test_of_another_tools_commit_only_the_offset_counts(kafka):
    topic, group, keeper = await create(kafka, fresh("foreign")), fresh("group"), Recorder()
    await send(kafka, topic, numbered(0, 20))
    other = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await other.start()
    other.assign([TopicPartition(topic, 0)])
    await other.commit({TopicPartition(topic, 0): (5, "checkpoint of somebody")})
    await other.stop()
    async with opened(kafka, topic, keeper, group=group) as source:
        assert (await first(source)).position.offset == 5
    assert keeper.assigned == [(Partition(topic, "0"), Progress(5))]


async def test_what_is_not_ours_is_passed_over(kafka):
    topic, group = await create(kafka, fresh("passed")), fresh("group")
    await send(kafka, topic, numbered(0, 3))
    async with opened(kafka, topic, group=group) as source:
        await taken(source, 3)
        await source.commit(
            {Partition("another", "0"): Progress(9), Partition(topic, "5"): Progress(9)}
        )
        assert await kept(kafka, group, topic) is None


async def test_it_says_how_far_it_is_behind(kafka):
    topic = await create(kafka, fresh("lag"))
    await send(kafka, topic, numbered(0, 10), timestamp_ms=int((time.time() - 100) * 1000))
    async with opened(kafka, topic) as source:
        await taken(source, 4, limit=4)
        lag = source.lag()[Partition(topic, "0")]
        assert lag.offsets == 6
        assert 100 <= lag.behind_s < 130
        await taken(source, 6)
        assert source.lag()[Partition(topic, "0")].offsets == 0
        assert source.lag()[Partition(topic, "0")].behind_s == 0
