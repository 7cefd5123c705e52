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

from dispatcher.conclusions import Conclusion, Decided, Writable
from dispatcher.outlet import Outlet
from sinks.deadletters import DeadLetter
from sinks.record import ResultRecord, Review

Settled = Callable[[Sequence[Conclusion]], None]
Published = Callable[[Sequence[Decided]], None]


@dataclass(slots=True)
class Writer:
    """Fans conclusions out to the outlets of the sinks, or to that of the dead letters.

    `review`: where estimates go that wait for a person; `on_published` is told of those that were
    decided, when every required sink has them.
    """

    results: Sequence[Outlet]
    dead_letters: Outlet
    review: Outlet | None = None
    on_published: Published = lambda _: None
    _missing: Counter[Writable] = field(default_factory=Counter)
    _decided: int = 0
    _rowless: list[Conclusion] = field(default_factory=list)
    _any_rowless: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waiting(self) -> int:
        """Conclusions that some required sink does not have yet. Bounded by the credit."""
        return len(self._missing) - self._decided + len(self._rowless)

    @property
    def outlets(self) -> Sequence[Outlet]:
        """All of them."""
        held = () if self.review is None else (self.review,)
        return (*self.results, self.dead_letters, *held)

    def put(self, conclusion: Conclusion) -> None:
        """Hand a conclusion over."""
        if conclusion.row is None:
            self._rowless.append(conclusion)
            self._any_rowless.set()
            return
        self._put(conclusion, self._outlets_of(conclusion.row))

    def publish(self, decided: Decided) -> None:
        """Hand over a row that was held for review, and is decided."""
        self._decided += 1
        self._put(decided, self.results)

    def _put(self, row: Writable, outlets: Sequence[Outlet]) -> None:
        self._missing[row] = sum(outlet.required for outlet in outlets)
        for outlet in outlets:
            outlet.put(row)

    def _outlets_of(self, row: ResultRecord | DeadLetter) -> Sequence[Outlet]:
        if isinstance(row, DeadLetter):
            return (self.dead_letters,)
        if self.review is not None and row.review == Review.WAITING:
            return (self.review,)
        return self.results

    def hurry(self) -> None:
        """Do not wait for company."""
        for outlet in self.outlets:
            outlet.hurry()

    async def finish(self, within_s: float) -> None:
        """Let best-effort sinks write what waits for them: nobody else waits for that."""
        async with asyncio.TaskGroup() as tasks:
            for outlet in self.outlets:
                if not outlet.required:
                    tasks.create_task(outlet.finish(within_s))

    async def run(self, on_settled: Settled) -> None:
        """Write until cancelled; `on_settled` is told of conclusions once they are stored.

        Raises:
            LaneStopped: a sink refuses to store.
        """

        def acknowledge(rows: Sequence[Writable]) -> None:
            done = [each for each in rows if self._is_last(each)]
            if settled := [each for each in done if isinstance(each, Conclusion)]:
                on_settled(settled)
            if published := [each for each in done if isinstance(each, Decided)]:
                self._decided -= len(published)
                self.on_published(published)

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

    def _is_last(self, row: Writable) -> bool:
        """Count one acknowledgement; whether it was the last that was missing."""
        self._missing[row] -= 1
        if self._missing[row]:
            return False
        del self._missing[row]
        return True
