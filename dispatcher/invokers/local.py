"""Worker processes on this machine, each run by `awslambdaric` as Lambda would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatcher.invokers import Answer, Lost, Slots, nobody, together
from dispatcher.invokers.runtime_api import FunctionProcess

HANDLER = "workers.handler.handler"


@dataclass(slots=True)
class LocalInvoker:
    """`slots` worker processes, one thread each, kept warm between invocations."""

    slots: int
    environment: Mapping[str, str] = field(default_factory=dict)
    handler: str = HANDLER
    _free: Slots = field(init=False)
    _idle: list[FunctionProcess] = field(default_factory=list)
    _all: list[FunctionProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = Slots(self.slots)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [process.pid for process in self._all if process.pid is not None]

    async def open(self) -> None:
        """Start all workers; returns when each has loaded its model.

        Raises:
            InvocationError: a worker cannot load the handler or ends at once.
        """
        # One thread per worker: the machine is shared out by processes, and threads that
        # fight for the same cores cost a third of the rate.
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **self.environment}
        self._all = [
            FunctionProcess(f"worker-{i}", self.handler, environment) for i in range(self.slots)
        ]
        self._idle = list(self._all)
        await asyncio.gather(*(process.start() for process in self._all))

    async def job(self) -> Mapping[str, Any]:
        """Nothing: the workers are started with the weights."""
        return {}

    async def invoke(
        self, payloads: Sequence[bytes], deadline_s: float, lost: Lost = nobody
    ) -> list[Answer]:
        """See `Invoker.invoke`. A gang larger than `slots` would wait for ever: ValueError."""
        await self._free.take(len(payloads))
        calls = (self._call(self._idle.pop(), payload, deadline_s) for payload in payloads)
        return await together(calls, lost)

    async def _call(self, process: FunctionProcess, payload: bytes, deadline_s: float) -> Answer:
        try:
            return await process.invoke(payload, deadline_s)
        finally:
            self._idle.append(process)
            await self._free.give_back(1)

    async def close(self) -> None:
        """Kill all workers: whatever they still do is no longer waited for."""
        await asyncio.gather(*(process.stop() for process in self._all))
        self._all, self._idle = [], []
