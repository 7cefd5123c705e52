"""Conclusions to the sinks: a conclusion is settled when every required sink has its row.

A sink that is unavailable holds back what it has not taken: those errands stay open, their credit
stays used, and the source is not asked for more. A required sink that refuses will never take them,
so the lane stops.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dispatcher.conclusions import Conclusion
from dispatcher.outlet import Outlet
from sinks.deadletters import DeadLetter

Settled = Callable[[Sequence[Conclusion]], None]


@dataclass(slots=True)
class Writer:
    """Fans conclusions out to the outlets of the sinks, or to that of the dead letters."""

    results: Sequence[Outlet]
    dead_letters: Outlet
    _missing: Counter[Conclusion] = field(default_factory=Counter)
    _rowless: list[Conclusion] = field(default_factory=list)
    _any_rowless: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waiting(self) -> int:
        """Conclusions that some required sink does not have yet. Bounded by the credit."""
        return len(self._missing) + len(self._rowless)

    @property
    def outlets(self) -> Sequence[Outlet]:
        """All of them."""
        return (*self.results, self.dead_letters)

    def put(self, conclusion: Conclusion) -> None:
        """Hand a conclusion over."""
        if conclusion.row is None:
            self._rowless.append(conclusion)
            self._any_rowless.set()
            return
        dead = isinstance(conclusion.row, DeadLetter)
        outlets = (self.dead_letters,) if dead else self.results
        self._missing[conclusion] = sum(outlet.required for outlet in outlets)
        for outlet in outlets:
            outlet.put(conclusion)

    def hurry(self) -> None:
        """Do not wait for company."""
        for outlet in self.outlets:
            outlet.hurry()

    async def run(self, on_settled: Settled) -> None:
        """Write until cancelled; `on_settled` is told of conclusions once they are stored.

        Raises:
            LaneStopped: a sink refuses to store.
        """

        def acknowledge(conclusions: Sequence[Conclusion]) -> None:
            done = [each for each in conclusions if self._is_last(each)]
            if done:
                on_settled(done)

        async with asyncio.TaskGroup() as tasks:
            for outlet in self.outlets:
                tasks.create_task(outlet.run(acknowledge))
            tasks.create_task(self._settle_rowless(on_settled))

    async def _settle_rowless(self, on_settled: Settled) -> None:
        while True:
            await self._any_rowless.wait()
            self._any_rowless.clear()
            settled, self._rowless = self._rowless, []
            on_settled(settled)

    def _is_last(self, conclusion: Conclusion) -> bool:
        """Count one acknowledgement; whether it was the last that was missing."""
        self._missing[conclusion] -= 1
        if self._missing[conclusion]:
            return False
        del self._missing[conclusion]
        return True
