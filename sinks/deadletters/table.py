"""Dead letters in a PostgreSQL table."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Final

import asyncpg
import orjson

from sinks.database import Database, checked_table
from sinks.deadletters.letter import DeadLetter, Place
from sinks.errors import SinkUnavailable

_COLUMNS: Final = {
    "src_topic": "text NOT NULL",
    "src_partition": "text NOT NULL",
    "src_offset": "bigint NOT NULL",
    "error_class": "text NOT NULL",
    "reason": "text NOT NULL",
    "detail": "text NOT NULL",
    "attempts": "integer NOT NULL",
    "cost_usd_pico": "bigint",
    "redriven": "integer NOT NULL",
    "survey": "text",
    "alert_id": "text",
    "result_id": "text",
    "headers": "text NOT NULL",  # JSON; not jsonb, which knows no character zero
    "run_id": "text NOT NULL",
    "t_dead": "double precision NOT NULL",
    "body": "bytea NOT NULL",
}
_KEY: Final = "src_topic, src_partition, src_offset"
_LISTED: Final = ", ".join(_COLUMNS)
_PAGE: Final = 10  # letters; a body may have 16 MiB
_FIRST: Final = Place("", "", -1)


class DeadLetterTable:
    """One row a place, `body` as bytea, `error_class` and `reason` as text to group by.

    The table is made where it is missing. PostgreSQL's text knows no character zero: in `detail`
    and the other texts it becomes U+FFFD; the body is byte for byte.

    Args:
        dsn: `postgresql://user:password@host:port/database`; never shown.
        table: its name.
        timeout_s: of one statement, and of a connection.
    """

    guarantee: ClassVar[str] = (
        "One transaction a write or removal: it is there whole once it returned, also after a "
        "crash of the server, and not at all if it was cut off. A place has one row, the latest."
    )

    def __init__(self, dsn: str, table: str = "dead_letters", *, timeout_s: float = 30.0) -> None:
        self._database = Database.at(dsn)
        self._table = checked_table(table)
        self.name = f"{self._database.name} table {table}"
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """See `DeadLetterSink.open`."""
        with self._database.errors():
            # No connection is kept ready: each use gets one that lives, also after a restart.
            self._pool = await asyncpg.create_pool(
                **self._database.options(self._timeout_s), min_size=0, max_size=2
            )
            try:
                await self._make(self._opened())
            except BaseException:
                await self.close()
                raise

    async def _make(self, pool: asyncpg.Pool) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        async with pool.acquire() as db, db.transaction():
            # IF NOT EXISTS alone fails where two services start at the same moment.
            await db.execute("SELECT pg_advisory_xact_lock(hashtext($1))", self._table)
            await db.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} ({columns}, PRIMARY KEY ({_KEY}))"
            )
            await db.prepare(f"SELECT {_LISTED} FROM {self._table}")  # noqa: S608 - other columns?

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink.write`."""
        latest = {each.place: each for each in letters}
        marks = ", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 1))
        changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
        # Sorted, so that two writers of the same places wait for each other and do not deadlock.
        with self._database.errors():
            await self._opened().executemany(
                f"INSERT INTO {self._table} ({_LISTED}) VALUES ({marks}) "  # noqa: S608
                f"ON CONFLICT ({_KEY}) DO UPDATE SET {changes}",
                [_row(latest[place]) for place in sorted(latest)],
            )

    async def scan(self) -> AsyncGenerator[DeadLetter, None]:
        """See `DeadLetterSink.scan`. In pages by place: no transaction is open between them."""
        query = (
            f"SELECT {_LISTED} FROM {self._table} WHERE ({_KEY}) > ($1, $2, $3) "  # noqa: S608
            f"ORDER BY {_KEY} LIMIT {_PAGE}"
        )
        last = _FIRST
        while True:
            with self._database.errors():
                page = [_letter(row) for row in await self._opened().fetch(query, *last)]
            for each in page:
                yield each
            if len(page) < _PAGE:
                return
            last = page[-1].place

    async def remove(self, places: Collection[Place]) -> None:
        """See `DeadLetterSink.remove`."""
        with self._database.errors():
            await self._opened().executemany(
                f"DELETE FROM {self._table} WHERE ({_KEY}) = ($1, $2, $3)",  # noqa: S608
                sorted(set(places)),
            )

    async def close(self) -> None:
        """See `DeadLetterSink.close`."""
        pool, self._pool = self._pool, None
        if pool:
            # Nothing is under way, so there is nothing to wait for; `close` would wait for a
            # server that is gone.
            pool.terminate()

    def _opened(self) -> asyncpg.Pool:
        if self._pool is None:
            raise SinkUnavailable(f"{self.name} is not open")
        return self._pool


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    told = {
        **letter.about(),
        "src_offset": letter.src_offset,
        "headers": orjson.dumps(dict(letter.headers)).decode(),
        "body": letter.body,
    }
    return tuple(
        value.replace("\x00", "\ufffd") if isinstance(value := told[name], str) else value
        for name in _COLUMNS
    )


def _letter(row: asyncpg.Record) -> DeadLetter:
    told = {each.name: row[each.name] for each in fields(DeadLetter)}
    return DeadLetter(**{**told, "headers": orjson.loads(row["headers"])})
