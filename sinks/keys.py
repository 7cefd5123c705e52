"""Which keys a sink of files holds: asked on disk, so that memory stays flat."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

from sinks.errors import NoRoom, SinkError, SinkRefused, is_full

_PAGE: Final = 10_000
_CACHE_KIB: Final = 16 * 1024  # the only memory that the keys take, however many they are


class KeyIndex:
    """A set of keys in a temporary file. Not safe for several threads at once.

    It says what the sink's own files say and is made anew from them at every start, so it needs
    no crash safety: no journal, no sync. Its name is gone as soon as it is open, so that not even
    a killed process leaves it behind; the space is free when it is closed. Keys hold no NUL.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is where it takes room, about 60 bytes a key; None: the temporary folder."""
        self._folder = folder
        self._db: sqlite3.Connection | None = None

    def open(self, held: Iterable[str] = ()) -> None:
        """Begin with the keys that are `held`, which are taken a page at a time.

        Raises:
            NoRoom: the disk is full.
            SinkRefused: the folder cannot be written.
        """
        self.close()
        self._db = self._create()
        keys = iter(held)
        while page := list(islice(keys, _PAGE)):
            self.add(page)

    def _create(self) -> sqlite3.Connection:
        try:
            descriptor, path = tempfile.mkstemp(prefix=".keys-", dir=self._folder)
            os.close(descriptor)
            try:
                db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
                for pragma in (
                    "journal_mode=OFF",
                    "synchronous=OFF",
                    "locking_mode=EXCLUSIVE",
                    f"cache_size=-{_CACHE_KIB}",
                ):
                    db.execute(f"PRAGMA {pragma}")
                db.execute("CREATE TABLE keys (key TEXT PRIMARY KEY) WITHOUT ROWID")
            finally:
                Path(path).unlink()
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error
        return db

    def fresh(self, keys: Collection[str]) -> set[str]:
        """Those of `keys` that are not held.

        Raises:
            SinkRefused: the index is not open, or its file cannot be read.
        """
        query = "SELECT value FROM json_each(?) WHERE value NOT IN keys"
        return {key for (key,) in self._execute(query, keys)}

    def add(self, keys: Collection[str]) -> None:
        """Hold `keys`, too; those that are held already change nothing.

        Raises:
            NoRoom: the disk is full.
            SinkRefused: as `fresh`. After either the index is closed: one that lacks keys would let
                them be written twice.
        """
        try:
            self._execute("INSERT OR IGNORE INTO keys SELECT value FROM json_each(?)", keys)
        except SinkError:
            self.close()
            raise

    def close(self) -> None:
        """Forget all keys and free the space."""
        if self._db:
            self._db.close()
            self._db = None

    def _execute(self, statement: str, keys: Collection[str]) -> list[tuple[str]]:
        if self._db is None:
            raise SinkRefused("the index of keys is not open: open the sink first")
        # In the order of the tree, neighbours share its pages: twice as fast as in any order.
        # One statement a batch, as a call for each key costs more than the look-up.
        batch = orjson.dumps(sorted(keys)).decode()
        if "\\u0000" in batch:
            raise ValueError("a key with NUL in it: SQLite would cut it off there")
        try:
            return self._db.execute(statement, (batch,)).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> SinkError:
        where = self._folder or tempfile.gettempdir()
        why = f"{where} cannot hold the index of keys ({error})"
        if is_full(error):
            return NoRoom(f"{why}: make room on the disk")
        return SinkRefused(f"{why}: check the folder and its permissions, then run again")
