"""Workers of a Dask cluster that is there already: that of a computing centre, or a few machines.

What Dask does otherwise than a function platform, and what is done about it:

- A gang runs all at once or not at all: seats are counted, and each task is for one worker process,
  which has no other of ours. Start workers with one thread a process.
- Dask runs a task again when its worker died. Here no other process takes it, and the same one
  takes it once, so nothing is inferred twice behind the dispatcher's back.
- A thread cannot be stopped. What is late is stopped with its process, by the nanny.

Dask sends functions and answers as pickles: whoever reaches the scheduler can run code on its
workers. It must be on a network that is trusted, or use TLS (`tls://`).
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from dispatcher.errors import (
    FunctionError,
    InvocationError,
    PlatformFailed,
    Refused,
    SettingsError,
    TimedOut,
    WorkerLost,
)
from dispatcher.invokers import Answer, Lost, Slots, nobody, together
from dispatcher.invokers.bill import Bill
from dispatcher.invokers.cluster_task import Said, answer, prepare
from dispatcher.invokers.local import HANDLER

_CONNECT_S: Final = 10.0
_LOOK_S: Final = 0.25  # between two looks at whether a worker is still there
_RESTART_S: Final = 60.0
_REPLACE_S: Final = 120.0  # then the seat is free again, and who takes it is told

_log = structlog.get_logger()


@dataclass(slots=True)
class DaskInvoker:
    """At most `slots` worker processes of the cluster at `scheduler`; fewer if it has fewer.

    `environment` is set in each before the handler is loaded.
    """

    scheduler: str
    slots: int
    environment: Mapping[str, str] = field(default_factory=dict)
    handler: str = HANDLER
    _client: Any = None
    _free: Slots = field(default_factory=lambda: Slots(0))
    _seats: list[str] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _replacing: set[asyncio.Task[None]] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _run: str = field(default_factory=lambda: secrets.token_hex(4))

    async def open(self) -> None:
        """Connect, and have the workers load the handler.

        Raises:
            SettingsError: there is no scheduler, no worker, a worker without a nanny, or no handler
                on them.
        """
        try:
            from distributed import Client
        except ImportError as error:
            raise SettingsError(
                'workers.engine = "dask" needs a package that is not installed: '
                "pip install 'lookback[dask]'"
            ) from error
        try:
            made: Any = Client(  # type: ignore[no-untyped-call]
                self.scheduler, asynchronous=True, timeout=_CONNECT_S, set_as_default=False
            )
            self._client = await made
        except (OSError, ValueError, TimeoutError) as error:
            raise SettingsError(
                f"no Dask scheduler at {self.scheduler} ({_line(error)}): check dask.scheduler"
            ) from error
        workers = await self._workers()
        if not workers:
            raise SettingsError(f"the Dask cluster {self.scheduler} has no workers: start some")
        for seat, said in workers.items():
            if not said.get("nanny"):
                raise SettingsError(
                    f"the worker {seat} has no nanny, so a handler that hangs could not be "
                    "stopped: start the workers of the cluster with --nanny"
                )
        there = sorted(workers)
        self._seats = there[: self.slots]
        self.slots = len(self._seats)
        self._free, self._known = Slots(self.slots), set(self._seats)
        await asyncio.gather(*map(self._prepare, self._seats))

    async def job(self) -> Mapping[str, Any]:
        """Nothing: the workers have the weights that `environment` names."""
        return {}

    async def invoke(
        self, payloads: Sequence[bytes], deadline_s: float, lost: Lost = nobody
    ) -> list[Answer]:
        """See `Invoker.invoke`."""
        await self._free.take(len(payloads))
        seats = [self._seats.pop() for _ in payloads]
        calls = zip(seats, payloads, strict=True)
        return await together([self._call(*each, deadline_s) for each in calls], lost)

    async def close(self) -> None:
        """Leave. The cluster goes on: it is not ours."""
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def _call(self, seat: str, payload: bytes, deadline_s: float) -> Answer:
        key, started = f"lookback-{self._run}-{next(self._numbers)}", time.monotonic()
        try:
            await self._look_at(seat)
            future = self._client.submit(
                answer,
                key,
                payload,
                deadline_s,
                self.handler,
                key=key,
                workers=[seat],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
            said = await self._said(future, seat, deadline_s)
        except BaseException as error:
            # A cancelled one, too: its handler still runs there.
            self._replace(seat)
            if isinstance(error, InvocationError):
                return Answer(error, Bill.since(started))
            raise
        self._seats.append(seat)
        await self._free.give_back(1)
        result = said.result if said.error is None else _failed(said)
        return Answer(result, Bill(said.billed_ms, said.init_ms, said.max_memory_mb))

    async def _said(self, future: Any, seat: str, deadline_s: float) -> Said:
        result = asyncio.ensure_future(future.result())
        gone = asyncio.create_task(self._gone(seat))
        try:
            await asyncio.wait(
                {result, gone}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            if result.done():
                return _result(result)
            if gone.done():
                gone.result()
                raise WorkerLost(f"the worker {seat} ended before it answered")
            raise TimedOut(f"{seat} gave no answer within {deadline_s:g} s")
        finally:
            gone.cancel()
            if not result.done():
                result.cancel()
                await self._forget(future)

    async def _forget(self, future: Any) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await future.cancel(force=True)
        except (OSError, TimeoutError):
            pass  # the scheduler is away, and knows nothing of it when it is back

    async def _look_at(self, seat: str) -> None:
        """Whether it is there to be asked: else an item would be blamed for a worker long dead."""
        if seat not in await self._workers():
            raise PlatformFailed(f"the worker {seat} had left before it was asked")

    async def _gone(self, seat: str) -> None:
        """Returns when the worker is no longer there. Dask alone would wait for it for ever."""
        while seat in await self._workers():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_LOOK_S)

    async def _workers(self) -> Mapping[str, Any]:
        """All that there are by their addresses, and what the scheduler says of each.

        Raises:
            PlatformFailed: the scheduler does not answer.
            Refused: it was away for so long that Dask has given up on it.
        """
        # A client that has given up knows no scheduler; while it does so it raises RuntimeError.
        if self._client.scheduler is None:
            raise Refused(
                f"the Dask scheduler {self.scheduler} was away for more than {_CONNECT_S:g} s: "
                "start the cluster again, then Lookback"
            )
        try:
            async with asyncio.timeout(_CONNECT_S):
                found = await self._client.scheduler.identity(n_workers=-1)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise PlatformFailed(f"the scheduler does not answer: {_line(error)}") from error
        workers: Mapping[str, Any] = found["workers"]
        return workers

    async def _prepare(self, seat: str) -> None:
        arguments = dict(self.environment), self.handler
        try:
            await self._client.run(prepare, *arguments, workers=[seat])
        except Exception as error:  # whatever the worker raised
            raise SettingsError(
                f"the worker {seat} cannot load {self.handler} ({_line(error)}): install the same "
                "release of lookback on both sides"
            ) from error

    def _replace(self, seat: str) -> None:
        task = asyncio.create_task(self._find_another(seat))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _find_another(self, seat: str) -> None:
        """Free the seat again, with another worker on it.

        If there is none it is freed as it is. Who takes it is told so: nobody waits for ever.
        """
        found = seat
        try:
            async with asyncio.timeout(_REPLACE_S):
                found = await self._another(seat)
        except (InvocationError, SettingsError, OSError, ValueError) as error:
            _log.warning("a worker is not replaced", worker=seat, error=_line(error))
        self._seats.append(found)
        await self._free.give_back(1)

    async def _another(self, seat: str) -> str:
        """End a process that hangs; its nanny starts another, which takes the seat."""
        if seat in await self._workers():
            await self._client.restart_workers([seat], timeout=_RESTART_S, raise_for_error=False)
        self._known.discard(seat)
        while not (fresh := (await self._workers()).keys() - self._known):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        found = min(fresh)
        self._known.add(found)
        try:
            await self._prepare(found)
        except BaseException:
            self._known.discard(found)  # whoever takes the seat next may try it again
            raise
        return found


def _result(result: asyncio.Future[Said]) -> Said:
    try:
        return result.result()
    except asyncio.CancelledError:
        raise PlatformFailed("the cluster cancelled the task") from None
    except Exception as error:
        if type(error).__name__ in ("KilledWorker", "BegunBefore"):
            raise WorkerLost(f"the worker ended before it answered: {_line(error)}") from None
        raise PlatformFailed(f"the cluster failed: {_line(error)}") from error


def _failed(said: Said) -> FunctionError:
    return FunctionError(
        f"the handler raised {said.error}: {said.message}", said.reached, said.error
    )


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
