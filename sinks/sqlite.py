"""Results in one SQLite file: the embedded default."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from sinks import schema
from sinks.errors import NoRoom, SinkRefused, SinkUnavailable, is_full
from sinks.record import ResultRecord
from sinks.sink import Stored

_PAGE: Final = 5000


class SqliteSink:
    """Table `results`, upserted by `result_id`, one transaction per write.

    Readers may read at any time.
    """

    linger_s: ClassVar[float] = 0.0
    guarantee: ClassVar[str] = (
        "A write that returned survives a crash of process and machine (write-ahead log, "
        "synchronous FULL); one that did not is not there at all. A key that is held is replaced."
    )

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """See `Sink.open`."""
        self._db = await asyncio.to_thread(self._open)

    def _open(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self._path, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            # Not WITHOUT ROWID: keys come in no order, so only the small index of them may be in
            # theirs. Rows that are, too, are written all over the file, at half the speed.
            db.execute(f"CREATE TABLE IF NOT EXISTS results ({schema.sql_columns()})")
            found = [row[1] for row in db.execute("PRAGMA table_info(results)")]
        except (sqlite3.Error, OSError) as error:
            raise SinkRefused(
                f"{self._path} cannot be used as an SQLite sink ({error}): "
                "check that its folder exists and can be written, or give another"
            ) from error
        if found != list(schema.FIELDS):
            raise SinkRefused(
                f"{self._path} was written by another release (its columns differ): "
                "give another output folder"
            )
        return db

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`."""
        async with self._lock:
            await asyncio.to_thread(self._write, [schema.values(each) for each in records])

    def _write(self, rows: Sequence[tuple[object, ...]]) -> None:
        marks = ",".join("?" * len(schema.FIELDS))
        db = self._opened()
        try:
            with db:
                db.executemany(f"INSERT OR REPLACE INTO results VALUES ({marks})", rows)  # noqa: S608
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise SinkUnavailable(f"{self._path} is locked by another process") from error
            if is_full(error):
                raise NoRoom(f"{self._path} cannot be written ({error}): make room") from error
            raise SinkRefused(
                f"{self._path} cannot be written ({error}): make room on the disk and check "
                "the permissions, then run again"
            ) from error
        except sqlite3.Error as error:
            raise SinkRefused(f"{self._path} does not take these rows: {error}") from error

    async def scan(self) -> AsyncIterator[Stored]:
        """See `Sink.scan`. In pages by key, so that a large table needs no memory."""
        last = ""
        while page := await asyncio.to_thread(self._page, last):
            for row in page:
                yield Stored(*row)
            last = page[-1][0]

    def _page(self, after: str) -> list[tuple[str, str, str, int, str]]:
        query = (
            "SELECT result_id, src_topic, src_partition, src_offset, status FROM results "
            "WHERE result_id > ? ORDER BY result_id LIMIT ?"
        )
        return self._opened().execute(query, (after, _PAGE)).fetchall()

    async def close(self) -> None:
        """See `Sink.close`."""
        if self._db:
            async with self._lock:
                self._db.close()
            self._db = None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise SinkUnavailable(f"{self._path} is not open")
        return self._db
