"""The books in one SQLite file: the default, for the dispatchers of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from dispatcher.errors import LedgerUnavailable, SettingsError
from dispatcher.ledger.books import Books
from dispatcher.ledger.stores import Entry, sql
from dispatcher.ledger.stores.transactional import TransactionalStore

T = TypeVar("T")

_BUSY_MS: Final = 5000


class SqliteStore(TransactionalStore):
    """A `Store` in a file; several processes may share it, on one machine.

    What was written survives a crash of process and machine (write-ahead log, synchronous FULL).
    Transactions run inline: they are shorter than the way to a thread and back.
    """

    def __init__(self, path: Path, budget: str = "lookback", noon_utc_h: float = 12.0) -> None:
        super().__init__(noon_utc_h)
        self._path = path
        self._tables = sql.Tables(budget, self.calendar)
        self._budget = budget
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        """See `Store.open`."""
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None)
            self._db.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            for table in sql.TABLES:
                self._db.execute(table)
        except sqlite3.Error as error:
            await self.close()
            if _locked(error):
                raise self._away(error) from error
            raise SettingsError(
                f"{self._path} cannot be used as a ledger ({error}): check that its folder exists "
                "and can be written, or give another file (spend.ledger)"
            ) from error

    async def close(self) -> None:
        """See `Store.close`."""
        db, self._db = self._db, None
        if db:
            db.close()

    async def _transaction(
        self, now: float | None, work: Callable[[Books], T], *, write: bool = True
    ) -> T:
        with self._begun(write=write) as db:
            rows = [
                db.execute(_numbered(query), given).fetchall()
                for query, given in self._tables.reads(now)
            ]
            books = self._tables.page(now, rows)
            before = books.as_read()
            result = work(books)
            if write:
                for statement, given in self._tables.writes(before, books):
                    db.executemany(_numbered(statement), given)
        return result

    @contextmanager
    def _begun(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        if self._db is None:
            raise LedgerUnavailable(f"the ledger {self._path} is not open")
        db = self._db
        try:
            # A transaction that begins as a reader may find, when it writes, that others were
            # faster, and no waiting helps it then.
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._away(error) from error

    def _away(self, error: sqlite3.Error) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"the ledger {self._path} cannot be used now ({error}): nothing is sent until it can; "
            "see that the disk has room, and that no other program locks the file"
        )

    async def spent_per_hour(self, since: float, until: float) -> list[tuple[float, str, int]]:
        """See `Store.spent_per_hour`."""
        return sql.hours(self._fetch(sql.PER_HOUR, since, until))

    async def journal(self, since: float, limit: int) -> list[tuple[str, Entry]]:
        """See `Store.journal`."""
        return sql.lines(self._fetch(sql.JOURNAL, since, max(0, limit)))

    def _fetch(self, query: str, *given: Any) -> list[tuple[Any, ...]]:
        with self._begun(write=False) as db, closing(db.cursor()) as cursor:
            return cursor.execute(_numbered(query), (self._budget, *given)).fetchall()


def _numbered(statement: str) -> str:
    """SQLite writes ?1 where PostgreSQL writes $1."""
    return statement.replace("$", "?")


def _locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "busy" in str(error)
