"""A result as a message of a Kafka topic, and what a message says of the result in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import orjson
from aiokafka import ConsumerRecord
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder

from sinks import avro
from sinks.record import SCHEMA_VERSION, ResultRecord
from sinks.registry import SchemaRegistry
from sinks.sink import Stored

Form = Literal["json", "avro"]
Encoder = Callable[[ResultRecord], bytes]

_STORED: Final = frozenset(Stored._fields)


async def encoder(form: Form, registry: SchemaRegistry | None, subject: str) -> Encoder:
    """What makes the value of a message. Avro stands behind the number of its schema.

    Raises:
        SinkUnavailable, SinkRefused: as `SchemaRegistry.register`.
    """
    if form == "json":
        return lambda record: orjson.dumps(record.to_json())
    number = SCHEMA_VERSION
    if registry:
        number = await registry.register(subject, avro.avro_schema())
    prefix = avro.prefix(number)
    return lambda record: prefix + avro.encode(record)


def pack(
    records: Iterable[ResultRecord],
    encode: Encoder,
    partitions: list[int],
    new_batch: Callable[[], BatchBuilder],
) -> dict[int, list[BatchBuilder]]:
    """The records as closed batches for each partition, keyed by object.

    Batches, because a future for every single message costs more than all the rest.
    """
    partition_of = DefaultPartitioner()
    packed: dict[int, list[BatchBuilder]] = defaultdict(list)
    for record in records:
        key = (record.object_id or record.result_id).encode()
        batches = packed[partition_of(key, partitions, partitions)]
        message = {"key": key, "value": encode(record), "headers": _headers(record)}
        if not batches or batches[-1].append(timestamp=None, **message) is None:
            batches.append(new_batch())
            batches[-1].append(timestamp=None, **message)
    for batches in packed.values():
        batches[-1].close()  # aiokafka would wait for more
    return packed


def _headers(record: ResultRecord) -> list[tuple[str, bytes]]:
    return [
        ("result_id", record.result_id.encode()),
        ("status", record.status.encode()),
        ("schema_version", b"%d" % record.schema_version),
        ("tense", record.tense.encode()),
        ("src_topic", record.src_topic.encode()),
        ("src_partition", record.src_partition.encode()),
        ("src_offset", b"%d" % record.src_offset),
    ]


def stored(message: ConsumerRecord) -> Stored | None:
    """What the headers say, whatever the form of the value; None if it is not a result."""
    headers: Mapping[str, str] = {k: v.decode() for k, v in message.headers if k in _STORED}
    if len(headers) < len(_STORED):
        return None
    return Stored(
        headers["result_id"],
        headers["src_topic"],
        headers["src_partition"],
        int(headers["src_offset"]),
        headers["status"],
    )
