"""Results as JSON lines: for people, and for tools that read nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

from sinks.journal import Journal
from sinks.keys import KeyIndex
from sinks.record import ResultRecord
from sinks.sink import Stored


class JsonLinesSink:
    """One object a line, in the order of writing; 64-bit ids are strings.

    Which keys the file holds is kept on disk while it is open, about 60 bytes a key beside it.
    """

    linger_s: ClassVar[float] = 0.0
    guarantee: ClassVar[str] = (
        "A write that returned survives a crash of process and machine (fsync). A key that is in "
        "the file is not written again: what a restarted run repeats changes nothing."
    )

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._journal = Journal(path)
        self._keys = KeyIndex(path.parent)
        # Of the threads: a write whose caller was cancelled still goes on in its own.
        self._lock = threading.Lock()

    async def open(self) -> None:
        """See `Sink.open`."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        self._journal.open()
        self._keys.open(line["result_id"] for line in self._journal.read())

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`."""
        await asyncio.to_thread(self._write, {each.result_id: each for each in records})

    def _write(self, records: dict[str, ResultRecord]) -> None:
        with self._lock:
            fresh = self._keys.fresh(records)
            self._journal.append(records[key].to_json() for key in records if key in fresh)
            self._keys.add(fresh)

    async def scan(self) -> AsyncIterator[Stored]:
        """See `Sink.scan`."""
        for line in self._journal.read():
            yield Stored(
                line["result_id"],
                line["src_topic"],
                line["src_partition"],
                int(line["src_offset"]),
                line["status"],
            )

    async def close(self) -> None:
        """See `Sink.close`."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            self._journal.close()
            self._keys.close()
