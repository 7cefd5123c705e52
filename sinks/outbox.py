"""The outbox of a PostgreSQL table: what is new in it, for a reader that tells others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import asyncpg

from sinks.database import Database, checked_table
from sinks.errors import SinkUnavailable

_IDLE_S: Final = 5.0


class Notice(NamedTuple):
    """A result that is new, or whose content has changed. `t` is unix seconds, by the server."""

    id: int
    result_id: str
    status: str
    t: float


class Outbox:
    """Reads the outbox of a table that `PostgresSink` writes. One `take` at a time.

    A notice is written in the transaction of its result, so neither is there without the other.
    It is taken by one reader, however many there are, and is there again for all when that reader
    fails before it said `done`: a notice is delivered at least once. Notices come roughly in the
    order of the results, not exactly: several writers and readers overtake each other.
    """

    def __init__(self, dsn: str, table: str = "results", *, timeout_s: float = 30.0) -> None:
        """Raises `SinkRefused` where the address or the table's name cannot be read."""
        self._database = Database.at(dsn)
        self._name = outbox_of(checked_table(table))
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._taken: Any = None
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Connect.

        Raises:
            SinkUnavailable: the server cannot be reached now.
            SinkRefused: it does not let this user in.
        """
        await self.close()
        with self._database.errors():
            options = self._database.options(self._timeout_s)
            self._connection = await asyncpg.connect(**options)
            await self._connection.add_listener(self._name, lambda *_: self._news.set())

    async def take(self, limit: int = 1000) -> list[Notice]:
        """Up to `limit` notices that no other reader has; empty where there are none now.

        They are locked, in an open transaction, until `done` or `close`: deliver them soon.

        Raises:
            SinkUnavailable: the connection is lost: open again.
            SinkRefused: there is no outbox, or this user may not read it.
        """
        if self._taken:
            raise RuntimeError("notices are taken: say done() of them first")
        self._news.clear()
        query = (
            f"SELECT id, result_id, status, t FROM {self._name} "  # noqa: S608 - checked
            "ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED"
        )
        with self._database.errors():
            transaction = self._opened().transaction()
            await transaction.start()
            self._taken = transaction
            notices = [Notice(*row) for row in await self._connection.fetch(query, limit)]
        if not notices:
            await self.done([])
        return notices

    async def done(self, ids: Collection[int]) -> None:
        """These are delivered and go for ever; what else was taken is there again for all.

        Raises:
            SinkUnavailable: the connection is lost: what was taken will be taken again.
        """
        with self._database.errors():
            if ids:
                query = f"DELETE FROM {self._name} WHERE id = ANY($1)"  # noqa: S608 - checked
                await self._opened().execute(query, list(ids))
            transaction, self._taken = self._taken, None
            if transaction:
                await transaction.commit()

    async def wait(self, timeout_s: float = _IDLE_S) -> None:
        """Return when there may be news, at the latest after `timeout_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)

    async def close(self) -> None:
        """Disconnect; what was taken and is not done is there again for all."""
        connection, self._connection, self._taken = self._connection, None, None
        if connection:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=_IDLE_S)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _opened(self) -> Any:
        if self._connection is None:
            raise SinkUnavailable(f"{self._database.name}/{self._name} is not open")
        return self._connection


async def relay(
    dsn: str,
    table: str,
    deliver: Callable[[Sequence[Notice]], Awaitable[None]],
    *,
    limit: int = 1000,
) -> None:
    """Hand every notice to `deliver`, for ever. What it raises comes out, and nothing is lost.

    Raises:
        SinkUnavailable: the connection is lost: call it again.
        SinkRefused: there is no outbox, or this user may not read it.
    """
    async with Outbox(dsn, table) as outbox:
        while True:
            if notices := await outbox.take(limit):
                await deliver(notices)
                await outbox.done([each.id for each in notices])
            else:
                await outbox.wait()


def outbox_of(table: str) -> str:
    """Name of a table's outbox, and of the channel that says when there is news."""
    return f"{table}_outbox"


async def create_outbox(connection: Any, table: str) -> None:
    """Make it where it is not there."""
    name = outbox_of(table)
    # Not IF NOT EXISTS: that asks for the permission to create before it looks.
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", name):
        await connection.execute(
            f"CREATE TABLE {name} (id bigserial PRIMARY KEY, result_id text NOT NULL, "
            "status text NOT NULL, t double precision NOT NULL)"
        )
