"""Topics as an archive: what the cluster holds of them, from the beginning to the end or a part."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from ingest.errors import SourceError
from ingest.events import Delivery, Partition
from ingest.progress import Progress
from ingest.sources import Keeper
from ingest.sources.kafka import doors, metadata
from ingest.sources.kafka.connecting import connect
from ingest.sources.kafka.contact import described
from ingest.sources.kafka.reading import Reading
from ingest.sources.kafka.topics import Topics
from ingest.sources.span import Range, Ranges, Span

_POLL_MS: Final = 200
_OPEN_S: Final = 15.0

_log = structlog.get_logger()


class TopicArchive:
    """Reads topics as no member of a group: it moves no partition and commits nothing.

    The keeper is told what `group` has committed, unless the source is limited. The end is where
    each partition ended when the source was opened, or that of its range.
    """

    ordered = True

    def __init__(
        self, servers: str, topics: str, group: str, client: Mapping[str, Any] | None = None
    ) -> None:
        """Arguments as of `KafkaSource`; raises as it."""
        self.name = f"kafka:{topics}"
        self._servers = servers
        self._topics = Topics.parse(topics)
        self._group: str | None = group
        self._client = dict(client or {})
        self._ranges: Ranges | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._readings: dict[TopicPartition, Reading] = {}

    async def find(self, span: Span) -> Ranges:
        """See `Archive.find`. A time is that of the record, as the producer or the broker set it.

        Raises:
            SourceUnavailable: no broker answers.
            SourceError: none lets us in; there is no such topic or partition.
        """
        consumer = self._new_consumer()
        try:
            known = await connect(consumer, self._servers, self._client, _OPEN_S)
            keys = self._keys(consumer, known)
            lows, highs = await consumer.beginning_offsets(keys), await consumer.end_offsets(keys)
            firsts = await _at(consumer, span.from_time, lows, highs)
            ends = await _at(consumer, span.to_time, highs, highs)
        except KafkaError as error:
            raise self._unreadable(error) from error
        finally:
            await consumer.stop()
        return span.among({_partition(each): Range(firsts[each], ends[each]) for each in keys})

    def limit(self, ranges: Ranges) -> None:
        """See `Archive.limit`."""
        self._ranges, self._group = ranges, None

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`.

        Raises:
            SourceUnavailable: no broker answers.
            SourceError: none lets us in, or there is no such topic.
        """
        self._consumer = self._new_consumer()
        known = await connect(self._consumer, self._servers, self._client, _OPEN_S)
        try:
            await self._assign(self._consumer, keeper, known)
        except KafkaError as error:
            raise self._unreadable(error) from error

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=self._group,
            enable_auto_commit=False,
            # A position that is gone must be told: aiokafka's default jumps to the end.
            auto_offset_reset="none",
            isolation_level="read_committed",
            **self._client,
        )

    def _unreadable(self, error: KafkaError) -> SourceError:
        return SourceError(f"{self.name} cannot be read at {self._servers} ({described(error)})")

    def _keys(self, consumer: AIOKafkaConsumer, known: set[str]) -> list[TopicPartition]:
        keys = [
            TopicPartition(topic, number)
            for topic in sorted(self._topics.among(known, time.time(), 0.0))
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        if not keys:
            raise SourceError(f"{self.name}: there is no such topic at {self._servers}")
        return keys

    async def _assign(self, consumer: AIOKafkaConsumer, keeper: Keeper, known: set[str]) -> None:
        keys = self._keys(consumer, known)
        if self._ranges is not None:
            keys = [each for each in keys if _partition(each) in self._ranges]
        consumer.assign(keys)
        lows, highs = await consumer.beginning_offsets(keys), await consumer.end_offsets(keys)
        kept = await doors.committed(consumer, keys) if self._group else {}
        for key in keys:
            partition = _partition(key)
            committed = metadata.decode(*kept[key]) if key in kept else None
            first, end = self._wanted(partition, lows[key], highs[key])
            first = max(keeper.assign(partition, committed), first)
            self._readings[key] = Reading(partition, first, first, highs[key], end, first)
            self._seek(consumer, key, lows[key])

    def _wanted(self, partition: Partition, low: int, high: int) -> Range:
        if self._ranges is None:
            return Range(low, high)
        first, end = self._ranges[partition]
        return Range(first, min(end, high))  # a topic that was made anew may end before

    def _seek(self, consumer: AIOKafkaConsumer, key: TopicPartition, low: int) -> None:
        """Go on where the partition is; say so if retention (its lowest offset) is beyond that."""
        reading = self._readings[key]
        low = min(low, max(reading.position, reading.end or 0))
        if reading.position < low:
            where = {"topic": key.topic, "partition": key.partition}
            lost = low - reading.position
            _log.warning("retention took events before they were read", lost=lost, **where)
            reading.position = low
        consumer.seek(key, reading.position)

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`.

        Raises:
            SourceError: the broker fails.
        """
        if self._consumer is None:
            raise SourceError(f"{self.name} is not open")
        wanted = [key for key, each in self._readings.items() if not each.finished]
        if not wanted:
            return []
        try:
            fetched = await self._consumer.getmany(*wanted, timeout_ms=_POLL_MS, max_records=limit)
            for key in wanted:
                # Beyond the last record where markers of transactions or compaction lie.
                self._readings[key].position = await self._consumer.position(key)
        except OffsetOutOfRangeError as error:
            await self._begin_again(self._consumer, error.args[0])
            return []
        except KafkaError as error:
            raise SourceError(f"{self.name} cannot be read ({described(error)})") from error
        now = time.time()
        return [
            delivery
            for key, records in fetched.items()
            for delivery in self._readings[key].deliveries(records, now)
        ]

    async def _begin_again(
        self, consumer: AIOKafkaConsumer, refused: Collection[TopicPartition]
    ) -> None:
        lows = await consumer.beginning_offsets(refused)
        for key in refused:
            self._seek(consumer, key, lows[key])

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`. An archive is read in order: what is next must come."""

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`: an archive keeps nothing."""

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`."""
        return bool(self._readings) and all(each.finished for each in self._readings.values())

    async def close(self) -> None:
        """See `Source.close`."""
        if self._consumer:
            await self._consumer.stop()
            self._consumer = None


def _partition(key: TopicPartition) -> Partition:
    return Partition(key.topic, str(key.partition))


async def _at(
    consumer: AIOKafkaConsumer,
    time_s: float | None,
    otherwise: Mapping[TopicPartition, int],
    highs: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """Where the first record is that is not older than `time_s`; `otherwise` without a time."""
    if time_s is None:
        return dict(otherwise)
    found = await consumer.offsets_for_times(dict.fromkeys(highs, max(0, round(1000 * time_s))))
    return {
        each: min(found[each].offset, high) if found.get(each) else high
        for each, high in highs.items()
    }
