"""The night archive: the events of a night in one SQLite file, as they came.

Table `events` (partition, offset, body, received); offsets of a partition count from zero.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ingest.errors import SourceError
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources import Keeper
from ingest.sources.span import Range, Ranges, Span

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

_WHOLE: Final = """
SELECT partition, min("offset"), max("offset") + 1 FROM events GROUP BY 1 ORDER BY 1
"""

_NOT_OLDER: Final = """
SELECT partition, min("offset") FROM events WHERE received >= ? GROUP BY 1
"""

_NO_END: Final = 2**63


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
        self._ranges: Ranges | None = None
        self._db: sqlite3.Connection | None = None
        self._next: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._held: frozenset[str] = frozenset()

    async def find(self, span: Span) -> Ranges:
        """See `Archive.find`. A time is that at which the event was received.

        Raises:
            SourceError: it is no night archive, or there is no such partition.
        """
        await asyncio.to_thread(self._open)
        try:
            return span.among(await asyncio.to_thread(self._found, span))
        finally:
            await self.close()

    def _found(self, span: Span) -> Ranges:
        whole = {name: Range(first, end) for name, first, end in self._rows(_WHOLE)}
        for name, each in whole.items():
            self._check(name, [(each.first, None)])
        ends = {name: each.end for name, each in whole.items()}
        since, until = (
            ends | dict(self._rows(_NOT_OLDER, each)) if each is not None else None
            for each in (span.from_time, span.to_time)
        )
        return {
            Partition(self.name, name): Range(
                since[name] if since else each.first, until[name] if until else each.end
            )
            for name, each in whole.items()
        }

    def limit(self, ranges: Ranges) -> None:
        """See `Archive.limit`."""
        self._ranges = ranges

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        for name in await asyncio.to_thread(self._open):
            partition, first = Partition(self.name, name), 0
            if self._ranges is not None:
                if partition not in self._ranges:
                    continue
                first, self._ends[name] = self._ranges[partition]
            self._next[name] = max(first, keeper.assign(partition))

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
        rows = self._rows(_PAGE, partition, self._next[partition], limit)
        self._check(partition, rows)
        end = self._ends.get(partition, _NO_END)
        rows = [each for each in rows if each[0] < end]
        if len(rows) < limit:
            del self._next[partition]  # an archive does not grow while it is read
        else:
            self._next[partition] = rows[-1][0] + 1
        now = time.time()
        return [
            Delivery(Position(self.name, partition, offset), body or b"", now, _headers(body))
            for offset, body in rows
        ]

    def _rows(self, query: str, *parameters: object) -> list[Any]:
        if self._db is None:
            raise SourceError(f"{self._path} is not open")
        try:
            return self._db.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise SourceError(f"{self._path}: a page cannot be read ({error})") from error

    def _check(self, partition: str, rows: Sequence[tuple[object, bytes | None]]) -> None:
        for offset, _ in rows:
            if not isinstance(offset, int):
                raise SourceError(
                    f"{self._path} has the offset {offset!r:.50} in partition {partition}: "
                    "offsets are whole numbers"
                )

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
