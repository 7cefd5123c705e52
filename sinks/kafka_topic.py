"""What a results topic holds: read back from a place to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from sinks.kafka_clients import start, stop

# From the first and the end offset of each partition, where to begin.
Places = Callable[[Mapping[int, int], Mapping[int, int]], Mapping[int, int]]

_STEP_MS: Final = 200
_PIECE: Final = 2000  # records at a time: what was fetched stays compressed until it is its turn


class Remembered:
    """The keys that were seen last: at least `limit` of them, at most twice as many.

    Two generations, so that forgetting costs nothing: when the younger one is full, the older one
    is dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: set[str] = set()
        self._old: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._young or key in self._old

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, key: str) -> None:
        """See the class. A limit of 0 remembers nothing."""
        self._young.add(key)
        if len(self._young) >= self._limit:
            self._old = self._young if self._limit else set()
            self._young = set()


class TopicReader:
    """Reads a topic without a group, and only what is committed.

    `client` are aiokafka's settings of a connection (security, `client_id`); `timeout_s` bounds
    each step: the connection, and the time without progress.

    Raises, while it reads:
        aiokafka.errors.KafkaError, TimeoutError: the broker does not answer.
    """

    def __init__(
        self, servers: str, topic: str, client: Mapping[str, Any], timeout_s: float
    ) -> None:
        self._servers = servers
        self._topic = topic
        self._client = client
        self._timeout_s = timeout_s

    async def read(self, places: Places) -> AsyncGenerator[list[ConsumerRecord]]:
        """Everything between the places and the end that the topic has now, in pieces.

        The end is before the oldest open transaction; a topic that does not exist is empty.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            request_timeout_ms=int(self._timeout_s * 1000),
            **self._client,
        )
        try:
            await start(consumer, self._timeout_s)
            async with asyncio.timeout(self._timeout_s):
                ends = await self._seek(consumer, places)
            while ends:
                yield await self._piece(consumer, ends)
        finally:
            await stop(consumer)

    async def _seek(
        self,
        consumer: AIOKafkaConsumer,
        places: Places,
    ) -> dict[TopicPartition, int]:
        """Where each partition that has something to read ends; the others are not assigned."""
        await consumer.topics()  # loads the metadata, and unlike a subscription makes no topic
        known = consumer.partitions_for_topic(self._topic) or set()
        of = {TopicPartition(self._topic, each): each for each in known}
        if not of:
            return {}
        first = {of[each]: at for each, at in (await consumer.beginning_offsets([*of])).items()}
        ends = {of[each]: at for each, at in (await consumer.end_offsets([*of])).items()}
        begin = places(first, ends)
        unread = {each: ends[n] for each, n in of.items() if begin[n] < ends[n]}
        consumer.assign([*unread])
        for each in unread:
            consumer.seek(each, begin[each.partition])
        return unread

    async def _piece(
        self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]
    ) -> list[ConsumerRecord]:
        """The next records; what is read to its end is taken out of `ends`."""
        async with asyncio.timeout(self._timeout_s):
            while True:
                fetched = await consumer.getmany(*ends, timeout_ms=_STEP_MS, max_records=_PIECE)
                # Markers of transactions are no records: only the position tells of them.
                done = [each for each, end in ends.items() if await consumer.position(each) >= end]
                for each in done:
                    del ends[each]
                if fetched or not ends:
                    return [record for records in fetched.values() for record in records]
