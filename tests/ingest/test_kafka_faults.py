"""The Kafka source when something goes wrong: rebalances, retention, brokers that are gone."""

import asyncio
import contextlib
import signal
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import OffsetAndMetadata
from kafka_topics import (
    Recorder,
    admin,
    bodies,
    create,
    fresh,
    kept,
    numbered,
    opened,
    send,
    taken,
    until,
)
from parts.kafka import noida

from ingest.errors import SourceError, SourceUnavailable
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources.kafka import KafkaOptions, KafkaSource


async def test_what_retention_took_is_told_and_the_rest_is_read(kafka):
    topic, group, keeper = await create(kafka, fresh("retention")), fresh("group"), Recorder()
    await send(kafka, topic, numbered(0, 20))
    partition = Partition(topic, "0")
    async with opened(kafka, topic, group=group) as source:
        await taken(source, 20)
        await source.commit({partition: Progress(4, "gaps", {"written": 4})})
    async with admin(kafka) as client:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(15)})
    async with opened(kafka, topic, keeper, group=group) as source:
        assert bodies(await taken(source, 5)) == numbered(15, 20)
        assert source.lost_to_retention == 11
    # The gaps counted from the old watermark.
    assert keeper.assigned == [(partition, Progress(15, "", {"written": 4}))]


async def test_what_retention_takes_while_it_reads_is_told_too(kafka):
    topic, keeper = await create(kafka, fresh("overtaken")), Recorder()
    await send(kafka, topic, numbered(0, 20))
    async with opened(kafka, topic, keeper) as source:
        got = await taken(source, 1, limit=1)  # the rest was fetched with it
        await send(kafka, topic, numbered(20, 40))
        async with admin(kafka) as client:
            await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(30)})
        got += await taken(source, 29)
        assert source.lost_to_retention == 10
    assert bodies(got) == numbered(0, 20) + numbered(30, 40)
    assert keeper.lost == [Partition(topic, "0")]
    assert keeper.assigned[-1] == (Partition(topic, "0"), Progress(30))


async def test_a_position_that_is_gone_while_it_reads_is_begun_anew(kafka):
    topic, keeper = await create(kafka, fresh("gone")), Recorder()
    await send(kafka, topic, numbered(0, 3))
    partition = Partition(topic, "0")
    async with opened(kafka, topic, keeper) as source:
        await taken(source, 3)
        await source.commit({partition: Progress(3)})
        source.hold([partition])
        async with admin(kafka) as client:
            await client.delete_topics([topic])
        await create(kafka, topic)
        await send(kafka, topic, [b"anew"])
        source.hold([])
        assert bodies(await taken(source, 1)) == [b"anew"]
    assert keeper.lost == [partition] or keeper.revoked == [partition]
    assert keeper.assigned[-1] == (partition, Progress(0))


async def test_without_room_it_stays_in_its_group_and_goes_on(kafka):
    topic, keeper = await create(kafka, fresh("room")), Recorder()
    await send(kafka, topic, numbered(0, 10))
    client = {"max_poll_interval_ms": 1200, "heartbeat_interval_ms": 300}
    async with opened(kafka, topic, keeper, client=client) as source:
        got = await taken(source, 4, limit=4)
        await asyncio.sleep(2.6)  # nobody takes
        await send(kafka, topic, numbered(10, 12))
        got += await taken(source, 8)
    assert bodies(got) == numbered(0, 12)
    assert len(keeper.assigned) == 1
    assert keeper.revoked == keeper.lost == []


async def test_errors_of_the_keeper_are_raised_by_take(kafka):
    async def fails(_):
        raise ZeroDivisionError("the keeper")

    word = fresh("keeper")
    await create(kafka, f"{word}_1")
    async with opened(kafka, f"^{word}", Recorder(on_revoke=fails)) as source:
        await until(lambda: source.assigned, source)
        await create(kafka, f"{word}_2")
        with pytest.raises(ZeroDivisionError, match="the keeper"):
            await until(lambda: len(source.assigned) == 2, source)
        await until(lambda: len(source.assigned) == 2, source)


async def test_a_keeper_that_takes_too_long_loses_its_partitions(kafka):
    word = fresh("slow")
    await create(kafka, f"{word}_1")
    keeper = Recorder(on_revoke=lambda _: asyncio.sleep(60))
    async with opened(kafka, f"^{word}", keeper, revoke_s=0.2) as source:
        await until(lambda: source.assigned, source)
        await create(kafka, f"{word}_2")
        await until(lambda: len(source.assigned) == 2, source)
    assert keeper.lost == [Partition(f"{word}_1", "0")]


