"""Held estimates in one SQLite file, which survives the run and which other processes may use."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from dispatcher.review.store import Decision, Held, stored, unknown
from sinks.errors import NoRoom, SinkRefused, SinkUnavailable, is_full
from sinks.record import ResultRecord, Review
from sinks.sink import Stored

FILE: Final = "review.sqlite"

_WAIT_S: Final = 5.0
_PAGE: Final = 1000
_PLAIN: Final = "record, t_held, standing, noted_by, note, t_decided, t_published"
_WHOLE: Final = f"{_PLAIN}, pz, stamp"
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS held (
    number INTEGER PRIMARY KEY, result_id TEXT NOT NULL UNIQUE, record TEXT NOT NULL,
    t_held REAL NOT NULL, standing TEXT NOT NULL, noted_by TEXT, note TEXT, t_decided REAL,
    t_published REAL, pz TEXT, stamp TEXT
);
CREATE INDEX IF NOT EXISTS held_by_standing ON held (standing, t_decided DESC, t_held, number);
CREATE INDEX IF NOT EXISTS held_due ON held (t_decided)
    WHERE t_published IS NULL AND standing <> 'waiting';
"""

T = TypeVar("T")


class SqliteReview:
    """A `ReviewStore` in a file. What was told to be stored survives a crash of the machine."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._db: sqlite3.Connection | None = None
        # Of the threads: work whose caller was cancelled still goes on in its own.
        self._lock = threading.Lock()

    async def open(self) -> None:
        """See `ReviewStore.open`."""
        self._db = await asyncio.to_thread(self._open)

    def _open(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self._path, timeout=_WAIT_S, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(_TABLES)
        except (sqlite3.Error, OSError) as error:
            raise SinkRefused(
                f"{self._path} cannot be used for review ({error}): check that its folder exists "
                "and can be written"
            ) from error
        return db

    async def hold(self, held: Sequence[Held]) -> None:
        """See `ReviewStore.hold`."""
        rows = [
            (
                each.record.result_id,
                json.dumps(each.record.to_json()),
                each.t_held,
                each.standing.value,
                each.pz,
                each.stamp,
            )
            for each in held
        ]
        await self._do(lambda db: db.executemany(_HOLD, rows))

    async def decide(self, result_id: str, decision: Decision) -> Held:
        """See `ReviewStore.decide`."""
        return await self._do(lambda db: _decide(db, result_id, decision))

    async def due(self, limit: int) -> list[Held]:
        """See `ReviewStore.due`."""
        where = "t_published IS NULL AND standing <> 'waiting' ORDER BY t_decided"
        return await self._select(_PLAIN, f"{where} LIMIT ?", limit)

    async def published(self, result_ids: Collection[str], now: float) -> None:
        """See `ReviewStore.published`."""
        rows = [(now, each) for each in result_ids]
        update = "UPDATE held SET t_published = ? WHERE result_id = ?"
        await self._do(lambda db: db.executemany(update, rows))

    async def listing(
        self, standing: Review | None, offset: int, limit: int
    ) -> tuple[int, list[Held]]:
        """See `ReviewStore.listing`."""
        counts = await self.counts()
        wanted = tuple(Review) if standing is None else (standing,)
        marks = ", ".join("?" * len(wanted))
        where = f"standing IN ({marks}) ORDER BY t_decided DESC, t_held, number LIMIT ? OFFSET ?"
        found = await self._select(_PLAIN, where, *(each.value for each in wanted), limit, offset)
        return sum(counts[each] for each in wanted), found

    async def find(self, result_id: str) -> Held | None:
        """See `ReviewStore.find`."""
        return next(iter(await self._select(_WHOLE, "result_id = ?", result_id)), None)

    async def counts(self) -> Counter[Review]:
        """See `ReviewStore.counts`."""
        query = "SELECT standing, count(*) FROM held GROUP BY standing"
        found = await self._do(lambda db: db.execute(query).fetchall())
        return Counter({Review(standing): count for standing, count in found})

    async def forget(self, before: float) -> int:
        """See `ReviewStore.forget`. The file stays as large; its room is used again."""
        query = "DELETE FROM held WHERE t_published < ?"
        return await self._do(lambda db: db.execute(query, (before,)).rowcount)

    async def scan(self) -> AsyncIterator[Stored]:
        """See `ReviewStore.scan`. In pages, so that many need no memory."""
        last = 0
        while page := await self._do(_page_after(last)):
            for _, *row in page:
                yield stored(_held(*row))
            last = page[-1][0]

    async def close(self) -> None:
        """See `ReviewStore.close`."""
        db, self._db = self._db, None
        if db:
            with self._lock:
                db.close()

    async def _select(self, columns: str, where: str, *given: Any) -> list[Held]:
        query = f"SELECT {columns} FROM held WHERE {where}"  # noqa: S608 - all of it is ours
        rows = await self._do(lambda db: db.execute(query, given).fetchall())
        return [_held(*row) for row in rows]

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            if self._db is None:
                raise SinkUnavailable(f"{self._path} is not open")
            try:
                with self._db as db:
                    return work(db)
            except sqlite3.OperationalError as error:
                if "locked" in str(error) or "busy" in str(error):
                    raise SinkUnavailable(f"{self._path} is locked by another process") from error
                if is_full(error):
                    raise NoRoom(f"{self._path} cannot be written ({error}): make room") from error
                raise self._refusal(error) from error
            except sqlite3.Error as error:
                raise self._refusal(error) from error

    def _refusal(self, error: sqlite3.Error) -> SinkRefused:
        return SinkRefused(
            f"{self._path} cannot be used for review ({error}): make room on the disk and check "
            "the permissions, then run again"
        )


_HOLD: Final = """
INSERT INTO held (result_id, record, t_held, standing, pz, stamp) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (result_id) DO UPDATE SET t_published = NULL WHERE t_published IS NOT NULL
"""
_SCAN: Final = (
    f"SELECT number, {_PLAIN} FROM held WHERE t_published IS NULL AND number > ? "  # noqa: S608
    "ORDER BY number LIMIT ?"
)


def _page_after(number: int) -> Callable[[sqlite3.Connection], list[Any]]:
    return lambda db: db.execute(_SCAN, (number, _PAGE)).fetchall()


def _decide(db: sqlite3.Connection, result_id: str, decision: Decision) -> Held:
    # As a writer from the begin: between a look and a decision nobody else's must come.
    db.execute("BEGIN IMMEDIATE")
    query = f"SELECT {_PLAIN} FROM held WHERE result_id = ?"  # noqa: S608 - all of it is ours
    if (row := db.execute(query, (result_id,)).fetchone()) is None:
        raise unknown(result_id)
    held = _held(*row).after(decision)
    db.execute(
        "UPDATE held SET standing = ?, noted_by = ?, note = ?, t_decided = ? WHERE result_id = ?",
        (held.standing.value, held.by, held.note, held.t_decided, result_id),
    )
    return held


def _held(record: str, t_held: float, standing: str, *rest: Any) -> Held:
    return Held(ResultRecord(**json.loads(record)), t_held, Review(standing), *rest)
