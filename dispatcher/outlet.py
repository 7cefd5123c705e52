"""An outlet: one sink, its queue, its batches, and what is done when it fails.

Each sink is written at its own pace and in its own batches, so that a slow one does not make the
others slow. A required sink is tried again until it takes the rows; a best-effort one is given up
after a few tries, and while its breaker is open its rows are dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from dispatcher import logs
from dispatcher.breaker import Breaker, State
from dispatcher.conclusions import Writable
from dispatcher.errors import LaneStopped
from sinks.errors import CredentialsExpired, NoRoom, SinkRefused, SinkUnavailable

_LOOK_S: Final = 0.02
_BEST_EFFORT_QUEUE: Final = 10_000  # rows; what a best-effort sink may lag behind

_FAULTS: Final[dict[type[Exception], str]] = {
    NoRoom: "disk_full",
    CredentialsExpired: "credentials",
}

_log = structlog.get_logger()

Acknowledge = Callable[[Sequence[Writable]], None]
Stored = Callable[[str, Sequence[Writable]], None]
"""Told of the name of a sink and of what it has now."""


@dataclass(slots=True)
class Outlet:
    """Writes conclusions to one sink.

    `store` writes the rows of a batch, once. `batch`: rows at most; `linger_s`: how long a batch
    waits for company. `on_stored` is told of each batch that the sink has.
    """

    name: str
    store: Callable[[Sequence[Writable]], Awaitable[None]]
    breaker: Breaker
    batch: int
    required: bool = True
    linger_s: float = 0.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    on_stored: Stored | None = None
    dropped: int = 0
    written: int = 0
    error: str | None = None
    """Why the last write failed, without secrets: people see it. None if it did not."""
    _fault: str = "sink_down"
    _writing: int = 0
    _queue: deque[Writable] = field(default_factory=deque)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _full: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waiting(self) -> int:
        """Rows that the sink has not seen. Bounded by the in-flight credit, or by best effort."""
        return len(self._queue)

    def put(self, conclusion: Writable) -> None:
        """Hand a conclusion over."""
        self._queue.append(conclusion)
        self._filled.set()
        if len(self._queue) >= self.batch:
            self._full.set()
        if not self.required and len(self._queue) > _BEST_EFFORT_QUEUE:
            self._queue.popleft()
            self._drop(1)

    def hurry(self) -> None:
        """Do not wait for company."""
        self._full.set()

    async def finish(self, within_s: float) -> None:
        """Write what still waits, before `run` is cancelled; what is left then is dropped.

        For best effort: of a required sink, nothing is left when a lane ends.
        """
        try:
            async with asyncio.timeout(within_s):
                while len(self._queue) + self._writing and not self.error:
                    self.hurry()
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            pass
        if left := len(self._queue) + self._writing:
            self._drop(left)
            _log.warning("a best-effort sink has missed rows at the end", sink=self.name, rows=left)

    async def run(self, acknowledge: Acknowledge) -> None:
        """Write until cancelled. `acknowledge` is told of each batch that a required sink has.

        Raises:
            LaneStopped: a required sink refuses to store.
        """
        while True:
            await self._filled.wait()
            await self._linger()
            size = min(self.batch, len(self._queue))
            batch = [self._queue.popleft() for _ in range(size)]
            self._writing = size
            if not self._queue:
                self._filled.clear()
            if await self._write(batch):
                self.written += size
                if self.on_stored is not None:
                    self.on_stored(self.name, batch)
            else:
                self._drop(size)
            self._writing = 0
            if self.required:
                acknowledge(batch)

    async def _linger(self) -> None:
        if self.linger_s and len(self._queue) < self.batch:
            self._full.clear()
            try:
                async with asyncio.timeout(self.linger_s):
                    await self._full.wait()
            except TimeoutError:
                pass

    async def _write(self, batch: Sequence[Writable]) -> bool:
        """Whether the sink has the batch now. A required one always has it in the end."""
        while True:
            if not self.required and self.breaker.state is State.OPEN:
                return False
            await self._wait()
            try:
                await self.store(batch)
            except SinkUnavailable as error:
                self._failed(error)
            except SinkRefused as error:
                if self.required:
                    raise LaneStopped(f"sink {self.name} refuses results: {error}") from error
                self._failed(error)
            else:
                if self.breaker.state is not State.CLOSED:
                    _log.info(
                        "sink takes rows again",
                        ended=self._fault,
                        subject=self.name,
                        sink=self.name,
                    )
                self.breaker.succeeded()
                self.error = None
                return True

    async def _wait(self) -> None:
        if wait := self.breaker.wait_s():
            await self.sleep(wait)

    def _failed(self, error: Exception) -> None:
        was, self.error = self.breaker.state, logs.redacted(str(error))
        self.breaker.failed()
        if was is State.CLOSED and self.breaker.state is not State.CLOSED:
            what = "its events wait" if self.required else "its rows are dropped until it is back"
            self._fault = _FAULTS.get(type(error), "sink_down")
            _log.warning(
                f"sink unavailable, {what}",
                incident=self._fault,
                subject=self.name,
                sink=self.name,
                error=str(error),
            )

    def _drop(self, rows: int) -> None:
        self.dropped += rows
