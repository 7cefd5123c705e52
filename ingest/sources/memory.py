"""The in-memory source: the twin for tests."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from ingest.events import Delivery, Position
from ingest.sources import FirstWanted


class MemorySource:
    """Delivers the bodies it was given, partition by partition."""

    def __init__(self, partitions: Mapping[str, Sequence[bytes]], name: str = "memory") -> None:
        self.name = name
        self._partitions = partitions
        self._ahead: Iterator[Delivery] = iter(())
        self._left = sum(len(bodies) for bodies in partitions.values())

    async def open(self, first_wanted: FirstWanted) -> None:
        """See `Source.open`."""
        first = {name: first_wanted(name) for name in self._partitions}
        self._left = sum(max(0, len(self._partitions[name]) - at) for name, at in first.items())
        self._ahead = (
            Delivery(Position(self.name, name, offset), bodies[offset], time.time())
            for name, bodies in self._partitions.items()
            for offset in range(first[name], len(bodies))
        )

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        taken = list(islice(self._ahead, limit))
        self._left -= len(taken)
        return taken

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`."""
        return self._left <= 0

    async def close(self) -> None:
        """Nothing to let go of."""
