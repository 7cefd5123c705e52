"""Where events come from: the protocol, and which location is which source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from ingest.errors import SourceError
from ingest.events import Delivery

FirstWanted = Callable[[str], int]
"""From a partition's name to the first offset that is wanted of it."""

_SQLITE: Final = b"SQLite format 3\x00"


class Source(Protocol):
    """A sequence of deliveries per partition, that can be begun anywhere.

    The same source gives the same events at the same offsets in every run.
    """

    name: str

    async def open(self, first_wanted: FirstWanted) -> None:
        """Get ready to deliver each partition from its first wanted offset.

        Raises:
            SourceError: the source cannot be read.
        """

    async def take(self, limit: int) -> list[Delivery]:
        """Up to `limit` deliveries; none when there is nothing right now.

        Offsets of a partition rise. An event that cannot be read is delivered all the same,
        with the header `unreadable`: nothing is dropped in silence.
        """

    @property
    def exhausted(self) -> bool:
        """Whether nothing will ever come again."""

    async def close(self) -> None:
        """Let go of files and connections."""


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
