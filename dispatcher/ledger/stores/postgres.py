"""The books in PostgreSQL, for dispatchers on several machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import asyncpg

from dispatcher.errors import LedgerUnavailable, SettingsError
from dispatcher.ledger.books import Books
from dispatcher.ledger.stores import Entry, sql
from dispatcher.ledger.stores.transactional import TransactionalStore
from sinks.database import Database
from sinks.errors import SinkError, SinkRefused

T = TypeVar("T")

_CLOSE_S: Final = 5.0
_DURABLE: Final = "SET LOCAL synchronous_commit TO on"  # a server may be set up not to wait


class PostgresStore(TransactionalStore):
    """A `Store` in tables `lookback_ledger_*`; another schema with ?search_path= in the address.

    Every transaction has the lock of its budget, for some milliseconds; none is open while workers
    are called.
    """

    def __init__(
        self,
        dsn: str,
        budget: str = "lookback",
        noon_utc_h: float = 12.0,
        *,
        timeout_s: float = 5.0,
    ) -> None:
        """`timeout_s` is for each answer of the server.

        Raises:
            SettingsError: the address cannot be read.
        """
        super().__init__(noon_utc_h)
        try:
            self._database = Database.at(dsn)
        except SinkRefused as error:
            raise SettingsError(f"spend.ledger: {error}") from error
        self._tables = sql.Tables(budget, self.calendar)
        self._budget, self._timeout_s = budget, timeout_s
        self._pool: Any = None

    async def open(self) -> None:
        """See `Store.open`."""
        await self.close()
        try:
            with self._database.errors():
                self._pool = await asyncpg.create_pool(
                    min_size=0, max_size=2, **self._database.options(self._timeout_s)
                )
                async with self._pool.acquire() as connection, connection.transaction():
                    await self._lock(
                        connection
                    )  # else two that start together would both make them
                    for table in sql.TABLES:
                        await connection.execute(table)
        except SinkError as error:
            await self.close()
            if isinstance(error, SinkRefused):
                raise SettingsError(f"the ledger: {error}") from error
            raise self._away(error) from error

    async def close(self) -> None:
        """See `Store.close`."""
        pool, self._pool = self._pool, None
        if pool:
            with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.wait_for(pool.close(), _CLOSE_S)

    async def _transaction(
        self, now: float | None, work: Callable[[Books], T], *, write: bool = True
    ) -> T:
        async with self._begun(write=write) as connection:
            if write:
                await self._lock(connection)
            rows = [await connection.fetch(query, *args) for query, args in self._tables.reads(now)]
            books = self._tables.page(now, rows)
            before = books.as_read()
            result = work(books)
            if write:
                for statement, given in self._tables.writes(before, books):
                    if given:
                        await connection.executemany(statement, given)
        return result

    @asynccontextmanager
    async def _begun(self, *, write: bool) -> AsyncIterator[Any]:
        if self._pool is None:
            raise LedgerUnavailable(f"the ledger {self._database.name} is not open")
        # Who reads wants all queries to see one moment; who writes sees what was there when it got
        # the lock, which is later than its first query.
        isolation = "read_committed" if write else "repeatable_read"
        try:
            with self._database.errors():
                async with (
                    self._pool.acquire(timeout=self._timeout_s) as connection,
                    connection.transaction(isolation=isolation, readonly=not write),
                ):
                    yield connection
        except SinkError as error:
            raise self._away(error) from error

    async def _lock(self, connection: Any) -> None:
        await connection.execute(_DURABLE)
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext('lookback ledger'), hashtext($1))", self._budget
        )

    def _away(self, error: SinkError) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"the ledger does not answer, so nothing is sent until it does: {error}"
        )

    async def spent_per_hour(self, since: float, until: float) -> list[tuple[float, str, int]]:
        """See `Store.spent_per_hour`."""
        return sql.hours(await self._fetch(sql.PER_HOUR, int(since), int(until)))

    async def journal(self, since: float, limit: int) -> list[tuple[str, Entry]]:
        """See `Store.journal`."""
        return sql.lines(await self._fetch(sql.JOURNAL, since, max(0, limit)))

    async def _fetch(self, query: str, *given: Any) -> list[Any]:
        async with self._begun(write=False) as connection:
            rows: list[Any] = await connection.fetch(query, self._budget, *given)
            return rows
