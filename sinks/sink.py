"""What a sink must do, and what it tells about what it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, NamedTuple, Protocol

from sinks.record import ResultRecord


class Stored(NamedTuple):
    """One row as a sink holds it: enough to prove the books."""

    result_id: str
    src_topic: str
    src_partition: str
    src_offset: int
    status: str


class Sink(Protocol):
    """A destination for results, idempotent by `result_id`."""

    name: str
    guarantee: ClassVar[str]
    """What the sink promises, in a sentence or two for its users."""
    linger_s: ClassVar[float]
    """How long a write is worth waiting for company: more than 0 where every write makes files."""

    async def open(self) -> None:
        """Get ready; mend what a crash left.

        Raises:
            SinkUnavailable: not now.
            SinkRefused: it can never be written as things are.
        """

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """Store the records; durable when it returns. A key that is held is not doubled.

        Raises:
            SinkUnavailable: nothing was promised; the same records may be written again.
            SinkRefused: they will never be taken as things are.
        """

    def scan(self) -> AsyncIterator[Stored]:
        """Every row that is held."""

    async def close(self) -> None:
        """Let go of files and connections."""
