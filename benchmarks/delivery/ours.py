"""Lookback's sides: the real lane with real sources, custody, checkpoint and commits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.delivery import load
from benchmarks.delivery.gate import Gate
from benchmarks.delivery.servers import ACCESS
from benchmarks.delivery.topics import SESSION_S
from benchmarks.delivery.works import Answering, Instant
from dispatcher.books import Outcome
from dispatcher.checkpoint import Checkpoint
from dispatcher.clock import SystemClock
from dispatcher.credit import Credit
from dispatcher.lane import Lane, Work
from dispatcher.settings import Settings
from ingest.sources import Source
from ingest.sources.kafka import KafkaOptions, KafkaSource
from ingest.sources.sqs import SqsOptions, SqsSource


class TimedKafka(KafkaSource):
    """Stops the clocks when the lane has made its last commit, and closes the source."""

    gate: Gate

    async def close(self) -> None:
        """See `Source.close`."""
        self.gate.end()
        await super().close()


class TimedQueue(SqsSource):
    """Stops the clocks when the last message is deleted."""

    gate: Gate
    expected = 0

    async def _sweep(self) -> None:
        await super()._sweep()
        if self.counts.deleted >= self.expected:
            self.gate.end()


@contextmanager
def lane(source: Source, work: Work, settings: Settings) -> Iterator[Lane]:
    """A lane with a state file of its own."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "state.sqlite")
        try:
            credit = Credit(settings.flow.items, round(settings.flow.mib * 2**20), clock)
            yield Lane(source, work, checkpoint, credit, clock, settings)
        finally:
            checkpoint.close()


def settings(items: int, fetch: int, commit_s: float = 1.0) -> Settings:
    """The defaults, but for how much is under way and how much is asked for at once."""
    return Settings.model_validate(
        {"flow": {"items": items, "fetch": fetch}, "sinks": {"commit_s": commit_s}}
    )


def kafka(gate: Gate, servers: str, topic: str, group: str) -> KafkaSource:
    """The topic, from its beginning to its end."""
    source = TimedKafka(
        servers,
        topic,
        KafkaOptions(group=group, until_end=True, session_timeout_s=SESSION_S, revoke_s=1.0),
    )
    source.gate = gate
    return source


def _settled(of: Lane) -> dict[str, Any]:
    """What was settled; the partitions are gone from custody by now."""
    return {"events": of.outcomes[Outcome.WRITTEN]}


async def instant(gate: Gate, servers: str, topic: str, group: str, fetch: int) -> dict[str, Any]:
    """A work that settles every event at once, without decoding it."""
    source = kafka(gate, servers, topic, group)
    with lane(source, Instant(gate=gate), settings(2 * fetch, fetch)) as ours:
        await ours.run()
    return _settled(ours)


async def answering(
    gate: Gate, servers: str, topic: str, group: str, to: str, items: int, fetch: int, kind: str
) -> dict[str, Any]:
    """Work on each event, produce its result, commit what is stored."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_batch_size=1 << 20)
    await producer.start()
    try:
        work = Answering(gate, producer, to, load.seconds(kind))
        source = kafka(gate, servers, topic, group)
        with lane(source, work, settings(items, fetch)) as ours:
            await ours.run()
    finally:
        await producer.stop()
    return _settled(ours)


async def queue(
    gate: Gate, url: str, queue: str, count: int, commit_s: float, receivers: int
) -> dict[str, Any]:
    """A queue until it is empty, with the same instant work."""
    options = SqsOptions(wait_s=1, until_empty=True, receivers=receivers)
    source = TimedQueue(queue, options, {"endpoint_url": url, **ACCESS})
    source.gate, source.expected = gate, count
    with lane(source, Instant(gate=gate), settings(2000, 100, commit_s)) as ours:
        await ours.run()
    return _settled(ours)
