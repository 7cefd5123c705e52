"""A keeper for those who only look: nothing is committed, nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ingest.events import Partition
from ingest.progress import Progress


@dataclass(frozen=True, slots=True)
class Onlooker:
    """Reads every partition from the offset that `first` gives for it.

    `committed`: what the source keeps of its partitions.
    """

    first: Callable[[Partition], int] = lambda _: 0
    committed: dict[Partition, Progress] = field(default_factory=dict)

    def assign(self, partition: Partition, committed: Progress | None = None) -> int:
        """See `Keeper.assign`."""
        if committed is not None:
            self.committed[partition] = committed
        return self.first(partition)

    async def revoke(self, partitions: Collection[Partition]) -> None:
        """See `Keeper.revoke`."""

    def lose(self, partitions: Collection[Partition]) -> None:
        """See `Keeper.lose`."""
