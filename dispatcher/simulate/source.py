"""A SIMULATED source and a SIMULATED sink around the real lane."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from dispatcher.books import Outcome
from dispatcher.calls.queue import Queue
from dispatcher.calls.triage import Reply, Unanswerable
from dispatcher.custody import Settled
from dispatcher.errands import Errand, Question
from dispatcher.lane import Settle
from dispatcher.simulate.arrivals import Arrivals
from dispatcher.simulate.virtual import EPOCH
from ingest.events import BANDS, Delivery, Event, Partition, Position, Stamp
from ingest.progress import Progress
from ingest.sources import Keeper

_LONGEST_NAP_S: Final = 5.0
_NOTHING: Final = np.zeros((0,), dtype=np.float32)
_EVENT: Final = Event("SIMULATED", 0, 0.0, 0.0, "simulated")
_STAMP: Final = Stamp(_NOTHING, _NOTHING, BANDS, "simulated")
_NO_HEADERS: Final = MappingProxyType[str, str]({})


class SimulatedSource:
    """One partition, whose events are there when their time has come."""

    ordered = True

    def __init__(self, name: str, arrivals: Arrivals) -> None:
        self.name = name
        self._home = Partition(name, "0")
        self._times = arrivals.times.tolist()
        self._ends = np.cumsum(arrivals.counts).tolist()
        self._next = 0
        self._burst = 0
        self._held = False

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        self._next = keeper.assign(self._home)
        self._burst = bisect.bisect_right(self._ends, self._next)

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        now = asyncio.get_running_loop().time()
        if self._burst >= len(self._times) or self._held:
            await asyncio.sleep(_LONGEST_NAP_S)
            return []
        if self._times[self._burst] > now:
            await asyncio.sleep(min(_LONGEST_NAP_S, self._times[self._burst] - now))
            return []
        taken: list[Delivery] = []
        name = self.name
        while len(taken) < limit and self._burst < len(self._times):
            came = self._times[self._burst]
            if came > now:
                break
            end = min(self._ends[self._burst], self._next + limit - len(taken))
            received = EPOCH + came
            taken += [
                Delivery(Position(name, "0", offset), b"", received, _NO_HEADERS)
                for offset in range(self._next, end)
            ]
            self._next = end
            if end == self._ends[self._burst]:
                self._burst += 1
        return taken

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`."""
        self._held = bool(partitions)

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`: the state file keeps it."""

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`."""
        return self._burst >= len(self._times)

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass(slots=True)
class SimulatedWork:
    """`dispatcher.lane.Work`: every event has a stamp at once, and every answer is stored.

    Whoever runs it runs the scheduler, too. `delay_s`: how long the sink takes. `note`
    is told of what was stored.
    """

    queue: Queue
    note: Callable[[Sequence[Settled]], None]
    delay_s: float = 0.02
    _answers: list[Settled] = field(default_factory=list)
    _settle: Settle | None = None

    @asynccontextmanager
    async def running(self, settle: Settle) -> AsyncIterator[None]:
        """See `Work.running`."""
        self._settle = settle
        self.queue.answered = self._answered
        yield

    async def accept(self, errands: Sequence[Errand]) -> None:
        """See `Work.accept`."""
        put = self.queue.put
        for errand in errands:
            position = errand.delivery.position
            put(Question(errand, _EVENT, _STAMP, f"{position.source}-{position.offset}"))

    def flush(self) -> None:
        """See `Work.flush`."""
        self.queue.flush()

    def _answered(self, question: Question, reply: Reply) -> None:
        if not self._answers:
            asyncio.get_running_loop().call_later(self.delay_s, self._store)
        dead = isinstance(reply, Unanswerable)
        self._answers.append((question.errand, Outcome.DEAD if dead else Outcome.WRITTEN))

    def _store(self) -> None:
        settled, self._answers = self._answers, []
        if self._settle is not None:
            self._settle(settled)
            self.note(settled)
