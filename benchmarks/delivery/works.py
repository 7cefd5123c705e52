"""What is done with the events of a lane here: each of these takes the place of the pipeline."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Final

from aiokafka import AIOKafkaProducer

from benchmarks.delivery.gate import Gate
from benchmarks.delivery.topics import PARTITIONS
from dispatcher.books import Outcome
from dispatcher.errands import Errand
from dispatcher.lane import Settle

_MOST: Final = 500  # results of one write


class Instant:
    """Settles each event as soon as `depth` others have come after it. Nothing is decoded."""

    def __init__(self, depth: int = 0, gate: Gate | None = None) -> None:
        self._depth, self._gate = depth, gate
        self._held: deque[Errand] = deque()
        self._settle: Settle | None = None

    @asynccontextmanager
    async def running(self, settle: Settle) -> AsyncIterator[None]:
        """See `Work.running`."""
        self._settle = settle
        yield

    async def accept(self, errands: Sequence[Errand]) -> None:
        """See `Work.accept`."""
        if self._gate:
            await self._gate.passed()
        if not self._depth:
            self._done(errands)
            return
        self._held.extend(errands)
        over = max(0, len(self._held) - self._depth)
        self._done([self._held.popleft() for _ in range(over)])

    def flush(self) -> None:
        """See `Work.flush`."""
        if self._held:
            self._done(list(self._held))
            self._held.clear()

    def _done(self, errands: Sequence[Errand]) -> None:
        if self._settle and errands:
            self._settle([(each, Outcome.WRITTEN) for each in errands])


class Answering:
    """Works on each event by itself, produces its result, and settles it when that is stored.

    As many events are under way as the lane's credit allows. Results are written as the
    sinks of Lookback write them: what is done goes out together, acknowledged before it is settled.
    """

    def __init__(
        self, gate: Gate, producer: AIOKafkaProducer, topic: str, work_s: Callable[[int], float]
    ) -> None:
        """`work_s`: seconds that the event at an offset takes."""
        self._gate, self._producer, self._topic, self._work_s = gate, producer, topic, work_s
        self._done: deque[Errand] = deque()
        self._any = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self, settle: Settle) -> AsyncIterator[None]:
        """See `Work.running`."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            writing = tasks.create_task(self._write(settle))
            yield
            writing.cancel()

    async def accept(self, errands: Sequence[Errand]) -> None:
        """See `Work.accept`."""
        await self._gate.passed()
        if self._tasks:
            for each in errands:
                self._tasks.create_task(self._answer(each))

    def flush(self) -> None:
        """See `Work.flush`. Nothing waits for company."""

    async def _answer(self, errand: Errand) -> None:
        await asyncio.sleep(self._work_s(errand.delivery.position.offset))
        self._done.append(errand)
        self._any.set()

    async def _write(self, settle: Settle) -> None:
        partitions = cycle(range(PARTITIONS))
        while True:
            await self._any.wait()
            ready = [self._done.popleft() for _ in range(min(_MOST, len(self._done)))]
            if not self._done:
                self._any.clear()
            batch = self._producer.create_batch()
            for each in ready:
                batch.append(key=None, value=each.delivery.body, timestamp=None)
            await (await self._producer.send_batch(batch, self._topic, partition=next(partitions)))
            settle([(each, Outcome.WRITTEN) for each in ready])
