"""A source that gives no more than so many events a second."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from ingest.events import Delivery, Partition
from ingest.progress import Progress
from ingest.sources import Keeper, Source

_BURST_S: Final = 1.0
"""Longest time of which what was not taken may be made up for."""


class RatedSource:
    """Another source, slowed down: it gives what became due meanwhile, a second's worth at most.

    `monotonic` tells the time in seconds.
    """

    def __init__(self, source: Source, rate: float, monotonic: Callable[[], float]) -> None:
        """`rate`: events a second."""
        self.name, self.ordered = source.name, source.ordered
        self._source = source
        self._rate = rate
        self._monotonic = monotonic
        self._due = 0.0
        self._looked = 0.0

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        await self._source.open(keeper)
        self._looked = self._monotonic()

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        now = self._monotonic()
        most = max(1.0, self._rate * _BURST_S)  # less than one would never be an event
        self._due = min(most, self._due + self._rate * (now - self._looked))
        self._looked = now
        limit = min(limit, int(self._due))
        if not limit:
            return []
        taken = await self._source.take(limit)
        self._due -= len(taken)
        return taken

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`."""
        self._source.hold(partitions)

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`."""
        await self._source.commit(progress)

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`."""
        return self._source.exhausted

    async def close(self) -> None:
        """See `Source.close`."""
        await self._source.close()