async def test_what_went_to_another_member_before_a_commit_is_lost_and_no_error(kafka):
    topic, group = await create(kafka, fresh("late")), fresh("group")
    await send(kafka, topic, numbered(0, 3))
    partition = Partition(topic, "0")
    keeper = Recorder(on_revoke=lambda _: source.commit({partition: Progress(2)}))
    # It does not notice by itself that there is another one.
    client = {"heartbeat_interval_ms": 30_000}
    async with opened(kafka, topic, keeper, group=group, instance_id="1", client=client) as source:
        await taken(source, 3)
        async with opened(kafka, topic, group=group, instance_id="2"), asyncio.timeout(15):
            while not keeper.lost:
                await asyncio.sleep(0.05)
                await source.commit({partition: Progress(1)})
        assert keeper.lost == [partition]
        assert await kept(kafka, group, topic) in (None, OffsetAndMetadata(1, "L1::"))


async def test_nothing_is_delivered_of_what_is_being_revoked(kafka):
    word = fresh("during")
    topic = await create(kafka, f"{word}_1")
    during, finished = [], asyncio.Event()

    async def takes(_):
        await send(kafka, topic, numbered(3, 6))
        for _ in range(3):
            during.extend(await source.take(10))
        await source.commit({Partition(topic, "0"): Progress(3)})
        finished.set()

    async with opened(kafka, f"^{word}", Recorder(on_revoke=takes)) as source:
        await send(kafka, topic, numbered(0, 3))
        await taken(source, 3)
        await create(kafka, f"{word}_2")
        await asyncio.wait_for(finished.wait(), 15)
        assert during == []
        assert bodies(await taken(source, 3)) == numbered(3, 6)


async def test_a_broker_that_restarts_is_waited_for(tmp_path):
    with noida(tmp_path) as broker:
        topic = await create(broker.address, fresh("restart"))
        await send(broker.address, topic, numbered(0, 3))
        options = {"leave_s": 1.0, "commit_s": 0.5}
        async with opened(broker.address, topic, instance_id="one", **options) as source:
            got = await taken(source, 3)
            await source.commit({Partition(topic, "0"): Progress(3)})
            broker.terminate()
            assert await source.take(10) == []
            with pytest.raises(SourceUnavailable, match="does not take a commit"):
                await source.commit({Partition(topic, "0"): Progress(3)})
            broker.start()
            await send(broker.address, topic, numbered(3, 5))
            got += await taken(source, 2)
    assert bodies(got) == numbered(0, 5)


async def test_a_broker_that_is_gone_is_left_in_time(tmp_path):
    with noida(tmp_path) as broker:
        topic = await create(broker.address, fresh("leave"))
        source = KafkaSource(broker.address, topic, KafkaOptions(group=fresh("g"), leave_s=0.5))
        await source.open(Recorder())
        await until(lambda: source.assigned, source)
        broker.process.send_signal(signal.SIGSTOP)  # it answers nothing, and refuses nothing
        before = time.monotonic()
        await source.close()
        assert time.monotonic() - before < 3
    names = [each.get_coro().__qualname__ for each in asyncio.all_tasks()]
    assert [name for name in names if "aiokafka" in name or "Kafka" in name] == []


async def test_an_address_where_nobody_answers_is_an_error():
    source = KafkaSource("127.0.0.1:1", "topic", KafkaOptions(open_s=1))
    says = r"no broker answers at 127\.0\.0\.1:1 .ConnectionRefused"
    with pytest.raises(SourceUnavailable, match=says):
        await source.open(Recorder())


async def test_a_broker_that_is_just_coming_back_is_waited_for(tmp_path):
    with noida(tmp_path) as broker:
        broker.kill()
        source = KafkaSource(broker.address, "topic", KafkaOptions(group=fresh("g")))
        opening = asyncio.create_task(source.open(Recorder()))
        await asyncio.sleep(1)
        assert not opening.done()
        await asyncio.to_thread(broker.start)
        await opening
        await source.close()


async def test_tls_with_a_broker_that_has_none_is_an_error(kafka):
    client = {"security_protocol": "SSL", "ssl_context": ssl.create_default_context()}
    source = KafkaSource(kafka, "topic", KafkaOptions(open_s=1), client=client)
    with pytest.raises(SourceError, match="check the address, the network and the security"):
        await source.open(Recorder())


async def test_settings_that_do_not_fit_are_an_error():
    source = KafkaSource("127.0.0.1:1", "topic", client={"security_protocol": "SASL_SSL"})
    with pytest.raises(SourceError, match="mend the settings of Kafka"):
        await source.open(Recorder())


