"""What goes wrong on a platform, on purpose: seeded, so that a night of trouble can be repeated."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from dataclasses import dataclass, field

from dispatcher.invokers.runtime_api import FunctionProcess

_BROKEN = b"{}"  # no handler takes it


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is done to one invocation. `killed_after_s`: None if it is not."""

    cold: bool = False
    throttled: bool = False
    broken: bool = False
    hangs: bool = False
    killed_after_s: float | None = None


@dataclass(slots=True)
class Troubles:
    """Shares of invocations that meet with each kind of trouble.

    `cold`: a new environment although there is a warm one. `throttled`: refused with 429.
    `broken`: the handler raises, because it is given nothing to read. `hangs`: the process is
    stopped, so that the invocation times out. `killed`: by SIGKILL, somewhere in its first
    `killed_within_s`.
    """

    seed: int = 0
    cold: float = 0.0
    throttled: float = 0.0
    broken: float = 0.0
    hangs: float = 0.0
    killed: float = 0.0
    killed_within_s: float = 0.3
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)  # noqa: S311 - nothing secret

    def next(self) -> Trouble:
        """Of the next invocation. At most one thing goes wrong besides a cold start."""
        cold = self._draw.random() < self.cold
        fate, within = self._draw.random(), self._draw.random() * self.killed_within_s
        for name in ("throttled", "broken", "hangs"):
            share: float = getattr(self, name)
            if fate < share:
                return Trouble(cold=cold, **{name: True})
            fate -= share
        return Trouble(cold=cold, killed_after_s=within if fate < self.killed else None)


def spoilt(payload: bytes, trouble: Trouble) -> bytes:
    """What the handler is given."""
    return _BROKEN if trouble.broken else payload


async def befall(process: FunctionProcess, trouble: Trouble) -> None:
    """Do to the process what is in store for it; the caller cancels this when it has answered."""
    if trouble.hangs:
        _send(signal.SIGSTOP, await process.ready())
    elif trouble.killed_after_s is not None:
        await process.ready()
        await asyncio.sleep(trouble.killed_after_s)
        _send(signal.SIGKILL, process.pid)


def _send(which: signal.Signals, pid: int | None) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, which)
