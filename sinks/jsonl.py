"""Results as JSON lines: for people, and for tools that read nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from sinks.journal import Journal
from sinks.record import ResultRecord
from sinks.sink import Stored


class JsonLinesSink:
    """One object a line, in the order of writing; 64-bit ids are strings.

    Guarantee: a write that returned survives a crash of process and machine (fsync). A key that
    is in the file is not written again: what a restarted run repeats changes nothing. The keys
    are held in memory (about 100 bytes each).
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._journal = Journal(path)
        self._keys: set[str] = set()
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """See `Sink.open`."""
        await asyncio.to_thread(self._journal.open)
        self._keys = await asyncio.to_thread(
            lambda: {line["result_id"] for line in self._journal.read()}
        )

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`."""
        async with self._lock:
            fresh = {r.result_id: r for r in records if r.result_id not in self._keys}
            lines = [record.to_json() for record in fresh.values()]
            await asyncio.to_thread(self._journal.append, lines)
            self._keys.update(fresh)

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
        async with self._lock:
            self._journal.close()
