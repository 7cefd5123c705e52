"""The night archive: the events of a night in one SQLite file, as they came.

Table `events` (partition, offset, body, received); offsets of a partition count from zero.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ingest.errors import SourceError
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources import Keeper

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS events (
    partition TEXT, "offset" INTEGER, body BLOB NOT NULL, received REAL NOT NULL,
    PRIMARY KEY (partition, "offset"));
"""

# A body that was written as text is that text's bytes.
_PAGE: Final = """
SELECT "offset", CAST(body AS BLOB) FROM events WHERE partition = ? AND "offset" >= ?
ORDER BY "offset" LIMIT ?
"""


class NightArchive:
    """Writes a night archive. A context manager: what was added is stored when it is left."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.executescript(_TABLE)
        rows = self._db.execute('SELECT partition, max("offset") + 1 FROM events GROUP BY 1')
        self._next = Counter(dict(rows.fetchall()))

    def add(self, partition: str, body: bytes, received: float | None = None) -> None:
        """Add an event at the end of a partition. `received`: unix seconds, default now."""
        row = (partition, self._next[partition], body, received or time.time())
        self._db.execute("INSERT INTO events VALUES (?,?,?,?)", row)
        self._next[partition] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._db.commit()
        self._db.close()


class NightSource:
    """Reads a night archive: all partitions in turn, a page at a time."""

    ordered = True

    def __init__(self, path: Path) -> None:
        self.name = f"night:{path.name}"
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._next: dict[str, int] = {}
        self._held: frozenset[str] = frozenset()

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        names = await asyncio.to_thread(self._open)
        self._next = {name: keeper.assign(Partition(self.name, name)) for name in names}

    def _open(self) -> list[str]:
        try:
            self._db = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
            names = self._db.execute("SELECT DISTINCT partition FROM events ORDER BY 1").fetchall()
        except sqlite3.Error as error:
            raise SourceError(f"{self._path} is not a night archive ({error})") from error
        if not names:
            raise SourceError(f"{self._path} holds no events")
        if not all(isinstance(name, str) for (name,) in names):
            raise SourceError(
                f"{self._path} has a partition whose name is not a text: write it anew"
            )
        return [name for (name,) in names]

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`. Partitions take turns, as they would on a live stream."""
        taken: list[Delivery] = []
        turns = [each for each in self._next if each not in self._held]
        for partition in turns:
            wanted = -(-limit // len(turns))  # an equal share, rounded up
            wanted = min(wanted, limit - len(taken))
            if wanted:
                taken += await asyncio.to_thread(self._page, partition, wanted)
        return taken

    def _page(self, partition: str, limit: int) -> list[Delivery]:
        if self._db is None:
            raise SourceError(f"{self._path} is not open")
        rows = self._rows(self._db, partition, limit)
        if len(rows) < limit:
            del self._next[partition]  # an archive does not grow while it is read
        else:
            self._next[partition] = rows[-1][0] + 1
        now = time.time()
        return [
            Delivery(Position(self.name, partition, offset), body or b"", now, _headers(body))
            for offset, body in rows
        ]

    def _rows(
        self, db: sqlite3.Connection, partition: str, limit: int
    ) -> list[tuple[int, bytes | None]]:
        try:
            rows = db.execute(_PAGE, (partition, self._next[partition], limit)).fetchall()
        except sqlite3.Error as error:
            where = f"{self._path}, partition {partition}"
            raise SourceError(f"{where}: a page cannot be read ({error})") from error
        for offset, _ in rows:
            if not isinstance(offset, int):
                raise SourceError(
                    f"{self._path} has the offset {offset!r:.50} in partition {partition}: "
                    "offsets are whole numbers"
                )
        return rows

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`."""
        self._held = frozenset(each.name for each in partitions)

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`: an archive keeps nothing."""

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`."""
        return self._db is not None and not self._next

    async def close(self) -> None:
        """See `Source.close`."""
        if self._db:
            self._db.close()
            self._db = None
            self._next = {}


def _headers(body: bytes | None) -> dict[str, str]:
    return {"unreadable": "the archive holds no body here"} if body is None else {}
