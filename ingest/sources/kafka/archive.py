"""Topics as an archive: all that the cluster holds of them, from the beginning to the end."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ingest.errors import SourceError
from ingest.events import Delivery, Partition
from ingest.progress import Progress
from ingest.sources import Keeper
from ingest.sources.kafka import doors, metadata
from ingest.sources.kafka.connecting import connect
from ingest.sources.kafka.contact import described
from ingest.sources.kafka.reading import Reading
from ingest.sources.kafka.topics import Topics

_POLL_MS: Final = 200
_OPEN_S: Final = 15.0


class TopicArchive:
    """Reads topics as no member of a group: it moves no partition and commits nothing.

    The keeper is told what `group` has committed. The end is where each partition ended when the
    source was opened.
    """

    ordered = True

    def __init__(
        self, servers: str, topics: str, group: str, client: Mapping[str, Any] | None = None
    ) -> None:
        """Arguments as of `KafkaSource`; raises as it."""
        self.name = f"kafka:{topics}"
        self._servers = servers
        self._topics = Topics.parse(topics)
        self._group = group
        self._client = dict(client or {})
        self._consumer: AIOKafkaConsumer | None = None
        self._readings: dict[TopicPartition, Reading] = {}

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`.

        Raises:
            SourceUnavailable: no broker answers.
            SourceError: none lets us in, or there is no such topic.
        """
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=self._group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            **self._client,
        )
        known = await connect(self._consumer, self._servers, self._client, _OPEN_S)
        try:
            await self._assign(self._consumer, keeper, known)
        except KafkaError as error:
            raise SourceError(
                f"{self.name} cannot be read at {self._servers} ({described(error)})"
            ) from error

    async def _assign(self, consumer: AIOKafkaConsumer, keeper: Keeper, known: set[str]) -> None:
        topics = self._topics.among(known, time.time(), 0.0)
        keys = [
            TopicPartition(topic, number)
            for topic in sorted(topics)
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        if not keys:
            raise SourceError(f"{self.name}: there is no such topic at {self._servers}")
        consumer.assign(keys)
        lows, highs = await consumer.beginning_offsets(keys), await consumer.end_offsets(keys)
        kept = await doors.committed(consumer, keys)
        for key in keys:
            partition = Partition(key.topic, str(key.partition))
            committed = metadata.decode(*kept[key]) if key in kept else None
            first = max(keeper.assign(partition, committed), lows[key])
            consumer.seek(key, first)
            end = highs[key]
            self._readings[key] = Reading(partition, first, first, end, end, first)

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
        except KafkaError as error:
            raise SourceError(f"{self.name} cannot be read ({described(error)})") from error
        now = time.time()
        return [
            delivery
            for key, records in fetched.items()
            for delivery in self._readings[key].deliveries(records, now)
        ]

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
