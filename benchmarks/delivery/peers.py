"""The peers: event in, work of some milliseconds, result out, then the commit.

None of them commits an event before its result is acknowledged. Each is given what its
documentation offers to be fast at that.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import time
from typing import Any, Final

from benchmarks.delivery import load
from benchmarks.delivery.gate import Gate
from benchmarks.delivery.topics import SESSION_S

_BATCH: Final = 1000
_COMMIT_S: Final = 1.0


async def faststream(
    gate: Gate, servers: str, topic: str, group: str, to: str, count: int, kind: str
) -> dict[str, Any]:
    """FastStream, a handler for each event: one consumer for each partition, as many as can be.

    `max_workers` with an acknowledgement after the handler keeps order in a partition, so one
    event of each is under way.
    """
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker, KafkaMessage

    broker = KafkaBroker(servers, acks="all", logger=None, apply_types=False)
    finished, seen, work_s = asyncio.Event(), 0, load.seconds(kind)

    @broker.subscriber(
        topic,
        group_id=group,
        auto_offset_reset="earliest",
        session_timeout_ms=1000 * SESSION_S,
        ack_policy=AckPolicy.MANUAL,
        max_workers=4,
        decoder=_as_it_is,
    )
    async def handle(message: KafkaMessage) -> None:
        nonlocal seen
        await gate.passed()
        raw = message.raw_message
        await asyncio.sleep(work_s(raw.offset))  # type: ignore[union-attr]
        await broker.publish(message.body, topic=to)
        await message.ack()
        seen += 1
        if seen == count:
            gate.end()
            finished.set()

    async with broker:
        await broker.start()
        await finished.wait()
    return {"events": seen}


async def faststream_batches(
    gate: Gate, servers: str, topic: str, group: str, to: str, count: int, kind: str
) -> dict[str, Any]:
    """FastStream, a handler for each batch: its events together, then the batch is acknowledged."""
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker, KafkaMessage

    broker = KafkaBroker(
        servers, acks="all", logger=None, apply_types=False, max_batch_size=2 << 20
    )
    finished, seen, work_s = asyncio.Event(), 0, load.seconds(kind)

    @broker.subscriber(
        topic,
        group_id=group,
        auto_offset_reset="earliest",
        session_timeout_ms=1000 * SESSION_S,
        ack_policy=AckPolicy.MANUAL,
        batch=True,
        max_records=_BATCH,
        decoder=_as_it_is,
    )
    async def handle(message: KafkaMessage) -> None:
        nonlocal seen
        await gate.passed()
        records = message.raw_message
        await asyncio.gather(*(asyncio.sleep(work_s(each.offset)) for each in records))
        for first in range(0, len(records), _BATCH // 2):
            some = (each.value for each in records[first : first + _BATCH // 2])
            await broker.publish_batch(*some, topic=to)
        await message.ack()
        seen += len(records)
        if seen == count:
            gate.end()
            finished.set()

    async with broker:
        await broker.start()
        await finished.wait()
    return {"events": seen}


async def _as_it_is(message: Any) -> Any:
    """Nothing is decoded, and the handler gets the message without the machinery of `Context`."""
    return message


def quix(
    gate: Gate, servers: str, topic: str, group: str, to: str, count: int, kind: str
) -> dict[str, Any]:
    """Quix Streams, a function for each event: its loop is not asynchronous, so it waits."""
    app = _application(servers, group)
    work_s = load.seconds(kind)

    def work(value: bytes, _key: Any, _time: int, _headers: Any) -> bytes:
        gate.pass_blocking()
        time.sleep(work_s(_offset()))
        return value

    frame = app.dataframe(app.topic(topic, value_deserializer="bytes"))
    frame = frame.apply(work, metadata=True)
    frame.to_topic(app.topic(to, value_serializer="bytes"))
    app.run(count=count, collect=False)
    gate.end()
    return {"events": count}


def _offset() -> int:
    from quixstreams import message_context

    offset: int = message_context().offset
    return offset


def quix_batches(
    gate: Gate, servers: str, topic: str, group: str, to: str, count: int, kind: str
) -> dict[str, Any]:
    """Quix Streams, a sink of one's own for each batch: its events together, flushed, committed."""
    from quixstreams.sinks import BatchingSink, SinkBatch

    app = _application(servers, group, commit_every=_BATCH)
    work_s = load.seconds(kind)
    producer = app.get_producer()

    async def work(batch: SinkBatch) -> None:
        await asyncio.gather(*(asyncio.sleep(work_s(each.offset)) for each in batch))

    class Answers(BatchingSink):
        def write(self, batch: SinkBatch) -> None:
            asyncio.run(work(batch))
            for each in batch:
                producer.produce(to, value=each.value)
            producer.flush()

    def begin(value: bytes) -> bytes:
        gate.pass_blocking()
        return value

    with producer:
        frame = app.dataframe(app.topic(topic, value_deserializer="bytes"))
        frame.apply(begin).sink(Answers())
        app.run(count=count, collect=False)
        gate.end()
    return {"events": count}


def _application(servers: str, group: str, commit_every: int = 0) -> Any:
    from quixstreams import Application

    folder = tempfile.mkdtemp(prefix="delivery-")  # it makes one even where nothing has a state
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Application(
        state_dir=folder,
        broker_address=servers,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_interval=_COMMIT_S,
        commit_every=commit_every,
        loglevel=None,
        use_changelog_topics=False,
        consumer_extra_config={"session.timeout.ms": 1000 * SESSION_S},
        producer_extra_config={"acks": "all", "linger.ms": 5},
    )
