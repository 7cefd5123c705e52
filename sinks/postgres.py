"""Results in a PostgreSQL table, with an outbox for who wants to hear of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Final

import asyncpg
import pyarrow as pa

from sinks import schema
from sinks.database import Database, checked_table
from sinks.errors import SinkRefused, SinkUnavailable
from sinks.outbox import create_outbox, outbox_of
from sinks.record import ResultRecord
from sinks.sink import Stored

_PAGE: Final = 5000
_CLOSE_S: Final = 5.0
_STAGING: Final = "lookback_staging"
_TYPES: Final = {pa.string(): "text", pa.int64(): "bigint", pa.float64(): "double precision"}
_COLUMNS: Final = {each.name: _TYPES[each.type] for each in schema.arrow_schema()}
_NULLABLE: Final = {each.name for each in schema.arrow_schema() if each.nullable}

# What differs when the same answer is found again: such a row stays as it was, and is not news.
_OF_THE_RUN: Final = frozenset(
    {"run_id", "t_broker_in", "t_inferred", "t_published", "cost_usd_micro", "cost_usd_pico"}
)


class PostgresSink:
    """One table, upserted by `result_id`, one transaction per write.

    What is not there is made: table, indices, outbox. A table of an older release gets the columns
    that it lacks. Several runs may write the same table at once.

    A NUL, which PostgreSQL's text cannot hold, is stored as U+FFFD.
    """

    linger_s: ClassVar[float] = 0.0
    guarantee: ClassVar[str] = (
        "A write that returned is committed, and survives what the server's disk survives; one "
        "that did not is there whole or not at all. A key is held once: a row is replaced when its "
        "content changes, and left as it is, without a notice, when only run, times and cost do."
    )

    def __init__(
        self,
        dsn: str,
        table: str = "results",
        *,
        outbox: bool = True,
        connections: int = 4,
        timeout_s: float = 30.0,
    ) -> None:
        """`timeout_s` is for each answer of the server, `connections` for writes at once.

        Raises:
            SinkRefused: the address or the table's name cannot be read.
        """
        self._database = Database.at(dsn)
        self._table = checked_table(table)
        self._outbox = outbox
        self._connections, self._timeout_s = connections, timeout_s
        self._upsert = _upsert(table, outbox=outbox)
        self._pool: Any = None
        self.name = f"{self._database.name}/{table}"

    async def open(self) -> None:
        """See `Sink.open`.

        Raises:
            SinkRefused: also a table that this release cannot write.
            SinkUnavailable: the server cannot be reached now.
        """
        await self.close()
        with self._database.errors():
            self._pool = await asyncpg.create_pool(
                min_size=0,
                max_size=self._connections,
                init=_stage,
                **self._database.options(self._timeout_s),
            )
        try:
            async with self._connection() as connection:
                async with connection.transaction():
                    await self._prepare(connection)
                await self._store(connection, [])  # all permissions are seen now, not in the night
        except BaseException:
            await self.close()
            raise

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`."""
        rows = list({each.result_id: schema.values(each) for each in records}.values())
        if not rows:
            return
        async with self._connection() as connection:
            try:
                await self._store(connection, rows)
            except asyncpg.CharacterNotInRepertoireError:
                await self._store(connection, _without_nul(rows))

    async def scan(self) -> AsyncIterator[Stored]:
        """See `Sink.scan`. The rows as they were when it began, in pages."""
        query = f"SELECT {','.join(Stored._fields)} FROM {self._table}"  # noqa: S608 - checked
        async with self._connection() as connection, connection.transaction(readonly=True):
            async for row in connection.cursor(query, prefetch=_PAGE):
                yield Stored(*row)

    async def close(self) -> None:
        """See `Sink.close`."""
        pool, self._pool = self._pool, None
        if pool:
            # It waits for who still has a connection, as a scan that somebody has left half read,
            # and cuts all of them when it is cancelled.
            with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.wait_for(pool.close(), _CLOSE_S)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._pool is None:
            raise SinkUnavailable(f"{self.name} is not open")
        with self._database.errors():
            try:
                async with self._pool.acquire(timeout=self._timeout_s) as connection:
                    yield connection
            except asyncpg.ReadOnlySQLTransactionError:
                await self._pool.expire_connections()  # look anew who is the primary
                raise

    async def _store(self, connection: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        async with connection.transaction():
            await connection.copy_records_to_table(_STAGING, records=rows, columns=list(_COLUMNS))
            await connection.fetch(self._upsert)

    async def _prepare(self, connection: Any) -> None:
        # Else two runs that start together would both find nothing, and the second fail.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", self._table)
        found = await connection.fetch(_FIND, self._table)
        if found:
            await self._adapt(connection, found)
        else:
            await connection.execute(_create(self._table))
        if self._outbox:
            await create_outbox(connection, self._table)

    async def _adapt(self, connection: Any, found: Iterable[Any]) -> None:
        held = {row["name"]: row["type"] for row in found}
        lacking = [name for name in _COLUMNS if name not in held]
        wrong = [
            *(name for name in lacking if name not in _NULLABLE),
            *(name for name, kind in _COLUMNS.items() if held.get(name, kind) != kind),
            *(row["name"] for row in found if row["required"] and row["name"] not in _COLUMNS),
        ]
        if wrong:
            raise SinkRefused(
                f"{self.name} was made by another release or for something else (see its columns "
                f"{', '.join(wrong)}): give another table, or rename this one and run again"
            )
        if lacking:
            added = ", ".join(f"ADD COLUMN {name} {_COLUMNS[name]}" for name in lacking)
            await connection.execute(f"ALTER TABLE {self._table} {added}")


async def _stage(connection: Any) -> None:
    """The table that rows are copied to first: COPY knows no ON CONFLICT."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    await connection.execute(f"CREATE TEMP TABLE {_STAGING} ({columns}) ON COMMIT DELETE ROWS")


_FIND: Final = """
    SELECT attname AS name, format_type(atttypid, atttypmod) AS type,
        attnotnull AND NOT atthasdef AND attidentity = '' AS required
    FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""


def _create(table: str) -> str:
    columns = ", ".join(
        f"{name} {kind}" + ("" if name in _NULLABLE else " NOT NULL")
        for name, kind in _COLUMNS.items()
    )
    return f"""
        CREATE TABLE {table} ({columns}, PRIMARY KEY (result_id));
        CREATE INDEX ON {table} (src_topic, src_partition, src_offset);
        CREATE INDEX ON {table} (object_id);
    """


def _upsert(table: str, *, outbox: bool) -> str:
    """From the staging table to `table`, and notices of what is new.

    In the order of the keys: two writers of the same keys wait for each other, and never both.
    """
    content = [name for name in _COLUMNS if name not in _OF_THE_RUN]
    listed = ", ".join(_COLUMNS)
    tell, told = "", ""
    if outbox:
        tell = f""", told AS (
            INSERT INTO {outbox_of(table)} (result_id, status, t)
            SELECT result_id, status, extract(epoch FROM clock_timestamp()) FROM changed
            RETURNING id
        )"""  # noqa: S608 - checked
        told = f", (SELECT pg_notify('{outbox_of(table)}', '') WHERE EXISTS (SELECT FROM told))"  # noqa: S608 - checked
    return f"""
        WITH changed AS (
            INSERT INTO {table} AS held ({listed})
            SELECT {listed} FROM {_STAGING} ORDER BY result_id
            ON CONFLICT (result_id) DO UPDATE
            SET ({listed}) = ROW({", ".join(f"EXCLUDED.{name}" for name in _COLUMNS)})
            WHERE ({", ".join(f"held.{name}" for name in content)}) IS DISTINCT FROM
                ({", ".join(f"EXCLUDED.{name}" for name in content)})
            RETURNING result_id, status
        ){tell}
        SELECT {_DURABLE}{told}
    """  # noqa: S608 - checked


# A server may be set up not to wait for its disk. What is stronger than "on" stays as it is.
_DURABLE: Final = """set_config('synchronous_commit',
    CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"""


def _without_nul(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [
        tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row)
        for row in rows
    ]
