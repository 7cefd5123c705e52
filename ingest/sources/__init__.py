"""Where events come from: the protocol, and which location is which source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Protocol

from ingest.errors import SourceError
from ingest.events import Delivery, Partition
from ingest.progress import Progress

_SQLITE: Final = b"SQLite format 3\x00"


class Keeper(Protocol):
    """Who keeps track of the positions of a source: told when partitions come and go.

    The dispatcher is one. A partition that comes back after it was revoked or lost is a new
    assignment: what was taken under the old one is never committed under the new one.
    """

    def assign(self, partition: Partition, committed: Progress | None = None) -> int:
        """A partition is there to be read. Returns the first offset that is wanted of it.

        `committed`: what the source keeps of it; None when it keeps nothing, and the keeper's
        own records count.
        """

    async def revoke(self, partitions: Collection[Partition]) -> None:
        """They are about to be taken away.

        Finishes what can be finished in the keeper's time, calls `Source.commit` with it, and
        lets go of them. While this runs, the source delivers nothing of these partitions.
        """

    def lose(self, partitions: Collection[Partition]) -> None:
        """They belong to somebody else already: let go of them, commit nothing."""


class Source(Protocol):
    """Deliveries, partition by partition.

    `ordered`: offsets of a partition rise, and a commit is a watermark. Else every delivery is
    acknowledged by itself, in `Progress.settled`.
    """

    name: str
    ordered: bool

    async def open(self, keeper: Keeper) -> None:
        """Get ready.

        Partitions are assigned now or later; each is delivered from its first wanted offset on.

        Raises:
            SourceError: the source cannot be read.
        """

    async def take(self, limit: int) -> list[Delivery]:
        """Up to `limit` deliveries; none when there is nothing right now (it may wait a little).

        Of a source with order, offsets of a partition rise. An event that cannot be read is
        delivered all the same, with the header `unreadable`: nothing is dropped in silence.
        """

    def hold(self, partitions: Collection[Partition]) -> None:
        """Deliver nothing of these partitions until the next call, which replaces this one."""

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """Keep what was settled. Partitions that are not ours any more are passed over.

        Raises:
            SourceUnavailable: nothing, or not everything, was kept; what was not is part of
                the next commit.
        """

    @property
    def exhausted(self) -> bool:
        """Whether nothing will ever come again."""

    async def close(self) -> None:
        """Leave: hand back what was not settled, let go of files and connections."""


def open_source(location: str) -> Source:
    """The source at `location`: a folder, a glob, a file, or a night archive.

    Raises:
        SourceError: there is nothing at `location`, or nothing that is known.
    """
    from ingest.sources.archive import ArchiveSource
    from ingest.sources.night import NightSource

    path = Path(location)
    try:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(_SQLITE)) == _SQLITE:
                    return NightSource(path)
        elif not path.exists() and not any(mark in location for mark in "*?["):
            raise SourceError(
                f"{location} does not exist: give a folder, a glob in quotes or a file"
            )
    except OSError as error:
        raise SourceError(f"{location} cannot be opened ({error.strerror})") from error
    return ArchiveSource(location)
