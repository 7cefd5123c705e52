"""Results as messages of a Kafka topic: at least once, or in one transaction with the source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Final, Literal

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import OffsetAndMetadata

from sinks.errors import SinkError, SinkRefused, SinkUnavailable
from sinks.kafka_clients import dismiss, start
from sinks.kafka_errors import explained
from sinks.kafka_messages import Encoder, Form, encoder, pack, stored
from sinks.kafka_topic import Remembered, TopicReader
from sinks.record import ResultRecord
from sinks.registry import SchemaRegistry
from sinks.sink import Stored

_FAILURES: Final = (KafkaError, IllegalOperation, OSError)  # a TimeoutError is an OSError

Offsets = Mapping[tuple[str, int], tuple[int, str]]


class KafkaSink:
    """One message a result, keyed by object, so that the results of an object keep their order.

    The value is the record as JSON, or as Avro behind five bytes: a zero and the number of the
    schema (of the registry; without one, `SCHEMA_VERSION`). Headers (`result_id`, `status`,
    `schema_version`, `tense`, and the event's position `src_topic`, `src_partition`, `src_offset`)
    say what a reader has to know before it decodes.

    A log does not upsert. What a restart repeats is found in the end of the topic, which `open`
    reads back: the last `remember` results, each partition its share. After a write whose fate is
    not known, what the topic got since is read before the next one.
    """

    linger_s: ClassVar[float] = 0.0
    guarantee: ClassVar[str] = (
        "A write that returned is on all in-sync replicas, and a key among the last `remember` "
        "results of the topic is not written again, also after a crash. A request that was on its "
        "way when the connection broke may still double a key: drop a `result_id` that was seen. "
        "With a transactional id that cannot happen to readers of committed messages."
    )

    def __init__(
        self,
        servers: str,
        topic: str,
        *,
        client: Mapping[str, Any] | None = None,
        form: Form = "json",
        registry: SchemaRegistry | None = None,
        transactional_id: str | None = None,
        idempotent: bool = True,
        compression: Literal["lz4", "zstd", "gzip", "snappy"] | None = "zstd",
        batch_bytes: int = 512 * 1024,
        remember: int = 200_000,
        timeout_s: float = 20.0,
    ) -> None:
        """A sink for `topic` of the cluster that `servers` ("host:port,host:port") belong to.

        Args:
            servers: brokers to ask first.
            topic: where the results go; may be missing where the broker makes topics by itself.
            client: aiokafka's settings of a connection (`security_protocol`, `sasl_...`).
            form: of the value, json or avro.
            registry: where the Avro schema is registered, under the subject `<topic>-value`.
            transactional_id: one transaction a write; the same after a restart, and of no other
                service.
            idempotent: False for brokers that have no idempotent producers.
            compression: of the batches.
            batch_bytes: of a batch before compression; the topic's `max.message.bytes` is larger.
            remember: how many results are known again; some 100 bytes of memory each.
            timeout_s: of a write, and of a connection.
        """
        self.name = f"kafka://{servers}/{topic}"
        self._topic, self._form, self._registry = topic, form, registry
        self._timeout_s, self.transactional = timeout_s, transactional_id is not None
        self._settings = {
            **(client or {}),
            "bootstrap_servers": servers,
            "acks": "all",
            "enable_idempotence": idempotent,
            "compression_type": compression,
            "max_batch_size": batch_bytes,  # no linger: each write closes its batches
            "request_timeout_ms": int(timeout_s * 500),  # two tries fit into a write
            "transactional_id": transactional_id,
            "transaction_timeout_ms": int(timeout_s * 2000),
        }
        self._reader = TopicReader(servers, topic, client or {}, timeout_s)
        self._encode: Encoder | None = None
        self._producer: AIOKafkaProducer | None = None
        self._remember, self._remembered = remember, Remembered(remember)
        self._known: dict[int, int] = {}  # of each partition: what is before it is remembered
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """See `Sink.open`. Aborts what an earlier producer with this transactional id left open.

        Raises:
            SinkUnavailable: the brokers or the registry do not answer.
        """
        async with self._lock:
            await self._connected()

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`."""
        async with self._lock:
            await self._attempt(records, {}, "")

    async def write_with(
        self, records: Sequence[ResultRecord], offsets: Offsets, group: str
    ) -> None:
        """Store the records and commit the group's offsets: both, or neither.

        `offsets` gives for (source topic, partition) the next offset to read and its metadata;
        the source is on the same cluster. Who reads committed messages sees each result of these
        events exactly once, whatever crashes.

        Raises:
            SinkUnavailable, SinkRefused: as `write`.
        """
        if not self.transactional:
            raise SinkRefused(f"{self.name}: give transactional_id, to commit offsets with results")
        async with self._lock:
            await self._attempt(records, offsets, group)

    async def scan(self) -> AsyncIterator[Stored]:
        """See `Sink.scan`. Reads the whole topic."""
        try:
            async with aclosing(self._reader.read(lambda first, _: first)) as pieces:
                async for piece in pieces:
                    for message in piece:
                        if not (found := stored(message)):
                            raise SinkRefused(
                                f"{self.name} holds a message that is no result (partition "
                                f"{message.partition}, offset {message.offset}): give the "
                                "results a topic of their own"
                            )
                        yield found
        except _FAILURES as error:
            raise self._explained(error) from error

    async def close(self) -> None:
        """See `Sink.close`."""
        async with self._lock:
            await self._disconnect()

    async def _attempt(self, records: Sequence[ResultRecord], offsets: Offsets, group: str) -> None:
        producer = await self._connected()
        fresh = {r.result_id: r for r in records if r.result_id not in self._remembered}
        if not fresh and not offsets:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                places = await self._publish(producer, list(fresh.values()), offsets, group)
        except BaseException as error:
            # Nobody knows which batches are in the log; and a producer that lost count of its
            # sequence numbers, or was fenced, fails for ever. The next write takes a new one.
            await self._disconnect()
            if isinstance(error, _FAILURES):
                raise self._explained(error) from error
            raise
        for key in fresh:
            self._remembered.add(key)
        self._known |= places

    async def _publish(
        self,
        producer: AIOKafkaProducer,
        records: Sequence[ResultRecord],
        offsets: Offsets,
        group: str,
    ) -> dict[int, int]:
        """Send all; the offsets behind what was sent."""
        if not self.transactional:
            return await self._send(producer, records)
        await producer.begin_transaction()
        places = await self._send(producer, records)
        if offsets:
            await producer.send_offsets_to_transaction(
                {TopicPartition(*at): OffsetAndMetadata(*to) for at, to in offsets.items()}, group
            )
        await producer.commit_transaction()
        return places

    async def _send(
        self, producer: AIOKafkaProducer, records: Sequence[ResultRecord]
    ) -> dict[int, int]:
        partitions = sorted(await producer.partitions_for(self._topic))
        encode = await self._encoder()
        packed = await asyncio.to_thread(pack, records, encode, partitions, producer.create_batch)
        try:
            async with asyncio.TaskGroup() as group:
                sent = {
                    partition: group.create_task(self._send_in_turn(producer, partition, batches))
                    for partition, batches in packed.items()
                }
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        return {partition: task.result() for partition, task in sent.items()}

    async def _send_in_turn(
        self, producer: AIOKafkaProducer, partition: int, batches: Sequence[BatchBuilder]
    ) -> int:
        place = self._known.get(partition, 0)
        for batch in batches:
            # One at a time: aiokafka has one request a broker on its way, whatever is queued.
            sent = await producer.send_batch(batch, self._topic, partition=partition)
            place = max(place, (await sent).offset + batch.record_count())
        return place

    async def _connected(self) -> AIOKafkaProducer:
        """The producer. A new one comes with the knowledge of what the topic holds."""
        if self._producer is None:
            await self._encoder()
            self._producer = AIOKafkaProducer(**self._settings)
            try:
                await start(self._producer, self._timeout_s)
                async with asyncio.timeout(self._timeout_s):
                    await self._producer.partitions_for(self._topic)
                await self._catch_up()
            except BaseException as error:
                await self._disconnect()
                if isinstance(error, _FAILURES):
                    raise self._explained(error) from error
                raise
        return self._producer

    async def _encoder(self) -> Encoder:
        if self._encode is None:
            self._encode = await encoder(self._form, self._registry, f"{self._topic}-value")
        return self._encode

    async def _catch_up(self) -> None:
        """Remember the results that are in the topic and that this sink does not know of."""
        behind: dict[int, int] = {}

        def places(first: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
            behind.update(ends)
            return self._unknown(first, ends)

        async with aclosing(self._reader.read(places)) as pieces:
            async for piece in pieces:
                for found in filter(None, map(stored, piece)):
                    self._remembered.add(found.result_id)
        self._known |= behind

    def _unknown(self, first: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
        """Where to read from. A log that is shorter than it was has lost what is remembered."""
        if any(ends.get(partition, 0) < place for partition, place in self._known.items()):
            self._remembered, self._known = Remembered(self._remember), {}
        share = -(-self._remember // len(ends))
        return {
            each: max(first[each], self._known.get(each, end - share)) for each, end in ends.items()
        }

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer:
            await dismiss(producer)

    def _explained(self, error: BaseException) -> SinkError:
        if self._known and isinstance(error, UnknownTopicOrPartitionError):
            # It was there: brokers that start again do not know their topics at once.
            return SinkUnavailable(f"{self.name}: the brokers do not know the topic just now")
        return explained(error, self.name)
