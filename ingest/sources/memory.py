"""The in-memory source: the twin for tests."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources import Keeper


class MemorySource:
    """Delivers the bodies it was given, partition by partition.

    `committed` is what was committed: give the same mapping to the next source, and it goes on
    where this one was.
    """

    ordered = True

    def __init__(
        self,
        partitions: Mapping[str, Sequence[bytes]],
        name: str = "memory",
        committed: dict[Partition, Progress] | None = None,
    ) -> None:
        self.name = name
        self.committed = {} if committed is None else committed
        self._bodies = {Partition(name, each): bodies for each, bodies in partitions.items()}
        self._next: dict[Partition, int] = {}
        self._held: Collection[Partition] = ()

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        self._next = {each: keeper.assign(each, self.committed.get(each)) for each in self._bodies}

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        taken: list[Delivery] = []
        for partition, first in self._next.items():
            if partition not in self._held:
                bodies = self._bodies[partition][first : first + limit - len(taken)]
                taken += (
                    Delivery(Position(*partition, offset), body, time.time())
                    for offset, body in enumerate(bodies, start=first)
                )
                self._next[partition] = first + len(bodies)
        return taken

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`."""
        self._held = partitions

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`."""
        self.committed.update(progress)

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`."""
        return all(first >= len(self._bodies[each]) for each, first in self._next.items())

    async def close(self) -> None:
        """Nothing to let go of."""
