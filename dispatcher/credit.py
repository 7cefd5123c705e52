"""In-flight credit: how many items and bytes may be between the source and the sinks.

Credit for items is taken before the fetch, so nothing is read that there is no room for.
Bytes are known only after it; when they run over, the next fetch waits. Both come back when
a delivery is settled. This is all the backpressure there is: a slow sink settles slowly, the
credit is used up, the source is not asked for more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dispatcher.clock import Clock


@dataclass(slots=True)
class Credit:
    """Permits in items and bytes. `waited_s`: how long the source was held back so far."""

    max_items: int
    max_bytes: int
    clock: Clock
    items: int = 0
    bytes: int = 0
    waited_s: float = 0.0
    _closed: bool = False
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._room.set()

    async def take(self, wanted: int) -> int:
        """Take credit for up to `wanted` items; waits until there is some.

        Returns how many were granted: none once the credit was closed.
        """
        started = self.clock.monotonic()
        while not self._closed and not self.has_room:
            self._room.clear()
            await self._room.wait()
        self.waited_s += self.clock.monotonic() - started
        if self._closed:
            return 0
        granted = min(wanted, self.max_items - self.items)
        self.items += granted
        return granted

    def charge(self, nbytes: int) -> None:
        """Add the bytes of a delivery that was fetched."""
        self.bytes += nbytes

    def give_back(self, items: int, nbytes: int) -> None:
        """Return credit: for what was settled, or for what the fetch did not bring."""
        self.items -= items
        self.bytes -= nbytes
        if self.has_room:
            self._room.set()

    def close(self) -> None:
        """Grant nothing more, and wake whoever waits."""
        self._closed = True
        self._room.set()

    @property
    def has_room(self) -> bool:
        """Whether anything may be fetched now."""
        return self.items < self.max_items and self.bytes < self.max_bytes
