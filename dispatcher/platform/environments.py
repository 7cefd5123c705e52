"""Execution environments: warm ones, new ones, and how many there may be."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from dispatcher.invokers.runtime_api import FunctionProcess
from dispatcher.platform.function import Function


@dataclass(slots=True)
class Environments:
    """The environments of a function. One serves one invocation at a time.

    `limit`: how many may be busy at once; 0 lets nothing in. `idle_s`: after so long without work
    an environment is thrown away, as platforms do.
    """

    function: Function
    limit: int
    idle_s: float = 300.0
    busy: int = 0
    _idle: list[tuple[float, FunctionProcess]] = field(default_factory=list)
    _processes: dict[str, FunctionProcess] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def take(self, *, cold: bool = False) -> FunctionProcess | None:
        """One for an invocation, a warm one if there is one; None if `limit` are busy.

        `cold`: a new one, although there may be a warm one.
        """
        if self.busy >= self.limit:
            return None
        self.busy += 1
        oldest = time.monotonic() - self.idle_s
        while self._idle and (cold or self._idle[0][0] < oldest):
            await self._throw_away(self._idle.pop(0)[1])
            if cold:
                break
        if self._idle and not cold:
            return self._idle.pop()[1]  # the last one used: so the others can be thrown away
        return self._new()

    def give_back(self, process: FunctionProcess) -> None:
        """It has answered, or ended: then the next invocation starts it anew."""
        self.busy -= 1
        self._idle.append((time.monotonic(), process))

    async def close(self) -> None:
        """Kill all."""
        await asyncio.gather(*(process.stop() for process in self._processes.values()))
        self._processes.clear()
        self._idle.clear()

    def _new(self) -> FunctionProcess:
        function, name = self.function, f"environment-{next(self._numbers)}"
        threads = str(function.cores)
        environment = {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            **function.environment,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        }
        made = FunctionProcess(name, function.handler, environment, memory_mb=function.memory_mb)
        self._processes[name] = made
        return made

    async def _throw_away(self, process: FunctionProcess) -> None:
        del self._processes[process.name]
        await process.stop()
