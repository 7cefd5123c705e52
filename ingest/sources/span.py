"""Which part of a source is read again: between two times, or between offsets.

A span is what a person asks for. Ranges are what it means in a source: a first offset and an end
for every partition. They are found once; from then on the same events are meant, whatever
is added to the source or drops out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from ingest.errors import SourceError
from ingest.events import Partition
from ingest.sources import Source


class Range(NamedTuple):
    """Offsets of one partition, from `first` up to before `end`."""

    first: int
    end: int

    def within(self, other: Range) -> Range:
        """What both have in common; empty if that is nothing."""
        first = max(self.first, other.first)
        return Range(first, max(first, min(self.end, other.end)))

    @property
    def size(self) -> int:
        """How many offsets there are; of a compacted topic not all of them are events."""
        return max(0, self.end - self.first)


Ranges = Mapping[Partition, Range]
"""All partitions that are read; what is not among them is not."""


@dataclass(frozen=True, slots=True)
class Span:
    """From a time (unix seconds) up to before another, or offsets of some partitions.

    Times are those at which an event was written to the source, and begin and end a partition at
    the first event that is not older: a late event that stands between others goes with them. None
    is the beginning, or the end as it is now. `offsets` go by the partitions' names; partitions
    that it does not name are left out, unless it is empty.
    """

    from_time: float | None = None
    to_time: float | None = None
    offsets: Mapping[str, Range] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def timed(self) -> bool:
        """Whether times limit it."""
        return self.from_time is not None or self.to_time is not None

    def among(self, whole: Ranges) -> Ranges:
        """The part of `whole` that `offsets` ask for; times are for the source to look up.

        A partition may be named in full ("topic:0") where several topics have one of its name.

        Raises:
            SourceError: it names a partition that is not there.
        """
        if not self.offsets:
            return whole
        found: dict[Partition, Range] = {}
        for name, wanted in self.offsets.items():
            partition = _named(name, whole)
            found[partition] = wanted.within(whole[partition])
        return found


def _named(name: str, whole: Ranges) -> Partition:
    found = [each for each in whole if name in (each.name, str(each))]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(str(each) for each in list(whole)[:5])
    if found:
        raise SourceError(
            f'more than one partition is called "{name}": give one of {shown} in full'
        )
    raise SourceError(f'there is no partition "{name}": there are {shown}')


@runtime_checkable
class Archive(Source, Protocol):
    """A source that keeps what it gave: it can be read again, in part."""

    async def find(self, span: Span) -> Ranges:
        """What `span` means here and now. To be asked before the source is opened.

        Raises:
            SourceError: it cannot be read, or knows no such times or partitions.
        """

    def limit(self, ranges: Ranges) -> None:
        """Read these and nothing else; where each goes on is for the keeper's own records to say.

        To be called before the source is opened.
        """
