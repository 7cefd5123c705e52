"""An event loop whose time passes only while everybody waits.

A night takes a second, and a seed gives the same one again.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _Waiting(selectors.DefaultSelector):
    """Instead of waiting for so long, it says that so long has passed."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else")
        self.passed += timeout
        return ()  # there are no sockets in it


class VirtualLoop(asyncio.SelectorEventLoop):
    """What runs in threads elsewhere runs at once here; its caller hears of it some time later.

    `thread_s()`: how much later (s).
    """

    def __init__(self, thread_s: Callable[[], float] = lambda: 0.0) -> None:
        self._waiting = _Waiting()
        self._thread_s = thread_s
        super().__init__(self._waiting)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._waiting.passed

    def run_in_executor(  # type: ignore[override]
        self,
        executor: Any,  # noqa: ARG002 - the signature is asyncio's
        func: Callable[..., Any],
        *args: Any,
    ) -> asyncio.Future[Any]:
        """Run it now, tell later."""
        future = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - it goes to the caller
            self.call_later(
                self._thread_s(), _unless_cancelled(future, future.set_exception), error
            )
        else:
            self.call_later(self._thread_s(), _unless_cancelled(future, future.set_result), result)
        return future


def _unless_cancelled(
    future: asyncio.Future[Any], tell: Callable[[Any], None]
) -> Callable[[Any], None]:
    return lambda value: None if future.done() else tell(value)


EPOCH: float = 1.8e9
"""What the wall clock says when virtual time begins (unix seconds)."""


class LoopClock:
    """`dispatcher.clock.Clock` by the running loop's time."""

    def now(self) -> float:
        """Unix seconds."""
        return EPOCH + self.monotonic()

    def monotonic(self) -> float:
        """Seconds since the loop was made."""
        return asyncio.get_running_loop().time()
