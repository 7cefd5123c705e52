"""In-flight credit: how much may be between the source and the sinks, and whether it can be paid.

Credit for items is taken before the fetch, so nothing is read that there is no room or no money
for. Bytes are known only after it; when they run over, the next fetch waits. Both come back when a
delivery is settled. This is all the backpressure there is: a slow sink settles slowly, the credit
is used up, the source is not asked for more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dispatcher.clock import Clock

_LOW: Final = 0.75
"""Share of its limits at which a credit that was used up grants again: one fetch of many events is
better than many of one."""
_MONEY_LOOK_S: Final = 0.1


def _no_limit(wanted: int) -> int:
    return wanted


@dataclass(slots=True)
class Credit:
    """Permits in items, bytes and money.

    `afford`: how many of so many items can be paid now. `waited_s`: how long the source was held
    back so far, `unpaid_s` of it for want of money.
    """

    max_items: int
    max_bytes: int
    clock: Clock
    afford: Callable[[int], int] = _no_limit
    items: int = 0
    bytes: int = 0
    waited_s: float = 0.0
    unpaid_s: float = 0.0
    _full: bool = False
    _closed: bool = False
    paused: bool = False
    """A person holds the source back."""
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, wanted: int) -> int:
        """Take credit for up to `wanted` items; waits until there is some.

        Returns how many were granted: none once the credit was closed.
        """
        while not self._closed:
            started = self.clock.monotonic()
            if self.paused or not self.has_room:
                self._room.clear()
                await self._room.wait()
                self.waited_s += self.clock.monotonic() - started
                continue
            granted = self.afford(min(wanted, self.max_items - self.items))
            if granted:
                self.items += granted
                self._look()
                return granted
            await asyncio.sleep(_MONEY_LOOK_S)
            self.waited_s += self.clock.monotonic() - started
            self.unpaid_s += self.clock.monotonic() - started
        return 0

    def charge(self, nbytes: int) -> None:
        """Add the bytes of a delivery that was fetched."""
        self.bytes += nbytes
        self._look()

    def give_back(self, items: int, nbytes: int) -> None:
        """Return credit: for what was settled, or for what the fetch did not bring."""
        self.items -= items
        self.bytes -= nbytes
        self._look()
        if self.has_room and not self.paused:
            self._room.set()

    def pause(self) -> None:
        """Grant nothing until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Grant again."""
        self.paused = False
        if self.has_room:
            self._room.set()

    def close(self) -> None:
        """Grant nothing more, and wake whoever waits."""
        self._closed = True
        self._room.set()

    @property
    def has_room(self) -> bool:
        """Whether anything may be fetched now."""
        return not self._full

    def _look(self) -> None:
        used = max(self.items / self.max_items, self.bytes / self.max_bytes)
        if used >= 1:
            self._full = True
        elif used <= _LOW:
            self._full = False
