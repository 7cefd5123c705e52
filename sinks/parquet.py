"""Results as Parquet parts in a folder: for DuckDB, Arrow, Spark and the like."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sinks import schema
from sinks.errors import NoRoom, SinkError, SinkRefused, is_full
from sinks.keys import KeyIndex
from sinks.record import ResultRecord
from sinks.sink import Stored

_UNFINISHED: Final = ".unfinished"
_SCANNED: Final = ["result_id", "src_topic", "src_partition", "src_offset", "status"]


class ParquetSink:
    """One part per write, named after the keys it holds.

    Which keys the parts hold is kept on disk while it is open, about 60 bytes a key in the folder.
    """

    linger_s: ClassVar[float] = 5.0
    guarantee: ClassVar[str] = (
        "A part appears whole or not at all (written aside, synced, renamed), and survives a crash "
        "of process and machine. A key that is in some part is not written again: what a restarted "
        "run repeats changes nothing."
    )

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._folder = folder
        self._schema = schema.arrow_schema()
        self._keys = KeyIndex(folder)
        self._lacking = False  # whether a part has keys that the index had no room for
        # Of the threads: a write whose caller was cancelled still goes on in its own.
        self._lock = threading.Lock()

    async def open(self) -> None:
        """See `Sink.open`."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for leftover in self._folder.glob(f"*{_UNFINISHED}"):
                leftover.unlink()
        except OSError as error:
            raise self._failure(error) from error
        self._learn()

    def _learn(self) -> None:
        """Learn which keys are held; from the parts, which alone know."""
        try:
            self._keys.open(self._held())
        except (OSError, pa.ArrowInvalid) as error:
            raise self._failure(error) from error
        self._lacking = False

    def _held(self) -> Iterator[str]:
        for part in self._parts():
            if pq.read_schema(part).names != self._schema.names:
                raise SinkRefused(
                    f"{part} was written by another release (its columns differ): "
                    "give another output folder"
                )
            yield from pq.read_table(part, columns=["result_id"])[0].to_pylist()

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`."""
        await asyncio.to_thread(self._write, {each.result_id: each for each in records})

    def _write(self, records: dict[str, ResultRecord]) -> None:
        with self._lock:
            if self._lacking:
                self._learn()
            fresh = self._keys.fresh(records)
            if fresh:
                self._add_part({key: records[key] for key in records if key in fresh})
                self._lacking = True
                self._keys.add(fresh)
                self._lacking = False

    def _add_part(self, records: dict[str, ResultRecord]) -> None:
        rows = [each.__dict__ for each in records.values()]
        table = pa.Table.from_pylist(rows, schema=self._schema)
        name = hashlib.blake2b("".join(sorted(records)).encode(), digest_size=16).hexdigest()
        part = self._folder / f"part-{name}.parquet"
        # Hidden: who reads the folder as a data set passes over names with a leading dot.
        unfinished = self._folder / f".{part.name}{_UNFINISHED}"
        try:
            with unfinished.open("wb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(part)
            _sync_folder(self._folder)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise self._failure(error) from error

    async def scan(self) -> AsyncIterator[Stored]:
        """See `Sink.scan`."""
        for part in self._parts():
            table = await asyncio.to_thread(pq.read_table, part, columns=_SCANNED)
            for row in table.to_pylist():
                yield Stored(**row)

    async def close(self) -> None:
        """See `Sink.close`."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            self._keys.close()
            self._lacking = False

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def _failure(self, error: Exception) -> SinkError:
        why = f"{self._folder} cannot be used as a Parquet sink ({error})"
        if is_full(error):
            return NoRoom(f"{why}: make room on the disk")
        return SinkRefused(f"{why}: check the folder and its permissions, then run again")


def _sync_folder(folder: Path) -> None:
    """A rename is durable only when the folder is on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
