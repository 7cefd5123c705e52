"""The communicator of asyncio programs: each operation runs on a thread of the communicator's own.

One implementation, so that both give the same bits and fail alike; the event loop goes on
meanwhile. A cancelled operation ends the communicator for all ranks: half of a collective cannot be
taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from numpy.typing import NDArray

from fmi.choosing.decision import Choice
from fmi.communicator import ANY_SOURCE, ANY_TAG, Communicator, Status
from fmi.reductions import SUM, Function, Op

P = ParamSpec("P")
T = TypeVar("T")


class AsyncCommunicator:
    """One rank of a group, in asyncio. Operations are those of `Communicator`, one at a time."""

    def __init__(self, blocking: Communicator, thread: ThreadPoolExecutor) -> None:
        self.blocking = blocking
        self._thread = thread

    @property
    def rank(self) -> int:
        """Which rank this is, 0 to size - 1."""
        return self.blocking.rank

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.blocking.size

    @property
    def choice(self) -> Choice | None:
        """See `Communicator.choice`."""
        return self.blocking.choice

    async def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        """See `Communicator.send`."""
        await self._run(self.blocking.send, obj, dest, tag)

    async def recv(
        self,
        source: int = ANY_SOURCE,
        tag: int = ANY_TAG,
        out: NDArray[Any] | None = None,
        status: Status | None = None,
    ) -> Any:
        """See `Communicator.recv`."""
        return await self._run(self.blocking.recv, source, tag, out, status)

    async def sendrecv(
        self,
        obj: Any,
        dest: int,
        sendtag: int = 0,
        source: int = ANY_SOURCE,
        recvtag: int = ANY_TAG,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """See `Communicator.sendrecv`."""
        return await self._run(self.blocking.sendrecv, obj, dest, sendtag, source, recvtag, out)

    async def bcast(self, obj: Any = None, root: int = 0) -> Any:
        """See `Communicator.bcast`."""
        return await self._run(self.blocking.bcast, obj, root)

    async def scatter(self, objs: Sequence[Any] | None = None, root: int = 0) -> Any:
        """See `Communicator.scatter`."""
        return await self._run(self.blocking.scatter, objs, root)

    async def scatterv(
        self,
        array: NDArray[Any] | None = None,
        counts: Sequence[int] | None = None,
        root: int = 0,
    ) -> NDArray[Any]:
        """See `Communicator.scatterv`."""
        return await self._run(self.blocking.scatterv, array, counts, root)

    async def gather(self, obj: Any, root: int = 0) -> list[Any] | None:
        """See `Communicator.gather`."""
        return await self._run(self.blocking.gather, obj, root)

    async def gatherv(self, array: NDArray[Any], root: int = 0) -> NDArray[Any] | None:
        """See `Communicator.gatherv`."""
        return await self._run(self.blocking.gatherv, array, root)

    async def allgather(self, obj: Any) -> list[Any]:
        """See `Communicator.allgather`."""
        return await self._run(self.blocking.allgather, obj)

    async def allgatherv(self, array: NDArray[Any]) -> NDArray[Any]:
        """See `Communicator.allgatherv`."""
        return await self._run(self.blocking.allgatherv, array)

    async def alltoall(self, objs: Sequence[Any]) -> list[Any]:
        """See `Communicator.alltoall`."""
        return await self._run(self.blocking.alltoall, objs)

    async def alltoallv(
        self, array: NDArray[Any], counts: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """See `Communicator.alltoallv`."""
        return await self._run(self.blocking.alltoallv, array, counts)

    async def barrier(self) -> None:
        """See `Communicator.barrier`."""
        await self._run(self.blocking.barrier)

    async def reduce(self, obj: Any, op: Op | Function = SUM, root: int = 0) -> Any:
        """See `Communicator.reduce`."""
        return await self._run(self.blocking.reduce, obj, op, root)

    async def allreduce(
        self, obj: Any, op: Op | Function = SUM, out: NDArray[Any] | None = None
    ) -> Any:
        """See `Communicator.allreduce`."""
        return await self._run(self.blocking.allreduce, obj, op, out)

    async def reduce_scatter(
        self,
        array: NDArray[Any],
        counts: Sequence[int] | None = None,
        op: Op | Function = SUM,
    ) -> NDArray[Any]:
        """See `Communicator.reduce_scatter`."""
        return await self._run(self.blocking.reduce_scatter, array, counts, op)

    async def scan(self, obj: Any, op: Op | Function = SUM) -> Any:
        """See `Communicator.scan`."""
        return await self._run(self.blocking.scan, obj, op)

    async def exscan(self, obj: Any, op: Op | Function = SUM) -> Any:
        """See `Communicator.exscan`."""
        return await self._run(self.blocking.exscan, obj, op)

    async def split(self, color: int | None, key: int = 0) -> AsyncCommunicator | None:
        """See `Communicator.split`."""
        part = await self._run(self.blocking.split, color, key)
        return None if part is None else AsyncCommunicator(part, self._thread)

    async def shrink(self) -> AsyncCommunicator:
        """See `Communicator.shrink`."""
        return AsyncCommunicator(await self._run(self.blocking.shrink), self._thread)

    async def gather_survivors(
        self, obj: Any, root: int = 0, wait_s: float | None = None
    ) -> tuple[dict[int, Any] | None, tuple[int, ...]]:
        """See `Communicator.gather_survivors`."""
        return await self._run(self.blocking.gather_survivors, obj, root, wait_s)

    async def agree_on_lost(
        self, lost: Sequence[int] = (), root: int = 0, wait_s: float | None = None
    ) -> tuple[int, ...]:
        """See `Communicator.agree_on_lost`."""
        return await self._run(self.blocking.agree_on_lost, lost, root, wait_s)

    async def abort(self, why: str = "abort was called") -> None:
        """See `Communicator.abort`."""
        await self._run(self.blocking.abort, why)

    async def close(self) -> None:
        """See `Communicator.close`."""
        await self._end(self.blocking.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end(self.blocking.__exit__, kind, error, trace)

    async def _run(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, lambda: operation(*args, **kwargs))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self.blocking.interrupt("the operation was cancelled")
            await asyncio.wait([running])  # soon: it looks for this all the time
            running.exception()
            raise

    async def _end(self, operation: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        whole = self.blocking.context == 0
        try:
            await self._run(operation, *args, **kwargs)
        finally:
            if whole:
                self._thread.shutdown(wait=False)
