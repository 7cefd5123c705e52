"""Ways to run the handler: the protocol and its in-process twin.

An invoker runs a gang: the invocations of one group, all at once or not at all. Ranks that
wait for each other must never wait for a slot that another waiting group holds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dispatcher.errors import FunctionError, InvocationError, TimedOut
from dispatcher.invokers.bill import Bill


@dataclass(frozen=True, slots=True)
class Answer:
    """What one invocation gave: the JSON that the handler returned, or why there is none.

    `bill` is None when the platform did not say: then the reserve is taken for it.
    """

    result: bytes | InvocationError
    bill: Bill | None


Handler = Callable[[dict[str, Any], Any], Any]
Lost = Callable[[], object]


def nobody() -> None:
    """Who wants to know of a lost invocation."""


async def together(calls: Iterable[Coroutine[Any, Any, Answer]], lost: Lost) -> list[Answer]:
    """The answers of a gang in order; `lost` is told as soon as one fails."""
    gang = list(calls)

    async def watched(call: Coroutine[Any, Any, Answer]) -> Answer:
        answer = await call
        if isinstance(answer.result, InvocationError):
            lost()
        return answer

    try:
        return list(await asyncio.gather(*map(watched, gang)))
    finally:
        for call in gang:
            call.close()  # one that was cancelled before its turn has never begun


class Invoker(Protocol):
    """Runs the handler `workers.handler.handler` somewhere."""

    slots: int
    """How many invocations run at the same time."""

    async def open(self) -> None:
        """Get ready; returns when the first invocation can be served."""

    async def job(self) -> Mapping[str, Any]:
        """What workers must be told beside the hash of the weights (see `workers.handler`)."""

    async def invoke(
        self, payloads: Sequence[bytes], deadline_s: float, lost: Lost = nobody
    ) -> list[Answer]:
        """Run one gang, one invocation per payload, and wait for all answers.

        Waits for `len(payloads)` free slots, in order of arrival. `deadline_s` counts from
        the start of the invocations. Failures are returned, not raised, so that one lost
        rank does not hide the answers of the others; `lost` is told of each at once.
        """

    async def close(self) -> None:
        """Stop everything that was started."""


class Slots:
    """A counter of free slots that hands out several at once, first come, first served."""

    def __init__(self, count: int) -> None:
        self.count = self._free = count
        self._changed = asyncio.Condition()
        self._queue: list[object] = []

    async def take(self, count: int) -> None:
        """Wait for `count` free slots. Nobody overtakes, or a large gang would starve.

        Raises:
            ValueError: there are not so many: it would wait for ever.
        """
        if count > self.count:
            raise ValueError(f"a gang of {count} does not fit into {self.count} slots")
        ticket = object()
        self._queue.append(ticket)
        try:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: self._queue[0] is ticket and self._free >= count
                )
                self._free -= count
        finally:
            self._queue.remove(ticket)
            async with self._changed:
                self._changed.notify_all()

    async def give_back(self, count: int) -> None:
        """Return slots."""
        async with self._changed:
            self._free += count
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Context:
    """What Lambda passes beside the event, as far as the handler uses it."""

    aws_request_id: str
    deadline: float
    memory_limit_in_mb: str = "0"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the platform stops this invocation."""
        return max(0, round(1000 * (self.deadline - time.monotonic())))


@dataclass(slots=True)
class InlineInvoker:
    """The handler in threads of this process: no isolation, nothing to start. For tests."""

    handler: Handler
    slots: int = 2
    _free: Slots = field(init=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._free = Slots(self.slots)

    async def open(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to stop."""

    async def job(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    async def invoke(
        self, payloads: Sequence[bytes], deadline_s: float, lost: Lost = nobody
    ) -> list[Answer]:
        """See `Invoker.invoke`. A thread cannot be stopped: a late one is left behind.

        Threads share their output, so nobody reads marks: a handler that wants to say where it was
        raises an error with an attribute `reached`.
        """
        await self._free.take(len(payloads))
        try:
            calls = (self._call(payload, deadline_s) for payload in payloads)
            return await together(calls, lost)
        finally:
            await self._free.give_back(len(payloads))

    async def _call(self, payload: bytes, deadline_s: float) -> Answer:
        context = Context(f"inline-{next(self._numbers)}", time.monotonic() + deadline_s)
        started = time.monotonic()
        result: bytes | InvocationError
        try:
            async with asyncio.timeout(deadline_s):
                answer = await asyncio.to_thread(self.handler, json.loads(payload), context)
            result = json.dumps(answer).encode()
        except TimeoutError:
            result = TimedOut(f"no answer within {deadline_s:g} s")
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
            message = f"{type(error).__name__}: {error}"
            kind = type(error).__name__
            result = FunctionError(message, getattr(error, "reached", None), kind)
        return Answer(result, Bill.since(started))
