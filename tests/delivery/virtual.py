"""An event loop whose time passes only while everybody waits: a night takes a second, and a seed
gives the same one again."""

import asyncio
import selectors


class _Waiting(selectors.DefaultSelector):
    """Instead of waiting for so long, it says that so long has passed."""

    passed = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else")
        self.passed += timeout
        return ()  # there are no sockets in it


class VirtualLoop(asyncio.SelectorEventLoop):
    """What runs in threads elsewhere runs at once here; its caller hears of it some time later.

    `thread_s()`: how much later (s).
    """

    def __init__(self, thread_s=lambda: 0.0):
        self._waiting = _Waiting()
        self._thread_s = thread_s
        super().__init__(self._waiting)

    def time(self):
        return self._waiting.passed

    def run_in_executor(self, executor, func, *args):
        future = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001  it goes to the caller
            self.call_later(
                self._thread_s(), _unless_cancelled(future, future.set_exception), error
            )
        else:
            self.call_later(self._thread_s(), _unless_cancelled(future, future.set_result), result)
        return future


def _unless_cancelled(future, tell):
    return lambda value: None if future.done() else tell(value)


class LoopClock:
    """`dispatcher.clock.Clock` by the running loop's time."""

    def now(self):
        return 1.8e9 + self.monotonic()

    def monotonic(self):
        return asyncio.get_running_loop().time()
