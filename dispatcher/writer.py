"""Conclusions to the sinks, in batches; an errand is settled when every sink has its row.

A sink that is unavailable is tried again until it takes the rows: its errands stay open,
their credit stays used, and the source is not asked for more. A sink that refuses will never
take them, so the lane stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog

from dispatcher.conclusions import Conclusion
from dispatcher.errors import LaneStopped
from sinks.deadletters import DeadLetter, DeadLetterSink
from sinks.errors import SinkRefused, SinkUnavailable
from sinks.record import ResultRecord
from sinks.sink import Sink

_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 15.0

_log = structlog.get_logger()

Row = TypeVar("Row", ResultRecord, DeadLetter)


@dataclass(slots=True)
class Writer:
    """One queue, one writer; every sink gets the same batch at the same time."""

    sinks: Sequence[Sink]
    dead_letters: DeadLetterSink
    batch: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _queue: asyncio.Queue[Conclusion] = field(default_factory=asyncio.Queue)

    @property
    def waiting(self) -> int:
        """Conclusions that no sink has seen yet. Bounded by the in-flight credit."""
        return self._queue.qsize()

    def put(self, conclusion: Conclusion) -> None:
        """Hand a conclusion over."""
        self._queue.put_nowait(conclusion)

    async def run(self, on_settled: Callable[[Conclusion], None]) -> None:
        """Write until cancelled; `on_settled` is told of each conclusion once it is stored.

        Raises:
            LaneStopped: a sink refuses to store.
        """
        while True:
            conclusions = [await self._queue.get()]
            while len(conclusions) < self.batch and not self._queue.empty():
                conclusions.append(self._queue.get_nowait())
            await self._store(conclusions)
            for each in conclusions:
                on_settled(each)

    async def _store(self, conclusions: Sequence[Conclusion]) -> None:
        rows = [each.row for each in conclusions]
        records = [row for row in rows if isinstance(row, ResultRecord)]
        letters = [row for row in rows if isinstance(row, DeadLetter)]
        async with asyncio.TaskGroup() as writes:
            for sink in self.sinks if records else ():
                writes.create_task(self._insist(sink.name, sink.write, records))
            if letters:
                name, write = self.dead_letters.name, self.dead_letters.write
                writes.create_task(self._insist(name, write, letters))

    async def _insist(
        self, name: str, write: Callable[[Sequence[Row]], Awaitable[None]], rows: Sequence[Row]
    ) -> None:
        wait = _FIRST_WAIT_S
        while True:
            try:
                await write(rows)
            except SinkUnavailable as error:
                if wait == _FIRST_WAIT_S:
                    _log.warning("sink unavailable, its events wait", sink=name, error=str(error))
                await self.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_S)
            except SinkRefused as error:
                raise LaneStopped(f"sink {name} refuses results: {error}") from error
            else:
                return
