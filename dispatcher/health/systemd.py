"""What systemd is told of a run: that it is ready, that it is alive, what it does, that it stops.

systemd gives a unit of `Type=notify` the address of a datagram socket, and the time within which it
wants a sign of life (`WatchdogSec`). A sign is sent at half of it, from the loop that everything
runs in, and only while the lane makes its turns: what hangs is restarted.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dispatcher import health
from dispatcher.health.pulse import Doing

if TYPE_CHECKING:
    from dispatcher.service import Run

_LOOK_S: Final = 1.0
_STATUS_S: Final = 10.0
_LONGER_S: Final = 10.0
_PATIENCE_S: Final = 0.1
_CLOSING_S: Final = 60.0
"""For what comes after the lane: workers end, sinks close their files."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Where systemd listens. `watchdog_s`: how often it wants a sign of life; None: never."""

    address: str
    watchdog_s: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Manager | None:
        """The one that started this process; None if none did, or if it does not listen."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        wanted = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = ours and wanted.isdigit() and int(wanted) > 0
        return cls(address, int(wanted) / 1e6 if watched else None)

    def notify(self, *states: str) -> None:
        """Send states such as `READY=1`. A manager that does not listen is no reason to fail."""
        # An address in the abstract namespace is written with @ for its null byte.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours:
            ours.settimeout(_PATIENCE_S)  # its queue may be full for a moment
            with suppress(OSError):
                ours.sendto("\n".join(states).encode(), address)


@asynccontextmanager
async def told(run: Run) -> AsyncIterator[None]:
    """Tell systemd of the run while the context lasts; nothing if it does not listen."""
    manager = Manager.of(os.environ)
    if manager is None:
        yield
        return
    teller = _Teller(run, manager)
    telling = asyncio.create_task(teller.tell())
    try:
        yield
        teller.begun()
    finally:
        telling.cancel()
        await asyncio.wait({telling})
        teller.end()


class _Teller:
    def __init__(self, run: Run, manager: Manager) -> None:
        self._run, self._manager = run, manager
        self._every_s = min(_LOOK_S, (manager.watchdog_s or _LOOK_S) / 4)
        self._ready = self._stopping = False
        self._watchdog_due = self._status_due = 0.0

    async def tell(self) -> None:
        while True:
            if states := self._news(asyncio.get_running_loop().time()):
                self._manager.notify(*states)
            await asyncio.sleep(self._every_s)

    def _news(self, now: float) -> list[str]:
        news = []
        if not self._ready and self._run.lane.doing is not Doing.OPENING:
            self._ready = True
            news.append("READY=1")
        alive = health.live(self._run).ok
        if self._run.lane.stopping and alive:
            news += self._finishing()
        if alive and self._manager.watchdog_s and now >= self._watchdog_due:
            self._watchdog_due = now + self._manager.watchdog_s / 2 - self._every_s
            news.append("WATCHDOG=1")
        if now >= self._status_due:
            self._status_due = now + _STATUS_S
            news.append(f"STATUS={_in_a_sentence(self._run)}")
        return news

    def _finishing(self) -> list[str]:
        """It may take longer than `TimeoutStopSec`, as long as it makes its turns."""
        news = [] if self._stopping else ["STOPPING=1"]
        self._stopping = True
        return [*news, f"EXTEND_TIMEOUT_USEC={round(_LONGER_S * 1e6)}"]

    def begun(self) -> None:
        """A night that was over before anybody looked has begun all the same."""
        if not self._ready:
            self._manager.notify("READY=1")

    def end(self) -> None:
        longer = f"EXTEND_TIMEOUT_USEC={round(_CLOSING_S * 1e6)}"
        self._manager.notify("STOPPING=1", longer, f"STATUS={_in_a_sentence(self._run)}")


def _in_a_sentence(run: Run) -> str:
    books, trouble = run.totals(), health.ready(run).reasons
    figures = f"{books.received} received, {books.in_flight} in flight"
    return " ".join("; ".join([f"{run.lane.doing}: {figures}", *trouble]).split())
