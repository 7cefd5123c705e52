"""A worker process behind Lambda's Runtime API, so that `awslambdaric` runs the handler.

Wire (AWS Lambda developer guide, "Using the Lambda runtime API", version 2018-06-01):
the worker asks `GET .../runtime/invocation/next` and waits; it answers with
`POST .../runtime/invocation/{id}/response` or `.../error`; a handler that cannot be loaded
reports to `POST .../runtime/init/error`. One port per process: who asks is who we started.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from dispatcher.errors import FunctionError, InvocationError, TimedOut, WorkerLost
from dispatcher.invokers import Answer
from dispatcher.invokers.bill import Bill
from dispatcher.invokers.memory import memory_mb

_PREFIX: Final = "/2018-06-01/runtime"
_MAX_ANSWER: Final = 6 * 1024 * 1024  # Lambda's own limit for a synchronous response
_LOG_TAIL_LINES: Final = 20
_MARK: Final = b"lookback at "  # see `workers.handler`
_TAIL: Final = 4096
"""Bytes of an invocation's log that are kept, as many as Lambda gives back."""
_LOOK_S: Final = 0.05  # between two looks at the memory of a process
_PIPE_S: Final = 0.002
"""What a worker printed before it asked or told us something has been read this much later."""


@dataclass(slots=True)
class _Invocation:
    id: str
    payload: bytes
    deadline_ms: int
    answer: asyncio.Future[bytes]
    reached: int | None = None


