"""The in-memory sink: the twin for tests, with a door that tests can hold shut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import ClassVar

from sinks.record import ResultRecord
from sinks.sink import Stored


class MemorySink:
    """Keeps records by key. `before_write` is awaited first: let it wait, or raise."""

    linger_s: ClassVar[float] = 0.0
    guarantee: ClassVar[str] = "A key is held once. Nothing outlives the process."

    def __init__(
        self,
        name: str = "memory",
        before_write: Callable[[Sequence[ResultRecord]], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.records: dict[str, ResultRecord] = {}
        self._before_write = before_write

    async def open(self) -> None:
        """Nothing to get ready."""

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`."""
        if self._before_write:
            await self._before_write(records)
        self.records.update((each.result_id, each) for each in records)

    async def scan(self) -> AsyncIterator[Stored]:
        """See `Sink.scan`."""
        for each in self.records.values():
            yield Stored(
                each.result_id, each.src_topic, each.src_partition, each.src_offset, each.status
            )

    async def close(self) -> None:
        """Nothing to let go of."""
