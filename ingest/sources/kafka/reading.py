"""One partition that is being read: how far it is, and its records as deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from ingest.events import Delivery, Partition, Position

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a partition is behind: offsets that wait, and for how long at most.

    `behind_s`: the age of what was delivered last, where something waits; 0 where nothing does.
    """

    offsets: int
    behind_s: float


@dataclass(slots=True)
class Reading:
    """How far one assigned partition is. Offsets; `end` is where it is finished, if anywhere.

    `next`: after what was delivered last. `position`: what is fetched next; beyond `next` where
    markers of transactions or compacted records lie between. `committed`: the watermark that the
    group keeps. `high`: the end of the partition when last heard of. `newest`: when the record
    delivered last was written (unix seconds), None before the first.
    """

    partition: Partition
    next: int
    committed: int
    high: int
    end: int | None = None
    position: int = 0
    newest: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it was delivered up to its end."""
        return self.end is not None and self.end <= max(self.position, self.next)

    @property
    def waiting(self) -> int:
        """How many offsets the broker has that were not delivered."""
        return max(0, self.high - max(self.position, self.next))

    @property
    def busy(self) -> bool:
        """Whether something of it waits, or was delivered and is not committed."""
        return self.committed < self.next or self.waiting > 0

    def hear(self, high: int | None) -> None:
        """A fetch said where the partition ends; None before the first."""
        self.high = max(self.high, high or 0)

    def lag(self, now: float) -> Lag:
        """How far it is behind at `now` (unix seconds)."""
        behind = now - self.newest if self.waiting and self.newest is not None else 0.0
        return Lag(self.waiting, max(0.0, behind))

    def deliveries(self, records: Sequence[Any], received: float) -> list[Delivery]:
        """The records as deliveries, up to the end. This loop is run for every single event."""
        if self.end is not None and records[-1].offset >= self.end:
            records = [each for each in records if each.offset < self.end]
        if records:
            self.next = records[-1].offset + 1
            self.newest = records[-1].timestamp / 1000
        topic, number = self.partition
        return [
            Delivery(Position(topic, number, record.offset), record.value, received, NO_HEADERS)
            if record.value is not None and not record.headers
            else _with_headers(Position(topic, number, record.offset), record, received)
            for record in records
        ]


def _with_headers(position: Position, record: Any, received: float) -> Delivery:
    # What a producer calls "unreadable" must not make a dead letter of its event.
    headers = {
        name: (value or b"").decode("utf-8", "replace")
        for name, value in record.headers
        if name != UNREADABLE
    }
    if record.value is None:
        headers[UNREADABLE] = "a message without a value"
    return Delivery(position, record.value or b"", received, headers)