@dataclass(slots=True)
class FunctionProcess:
    """One worker process and the Runtime API it talks to. Serves one invocation at a time.

    The process is started on the first `invoke` (or by `start`) and again after it ended. One that
    has more than `memory_mb` is killed. `tail` is the end of the log of the invocation that was
    served last, `error` what its handler raised (errorType, errorMessage, stackTrace).
    """

    name: str
    handler: str
    environment: Mapping[str, str]
    init_timeout_s: float = 60.0
    memory_mb: int | None = None
    tail: bytearray = field(default_factory=bytearray)
    error: dict[str, Any] | None = None
    _runner: web.AppRunner | None = None
    _port: int = 0
    _process: asyncio.subprocess.Process | None = None
    _watch: asyncio.Task[None] | None = None
    _next: asyncio.Queue[_Invocation | None] = field(default_factory=lambda: asyncio.Queue(1))
    _current: _Invocation | None = None
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _init_error: str | None = None
    _taken: _Invocation | None = None
    _log: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_TAIL_LINES))
    _count: int = 0
    _peak_mb: int | None = None
    _too_large: bool = False

    @property
    def pid(self) -> int | None:
        """Process id while the worker runs."""
        return self._process.pid if self._process and not self._ended.is_set() else None

    async def ready(self) -> int | None:
        """Process id, as soon as it asks for work or has some."""
        await self._ready.wait()
        return self.pid

    async def start(self) -> None:
        """Start the process and wait until it asks for work.

        Raises:
            FunctionError: the handler cannot be loaded.
            WorkerLost: the process ended before it was ready.
        """
        if self._runner is None:
            await self._serve()
        await self._spawn()
        ready = asyncio.create_task(self._ready.wait())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait(
                {ready, ended}, timeout=self.init_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
            ended.cancel()
        if self._init_error:
            raise FunctionError(f"the handler {self.handler} cannot be loaded: {self._init_error}")
        if not self._ready.is_set():
            await self._kill()
            raise WorkerLost(f"{self.name} did not get ready: {self._last_words()}")

    async def invoke(self, payload: bytes, deadline_s: float) -> Answer:
        """Run one invocation; what goes wrong is in the answer, with the bill.

        The result is the handler's JSON, or

            WorkerLost: the process ended before it answered.
            TimedOut: no answer within `deadline_s`; the process was killed.
            FunctionError: the handler raised, or cannot be loaded.
        """
        started, init_s = time.monotonic(), 0.0
        self.error, self._peak_mb = None, None
        self.tail.clear()
        result: bytes | InvocationError
        try:
            if self.pid is None:
                try:
                    await self.start()
                finally:
                    init_s = time.monotonic() - started
            result = await self._answer(payload, deadline_s)
        except InvocationError as error:
            result = error
        if self.pid:
            self._peak_mb = memory_mb(self.pid, "VmHWM") or self._peak_mb
        return Answer(result, Bill.since(started, init_s, self._peak_mb))

    async def _answer(self, payload: bytes, deadline_s: float) -> bytes:
        self._count += 1
        invocation = _Invocation(
            id=f"{self.name}-{self._count}",
            payload=payload,
            deadline_ms=round(1000 * (time.time() + deadline_s)),
            answer=asyncio.get_running_loop().create_future(),
        )
        self._current = invocation
        if self._ended.is_set():  # it may have ended between the check and now
            raise WorkerLost(f"{self.name} ended: {self._last_words()}")
        self._next.put_nowait(invocation)
        try:
            async with asyncio.timeout(deadline_s):
                return await invocation.answer
        except TimeoutError:
            await self._kill()
            late = f"{self.name} gave no answer within {deadline_s:g} s"
            raise TimedOut(late, invocation.reached) from None
        except InvocationError as error:
            error.reached = invocation.reached
            raise
        finally:
            self._current = None

    async def stop(self) -> None:
        """End the process and its Runtime API."""
        await self._kill()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self) -> None:
        # Far above Lambda's limit: an answer that aiohttp refuses kills awslambdaric, one that
        # is read and judged here is an error that says what was wrong.
        app = web.Application(client_max_size=16 * _MAX_ANSWER)
        app.router.add_get(f"{_PREFIX}/invocation/next", self._on_next)
        app.router.add_post(f"{_PREFIX}/invocation/{{id}}/response", self._on_response)
        app.router.add_post(f"{_PREFIX}/invocation/{{id}}/error", self._on_error)
        app.router.add_post(f"{_PREFIX}/init/error", self._on_init_error)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _spawn(self) -> None:
        self._ended, self._init_error = asyncio.Event(), None
        self._next, self._taken = asyncio.Queue(1), None
        self._log.clear()
        self._peak_mb, self._too_large = None, False
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "awslambdaric",
            self.handler,
            env={
                **os.environ,
                **self.environment,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._port}",
                "AWS_LAMBDA_FUNCTION_NAME": "lookback",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # An interrupt at the terminal is the dispatcher's to handle: it stops workers
            # when their last batch is written.
            start_new_session=True,
        )
        self._watch = asyncio.create_task(self._follow(self._process, self._ended, self._next))

    async def _follow(
        self,
        process: asyncio.subprocess.Process,
        ended: asyncio.Event,
        queue: asyncio.Queue[_Invocation | None],
    ) -> None:
        """Read what the process prints, so that it never blocks, until it ends."""
        limit = asyncio.create_task(self._limit(process, ended)) if self.memory_mb else None
        async for line in _lines(process.stdout):
            self._note(line)
        await process.wait()
        self._ready.clear()
        ended.set()
        with suppress(asyncio.QueueFull):
            queue.put_nowait(None)  # who waited for its next invocation waits for nothing
        if limit:
            await limit
        if self._current and not self._current.answer.done():
            self._current.answer.set_exception(
                WorkerLost(f"{self.name} ended before it answered: {self._last_words()}")
            )

    async def _limit(self, process: asyncio.subprocess.Process, ended: asyncio.Event) -> None:
        """Kill the process when it has more memory than it may."""
        while not ended.is_set():
            self._peak_mb = memory_mb(process.pid, "VmRSS") or self._peak_mb
            if self.memory_mb and (self._peak_mb or 0) > self.memory_mb:
                self._too_large = True
                with suppress(ProcessLookupError):
                    process.kill()
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await ended.wait()

    def _note(self, line: bytes) -> None:
        """Keep a line of the log. A mark says which item the invocation has reached."""
        self.tail += line
        del self.tail[:-_TAIL]
        if line.startswith(_MARK) and line[len(_MARK) :].strip().isdigit():
            if self._taken:
                self._taken.reached = int(line[len(_MARK) :])
        else:
            self._log.append(line.decode(errors="replace").rstrip()[:500])

    async def _kill(self) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        if self._watch:
            await self._watch

    def _last_words(self) -> str:
        code = self._process.returncode if self._process else None
        if self._too_large:
            return f"it had {self._peak_mb} MB of memory, {self.memory_mb} is what it may have"
        return f"exit code {code}" + (f", last line: {self._log[-1]}" if self._log else "")

    async def _on_next(self, _: web.Request) -> web.Response:
        self._ready.set()
        # The queue of now: a process that ended must not take from its successor's.
        queue = self._next
        # A mark that is still in the pipe belongs to the invocation before.
        await asyncio.sleep(_PIPE_S)
        invocation = await queue.get()
        if invocation is None:
            return web.Response(status=410)
        self._taken = invocation
        return web.Response(
            body=invocation.payload,
            content_type="application/json",
            headers={
                "Lambda-Runtime-Aws-Request-Id": invocation.id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:local:0:function:lookback",
            },
        )

    async def _on_response(self, request: web.Request) -> web.Response:
        answer = await request.read()
        if (invocation := self._expected(request)) is not None:
            if len(answer) > _MAX_ANSWER:
                invocation.answer.set_exception(
                    FunctionError(f"the answer of {len(answer)} bytes is over Lambda's 6 MB")
                )
            else:
                invocation.answer.set_result(answer)
        return web.json_response({"status": "OK"}, status=202)

    async def _on_error(self, request: web.Request) -> web.Response:
        body = await request.read()
        message = _error_message(body)
        await asyncio.sleep(_PIPE_S)  # for the last mark, which may still be in the pipe
        if (invocation := self._expected(request)) is not None:
            self.error = _error(body)
            raised = FunctionError(
                f"the handler raised {message}", kind=self.error.get("errorType")
            )
            invocation.answer.set_exception(raised)
        return web.json_response({"status": "OK"}, status=202)

    async def _on_init_error(self, request: web.Request) -> web.Response:
        self._init_error = _error_message(await request.read())
        return web.json_response({"status": "OK"}, status=202)

    def _expected(self, request: web.Request) -> _Invocation | None:
        """The invocation this answer is for; None if nobody waits for it any more."""
        current = self._current
        if current is None or current.id != request.match_info["id"] or current.answer.done():
            return None
        return current


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    """Line by line, to the end."""
    while stream:
        try:
            line = await stream.readline()
        except ValueError:
            continue  # over asyncio's 64 KiB: what was read of the line is thrown away
        if not line:
            return
        yield line


def _error_message(body: bytes) -> str:
    error = _error(body)
    if {"errorType", "errorMessage"} <= error.keys():
        return f"{error['errorType']}: {error['errorMessage']}"
    return body[:500].decode(errors="replace")


def _error(body: bytes) -> dict[str, Any]:
    try:
        error = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return error if isinstance(error, dict) else {}
