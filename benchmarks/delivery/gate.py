"""A side's start and end: all sides join their groups at the same time, then run one by one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

READY: Final = "ready"
GO: Final = "go"

_HEARING: Final = threading.Lock()


@dataclass(slots=True)
class Gate:
    """Closed until the harness says go, which is when the clocks start.

    A side comes here with its first events in hand: imports, connections and the join of the
    group are behind it. From here on it has `core` alone.
    """

    core: int | None = None
    _started: tuple[float, float] | None = None
    _ended: tuple[float, float] | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def passed(self) -> None:
        """Wait until it opens; heartbeats go on meanwhile."""
        if self._started is None:
            async with self._opening:
                if self._started is None:
                    print(READY, flush=True)
                    await asyncio.to_thread(self._wait)
                    self._started = _now()

    def pass_blocking(self) -> None:
        """The same, for a side without an event loop."""
        if self._started is None:
            print(READY, flush=True)
            self._wait()
            self._started = _now()

    def _wait(self) -> None:
        # Several gates of one process are alike: whoever hears it goes.
        with _HEARING:
            if sys.stdin.readline().strip() != GO:
                raise SystemExit("the harness has gone")
        if self.core is not None:
            pin(self.core)

    def end(self) -> None:
        """All events are done and committed: stop the clocks."""
        self._ended = self._ended or _now()

    def report(self, events: int, **more: Any) -> None:
        """Print what was measured: events, seconds by the clock and of the processor."""
        if self._started is None or self._ended is None:
            raise RuntimeError("nothing was measured")
        seconds, cpu_s = (b - a for a, b in zip(self._started, self._ended, strict=True))
        figures = {"events": events, "seconds": seconds, "cpu_s": cpu_s, **more}
        print(json.dumps(figures), flush=True)


def pin(core: int) -> None:
    """Keep all threads of this process on one core; those that it starts later, too."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), {core})


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
