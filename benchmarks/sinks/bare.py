"""The peers: what the libraries below our sinks do with the same rows, in the same batches."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from benchmarks.sinks.servers import ACCESS
from sinks import avro, schema
from sinks.kafka_messages import _headers
from sinks.record import SCHEMA_VERSION, ResultRecord


class Side(Protocol):
    """What is timed is `write`, of what `ready` has made of a batch."""

    async def open(self) -> None:
        """Make the destination, and connect."""

    def ready(self, records: Sequence[ResultRecord]) -> Any:
        """What `write` takes."""

    async def write(self, ready: Any) -> None:
        """Store it, durably."""

    async def close(self) -> None:
        """Disconnect."""


class Copy:
    """COPY of asyncpg into the table that our sink would have made."""

    def __init__(self, at: str, name: str) -> None:
        self._at, self._table = at, f"copied_{name}"

    async def open(self) -> None:
        """See `Side.open`."""
        import asyncpg

        from sinks.postgres import PostgresSink

        made = PostgresSink(self._at, self._table, outbox=False)
        await made.open()
        await made.close()
        self._connection = await asyncpg.connect(self._at)

    def ready(self, records: Sequence[ResultRecord]) -> Any:
        """See `Side.ready`."""
        return [schema.values(each) for each in records]

    async def write(self, ready: Any) -> None:
        """See `Side.write`."""
        await self._connection.copy_records_to_table(
            self._table, records=ready, columns=schema.FIELDS
        )

    async def close(self) -> None:
        """See `Side.close`."""
        await self._connection.close()


class Producer:
    """`send` of aiokafka, and the wait for all answers."""

    def __init__(self, at: str, name: str, form: str = "json") -> None:
        self._at, self._topic, self._form = at, f"sent-{name}", form

    async def open(self) -> None:
        """See `Side.open`."""
        from aiokafka import AIOKafkaProducer

        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._at,
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=512 * 1024,
        )
        await make_topic(self._at, self._topic)
        await self._producer.start()

    def ready(self, records: Sequence[ResultRecord]) -> Any:
        """See `Side.ready`."""
        prefix = avro.prefix(SCHEMA_VERSION)
        return [
            (
                prefix + avro.encode(each)
                if self._form == "avro"
                else orjson.dumps(each.to_json()),
                (each.object_id or each.result_id).encode(),
                _headers(each),
            )
            for each in records
        ]

    async def write(self, ready: Any) -> None:
        """See `Side.write`."""
        await asyncio.gather(
            *[
                await self._producer.send(self._topic, value, key, headers=headers)
                for value, key, headers in ready
            ]
        )

    async def close(self) -> None:
        """See `Side.close`."""
        await self._producer.stop()


class AvroProducer(Producer):
    """The same, of Avro."""

    def __init__(self, at: str, name: str) -> None:
        super().__init__(at, name, "avro")


class _Files:
    """Dicts into files that are synced."""

    def __init__(self, at: str, name: str) -> None:
        self._folder = Path(at) / f"files-{name}"
        self._written = 0

    async def open(self) -> None:
        """See `Side.open`."""
        self._folder.mkdir()

    def ready(self, records: Sequence[ResultRecord]) -> Any:
        """See `Side.ready`."""
        return [dict(vars(each)) for each in records]

    async def write(self, ready: Any) -> None:
        """See `Side.write`."""
        self._write(ready)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """See `Side.close`."""


class Arrow(_Files):
    """A pyarrow table of each batch, in a Parquet file of its own."""

    def _write(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._written += 1
        with (self._folder / f"{self._written}.parquet").open("wb") as file:
            table = pa.Table.from_pylist(rows, schema=schema.arrow_schema())
            pq.write_table(table, file, compression="zstd")
            _sync(file)


class Lines(_Files):
    """One file of JSON lines."""

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with (self._folder / "lines.jsonl").open("ab") as file:
            file.write(
                b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
            )
            _sync(file)


class Insert:
    """`executemany` of sqlite3 into the table that our sink would have made."""

    def __init__(self, at: str, name: str) -> None:
        self._path = Path(at) / f"inserted-{name}.sqlite"

    async def open(self) -> None:
        """See `Side.open`."""
        from sinks.sqlite import SqliteSink

        made = SqliteSink(self._path)
        await made.open()
        await made.close()
        self._db = sqlite3.connect(self._path)
        self._db.execute("PRAGMA synchronous=FULL")

    def ready(self, records: Sequence[ResultRecord]) -> Any:
        """See `Side.ready`."""
        return [schema.values(each) for each in records]

    async def write(self, ready: Any) -> None:
        """See `Side.write`."""
        with self._db:
            marks = ",".join("?" * len(schema.FIELDS))
            self._db.executemany(f"INSERT INTO results VALUES ({marks})", ready)  # noqa: S608

    async def close(self) -> None:
        """See `Side.close`."""
        self._db.close()


class Put:
    """`put_object` of aiobotocore, 32 at once."""

    def __init__(self, at: str, name: str) -> None:
        self._at, self._name = at, name

    async def open(self) -> None:
        """See `Side.open`."""
        await make_bucket(self._at)
        self._made = s3(self._at)
        self._client = await self._made.__aenter__()

    def ready(self, records: Sequence[ResultRecord]) -> Any:
        """See `Side.ready`."""
        return [
            (f"put-{self._name}/{each.result_id}.json", orjson.dumps(each.to_json()))
            for each in records
        ]

    async def write(self, ready: Any) -> None:
        """See `Side.write`."""
        queue = iter(ready)

        async def work() -> None:
            for key, body in queue:
                await self._client.put_object(Bucket="results", Key=key, Body=body)

        await asyncio.gather(*(work() for _ in range(32)))

    async def close(self) -> None:
        """See `Side.close`."""
        await self._made.__aexit__(None, None, None)


async def make_topic(at: str, name: str, partitions: int = 4) -> None:
    """A new topic."""
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=at)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1)])
    finally:
        await admin.close()


async def make_bucket(at: str) -> None:
    """The bucket; that it is there already is no error of S3's in this region."""
    async with s3(at) as client:
        await client.create_bucket(Bucket="results")


def s3(at: str) -> Any:
    """A client with room for as many requests at once as our sink makes."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(max_pool_connections=32)
    return get_session().create_client("s3", endpoint_url=at, config=config, **ACCESS)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
