"""What survives a crash: progress and books of every partition, and the keys seen so far.

One SQLite file, one transaction per commit: progress, books and seen keys can never
disagree with each other. What a crash loses is the time since the last commit; those
events are read again and land on the same result keys.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dispatcher.books import Outcome
from dispatcher.errors import LaneStopped, SettingsError
from dispatcher.tracker import Progress
from ingest.events import Position

_TABLES = """
CREATE TABLE IF NOT EXISTS progress (
    source TEXT, partition TEXT, watermark INTEGER NOT NULL, gaps TEXT NOT NULL,
    outcomes TEXT NOT NULL, PRIMARY KEY (source, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (
    key TEXT PRIMARY KEY, source TEXT NOT NULL, partition TEXT NOT NULL,
    first_offset INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS origin (
    source TEXT PRIMARY KEY, location TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Progress and outcomes of one partition, as committed together."""

    progress: Progress = field(default_factory=Progress)
    outcomes: Mapping[Outcome, int] = field(default_factory=Counter)


class Checkpoint:
    """The state file of one run directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
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

    def states(self, source: str) -> dict[str, PartitionState]:
        """All partitions of `source` that were ever committed."""
        rows = self._reader.execute(
            "SELECT partition, watermark, gaps, outcomes FROM progress WHERE source = ?", (source,)
        )
        return {
            partition: PartitionState(
                Progress(watermark, gaps),
                Counter({Outcome(name): n for name, n in json.loads(outcomes).items()}),
            )
            for partition, watermark, gaps, outcomes in rows
        }

    def first_seen(self, key: str, position: Position) -> Position:
        """Where `key` was seen first; `position` if that is here and now."""
        if key in self._uncommitted:
            return self._uncommitted[key]
        row = self._reader.execute(
            "SELECT source, partition, first_offset FROM seen WHERE key = ?", (key,)
        ).fetchone()
        if row is not None:
            return Position(*row)
        self._uncommitted[key] = position
        return position

    async def commit(self, source: str, states: Mapping[str, PartitionState]) -> None:
        """Store the states and all keys seen since the last commit, in one transaction.

        Raises:
            LaneStopped: the file cannot be written.
        """
        progress = [
            (source, partition, state.progress.watermark, state.progress.gaps, _json(state))
            for partition, state in states.items()
        ]
        # The keys stay in `_uncommitted` until they are on disk: `first_seen` may be asked
        # for one of them while the transaction runs in its thread.
        fresh = dict(self._uncommitted)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._store, progress, fresh)
        for key in fresh:
            del self._uncommitted[key]

    def _store(self, progress: Iterable[tuple[object, ...]], seen: Mapping[str, Position]) -> None:
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO progress VALUES (?,?,?,?,?)", progress)
                self._db.executemany(
                    "INSERT OR IGNORE INTO seen VALUES (?,?,?,?)",
                    [(key, at.source, at.partition, at.offset) for key, at in seen.items()],
                )
        except sqlite3.Error as error:
            raise LaneStopped(
                f"the state file {self._path} cannot be written ({error}): "
                "make room or mend the disk, then run again; nothing is lost"
            ) from error

    def close(self) -> None:
        """Finish the commits that are under way and close the file."""
        self._thread.shutdown()
        self._db.close()
        self._reader.close()


def _json(state: PartitionState) -> str:
    return json.dumps({outcome.value: count for outcome, count in state.outcomes.items()})