async def refuse_password(reader, writer):
    """A broker's side of SASL: it knows PLAIN, and not this password."""
    answers = {
        18: struct.pack(">hihhhhhhhhh", 0, 3, 18, 0, 0, 17, 0, 1, 36, 0, 0),  # ApiVersions
        17: struct.pack(">hih5s", 0, 1, 5, b"PLAIN"),  # SaslHandshake
        36: struct.pack(">hh5si", 58, 5, b"wrong", 0),  # SaslAuthenticate
    }
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            key, _, correlation = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
            answer = struct.pack(">i", correlation) + answers[key]
            writer.write(struct.pack(">i", len(answer)) + answer)
    writer.close()
    await writer.wait_closed()


async def test_a_wrong_password_is_named():
    async with asyncio.TaskGroup() as conversations:

        def talk(reader, writer):
            conversations.create_task(refuse_password(reader, writer))

        async with await asyncio.start_server(talk, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            client = {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_plain_username": "lookback",
                "sasl_plain_password": "wrong",
            }
            source = KafkaSource(f"127.0.0.1:{port}", "topic", client=client)
            with pytest.raises(SourceError, match=r"refuses .*: check user, password"):
                await source.open(Recorder())


# Several members

# tansu waits for the members of a group for half of the session's time.
QUICK = {"session_timeout_s": 2.0, "revoke_s": 1.0}


class Settler(Recorder):
    """Settles everything it is given at once, and commits it when it is told to let go."""

    def __init__(self):
        super().__init__(self.commit)
        self.source, self.next, self.seen, self.during = None, {}, [], []

    async def work(self, done):
        while not done():
            for each in await self.source.take(20):
                self.seen.append(each.position)
                self.next[each.position.home] = each.position.offset + 1

    async def commit(self, partitions):
        self.during += await self.source.take(20)
        await self.source.commit({each: Progress(self.next.get(each, 0)) for each in partitions})


async def test_a_member_that_joins_takes_over_what_the_other_committed_on_the_way(tansu):
    topic, group = await create(tansu, fresh("shared"), 4), fresh("group")
    everywhere = {Partition(topic, str(n)) for n in range(4)}
    one, two = Settler(), Settler()

    async def send_to_all(first, last):
        for partition in range(4):
            await send(tansu, topic, numbered(first, last), partition)

    await send_to_all(0, 30)
    async with opened(tansu, topic, one, group=group, **QUICK) as one.source:
        await one.work(lambda: len(one.seen) == 120)
        second = opened(tansu, topic, two, group=group, **QUICK)
        async with second as two.source, asyncio.timeout(60):

            def shared():
                mine, yours = one.source.assigned, two.source.assigned
                return mine | yours == everywhere and not mine & yours and len(mine) == 2

            await asyncio.gather(one.work(shared), two.work(shared))
            await send_to_all(30, 40)
            both = lambda: len(one.seen) + len(two.seen) >= 160  # noqa: E731
            await asyncio.gather(one.work(both), two.work(both))
    assert set(one.revoked) == everywhere
    assert one.lost == two.lost == []
    assert one.during == two.during == []
    assert len(two.seen) == 20
    assert sorted(one.seen + two.seen) == sorted(set(one.seen + two.seen))


MEMBER = """
import asyncio, sys
from kafka_topics import Recorder
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources.kafka import KafkaOptions, KafkaSource

async def main(address, topic, group):
    source = KafkaSource(address, topic, KafkaOptions(group=group, session_timeout_s=2))
    await source.open(Recorder())
    taken = 0
    while True:
        taken += len(await source.take(1000))
        if taken == 30:
            await source.commit({Partition(topic, "0"): Progress(10, "gaps", {"written": 20})})
            print("committed", flush=True)
            taken = 0

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_a_killed_member_had_not_committed_comes_again_to_the_next(tansu):
    topic, group, keeper = await create(tansu, fresh("killed")), fresh("group"), Recorder()
    await send(tansu, topic, numbered(0, 30))
    root = Path(__file__).parents[2]
    member = subprocess.Popen(
        [sys.executable, "-c", MEMBER, tansu, topic, group],
        stdout=subprocess.PIPE,
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'tests' / 'ingest'}"},
    )
    try:
        assert await asyncio.to_thread(member.stdout.readline) == b"committed\n"
    finally:
        member.kill()
        member.communicate()
    async with opened(tansu, topic, keeper, group=group, **QUICK) as source:
        assert bodies(await taken(source, 20, seconds=60)) == numbered(10, 30)
    assert keeper.assigned == [(Partition(topic, "0"), Progress(10))]  # tansu keeps no metadata
