"""What survives a crash: progress and books of every partition, and the keys seen so far.

One SQLite file, one transaction per commit: progress, books and seen keys can never disagree with
each other. What a crash loses is the time since the last commit; those events are read again and
land on the same result keys. A source that keeps its own commits (Kafka) is asked first; what is
here of it is for `reconcile`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from dispatcher.errors import LaneStopped, NoRoomForState, SettingsError
from dispatcher.tracker import REMEMBERED
from ingest.events import Partition, Position
from ingest.progress import Progress
from sinks.errors import is_full

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS books (
    lane TEXT, source TEXT, partition TEXT, watermark INTEGER NOT NULL, gaps TEXT NOT NULL,
    outcomes TEXT NOT NULL, PRIMARY KEY (lane, source, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, source TEXT NOT NULL,
    partition TEXT NOT NULL, first_offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS acknowledged (
    number INTEGER PRIMARY KEY, source TEXT NOT NULL, partition TEXT NOT NULL,
    message INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS origin (
    source TEXT PRIMARY KEY, location TEXT NOT NULL) WITHOUT ROWID;
"""

LIVE: Final = "live"
"""The lane that a source is followed on; redriven dead letters have their own."""

REPLAY: Final = "replay"
"""The lane that an archive or an old night is read again on."""

Seen = Mapping[str, Position]


class Checkpoint:
    """The state file of one output folder. `keys`: how many seen keys it remembers."""

    def __init__(self, path: Path, keys: int = 5_000_000) -> None:
        self._path = path
        self._keys = keys
        self._open: dict[str, Position] = {}
        self._uncommitted: dict[str, Position] = {}
        try:
            self._reader = sqlite3.connect(path)
            self._db = sqlite3.connect(path, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            # A power cut may lose the last commits: that only means redoing their events.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise SettingsError(
                f"the state file {path} cannot be used ({error}): "
                "give another output folder with --to, or move the file away to start afresh"
            ) from error
        # One thread: commits reach the file in the order in which they were asked for, also
        # when whoever waited for one was cancelled.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def claim(self, source: str, location: str) -> None:
        """Note where `source` is. Two folders of one name must not share their positions.

        Raises:
            SettingsError: this state is of a source of that name at another location.
        """
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO origin VALUES (?, ?)", (source, location))
        (known,) = self._reader.execute(
            "SELECT location FROM origin WHERE source = ?", (source,)
        ).fetchone()
        if known != location:
            raise SettingsError(
                f"the state in {self._path.parent} is of {source} at {known}, not at {location}: "
                "give another output folder with --to (or put an archive that moved back)"
            )

    def progress(self, lane: str = LIVE) -> dict[Partition, Progress]:
        """All partitions that were ever committed by a lane."""
        rows = self._reader.execute(
            "SELECT source, partition, watermark, gaps, outcomes FROM books WHERE lane = ?", (lane,)
        )
        return {
            Partition(source, name): Progress(watermark, gaps, json.loads(outcomes))
            for source, name, watermark, gaps, outcomes in rows
        }

    def acknowledged(self, partition: Partition) -> list[int]:
        """The last messages that were settled of a partition without order."""
        rows = self._reader.execute(
            "SELECT message FROM acknowledged WHERE source = ? AND partition = ? ORDER BY number",
            partition,
        )
        return [message for (message,) in rows][-REMEMBERED:]

    def first_seen(self, key: str, position: Position) -> Position:
        """Where `key` (hex digits) was seen first; `position` if that is here and now."""
        if found := self._open.get(key) or self._uncommitted.get(key):
            return found
        row = self._reader.execute(
            "SELECT source, partition, first_offset FROM known WHERE key = ?",
            (bytes.fromhex(key),),
        ).fetchone()
        if row is not None:
            return Position(*row)
        self._open[key] = position
        return position

    def is_open(self, key: str) -> bool:
        """Whether an event of this key was seen, and has no answer so far."""
        return key in self._open

    def close_keys(self, keys: Iterable[str]) -> None:
        """Their events have their answer in every sink: from now on they are remembered.

        Not before: a crash, or another dispatcher that gets the partition, would find the first
        copy here and take it for a duplicate of one that nobody works on any more.
        """
        for key in keys:
            if position := self._open.pop(key, None):
                self._uncommitted[key] = position

    async def commit(self, progress: Mapping[Partition, Progress], lane: str = LIVE) -> None:
        """Store progress and all keys answered since the last commit, in one transaction.

        Raises:
            NoRoomForState: the disk is full; the same may be committed again.
            LaneStopped: the file cannot be written.
        """
        # The keys stay in `_uncommitted` until they are on disk: `first_seen` may be asked
        # for one of them while the transaction runs in its thread.
        fresh = dict(self._uncommitted)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._store, lane, progress, fresh)
        for key in fresh:
            self._uncommitted.pop(key, None)

    def _store(self, lane: str, progress: Mapping[Partition, Progress], seen: Seen) -> None:
        try:
            with self._db:
                self._db.executemany(
                    "INSERT OR REPLACE INTO books VALUES (?,?,?,?,?,?)",
                    [
                        (
                            lane,
                            *partition,
                            each.watermark,
                            each.gaps,
                            json.dumps(dict(each.outcomes)),
                        )
                        for partition, each in progress.items()
                    ],
                )
                self._store_acknowledged(progress)
                self._store_seen(seen)
        except sqlite3.Error as error:
            if is_full(error):
                raise NoRoomForState(f"the state file {self._path}: {error}; make room") from error
            raise LaneStopped(
                f"the state file {self._path} cannot be written ({error}): "
                "make room or mend the disk, then run again; nothing is lost"
            ) from error

    def _store_acknowledged(self, progress: Mapping[Partition, Progress]) -> None:
        rows = [
            (*partition, message)
            for partition, each in progress.items()
            for message in each.settled
        ]
        self._insert("acknowledged (source, partition, message)", rows, REMEMBERED)

    def _store_seen(self, seen: Seen) -> None:
        rows = [(bytes.fromhex(key), *position) for key, position in seen.items()]
        self._insert("known (key, source, partition, first_offset)", rows, self._keys)

    def _insert(self, table: str, rows: Iterable[tuple[object, ...]], keep: int) -> None:
        """Add rows at the end of a table and forget those that are older than the last `keep`."""
        if not rows:
            return
        marks = ",".join("?" * (table.count(",") + 1))
        self._db.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)  # noqa: S608
        name = table.split(" ", maxsplit=1)[0]
        self._db.execute(
            f"DELETE FROM {name} WHERE number <= (SELECT max(number) FROM {name}) - ?",  # noqa: S608
            (keep,),
        )

    def close(self) -> None:
        """Finish the commits that are under way and close the file."""
        self._thread.shutdown()
        self._db.close()
        self._reader.close()
