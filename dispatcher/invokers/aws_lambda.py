"""Functions of AWS Lambda, or of whatever speaks its Invoke API.

botocore's defaults are wrong for this: it would try again by itself, which hides throttles from who
should slow down and runs functions twice; it has ten connections; and it hangs up after 60 s, which
stops neither a function nor its bill.
"""

from __future__ import annotations

import asyncio
import base64
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from dispatcher.errors import (
    FunctionError,
    InvocationError,
    PlatformFailed,
    Refused,
    SettingsError,
    Throttled,
    TimedOut,
    WorkerLost,
)
from dispatcher.invokers import Answer, Lost, Slots, nobody, together
from dispatcher.invokers.bill import Bill
from dispatcher.invokers.lambda_errors import ADVICE, FULL, refusal
from dispatcher.invokers.pointers import Pointers

MAX_PAYLOAD: Final = 6_291_456
"""Bytes of a synchronous request (AWS Lambda developer guide, "Lambda quotas")."""
_CONNECT_S: Final = 5.0
_MARGIN_S: Final = 10.0  # to hear of a function that used all its time
_MARK: Final = re.compile(r"^lookback at (\d+)$", re.MULTILINE)
_AGAIN_S: Final = 0.1
"""The first wait of a throttled rank whose group is on its way; doubled each time."""
_AGAINS: Final = 4

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is expected of a function: `open` refuses one that is something else.

    `memory_mb`, `architecture` and `region` are what the price is for, `timeout_s` what money is
    set aside for. None: any will do.
    """

    name: str
    alias: str
    memory_mb: int
    timeout_s: float
    architecture: str | None = None
    region: str | None = None
    account: str | None = None


@dataclass(slots=True)
class LambdaInvoker:
    """Invokes one version of one function, `slots` times at once.

    `client`: arguments of aiobotocore's `create_client`. `pointers`: where payloads go that are too
    large for an invocation; None: they are refused.
    """

    function: Deployed
    slots: int
    client: Mapping[str, Any] = field(default_factory=dict)
    pointers: Pointers | None = None
    _free: Slots = field(init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _lambda: Any = None

    def __post_init__(self) -> None:
        self._free = Slots(self.slots)

    async def open(self) -> None:
        """Look at the function, and whether it may be invoked; neither costs anything.

        Raises:
            SettingsError: it is not there, may not be invoked, or is not what is paid for.
        """
        config = AioConfig(
            retries={"total_max_attempts": 1},
            max_pool_connections=self.slots + 1,
            connect_timeout=_CONNECT_S,
            read_timeout=self.function.timeout_s + _MARGIN_S,
            tcp_keepalive=True,
        )
        made = get_session().create_client("lambda", config=config, **self.client)
        where = {"FunctionName": self.function.name, "Qualifier": self.function.alias}
        try:
            self._lambda = await self._stack.enter_async_context(made)
            found = await self._lambda.get_function_configuration(**where)
            await self._lambda.invoke(**where, InvocationType="DryRun")
            if self.pointers:
                await self.pointers.open()
        except ClientError as error:
            raise SettingsError(refusal(error)) from error
        except (BotoCoreError, ValueError) as error:
            raise SettingsError(f"the function {self.function.name}: {error}; {ADVICE}") from error
        self._compare(found)

    async def close(self) -> None:
        """Hang up. What still runs goes on, and is billed."""
        await self._stack.aclose()
        if self.pointers:
            await self.pointers.close()

    async def job(self) -> Mapping[str, Any]:
        """Where the weights are, if the function does not carry them."""
        return await self.pointers.job() if self.pointers else {}

    async def invoke(
        self, payloads: Sequence[bytes], deadline_s: float, lost: Lost = nobody
    ) -> list[Answer]:
        """See `Invoker.invoke`. The function's own time limit ends a call, if it comes through."""
        await self._free.take(len(payloads))
        try:
            if self.pointers and any(len(each) > MAX_PAYLOAD for each in payloads):
                async with self.pointers.kept(payloads, MAX_PAYLOAD) as sent:
                    answers = await self._gang(sent, deadline_s, lost)
                return _with_objects(answers, [len(each) > MAX_PAYLOAD for each in payloads])
            return await self._gang(payloads, deadline_s, lost)
        except InvocationError as error:  # of the bucket: nothing has been invoked
            return [Answer(error, None) for _ in payloads]
        finally:
            await self._free.give_back(len(payloads))

    async def _gang(self, payloads: Sequence[bytes], deadline_s: float, lost: Lost) -> list[Answer]:
        again = _AGAINS if len(payloads) > 1 else 0
        return await together([self._call(each, deadline_s, again) for each in payloads], lost)

    async def _call(self, payload: bytes, deadline_s: float, again: int) -> Answer:
        """One invocation. Who is throttled while its group is on its way comes again soon."""
        answer, wait_s = await self._once(payload, deadline_s), _AGAIN_S
        for _ in range(again):
            if not isinstance(answer.result, Throttled):
                break
            await asyncio.sleep(wait_s)
            wait_s *= 2
            answer = await self._once(payload, deadline_s)
        return answer

    async def _once(self, payload: bytes, deadline_s: float) -> Answer:
        try:
            async with asyncio.timeout(deadline_s + _MARGIN_S):
                response = await self._lambda.invoke(
                    FunctionName=self.function.name,
                    Qualifier=self.function.alias,
                    LogType="Tail",
                    Payload=io.BytesIO(payload),  # as bytes, aiohttp would send it in one piece
                )
                body = await response["Payload"].read()
        except ClientError as error:
            return Answer(_why_not(error), None)
        except (BotoCoreError, OSError) as error:  # TimeoutError is one, too
            # aiobotocore lets some errors of its connections through as they are.
            why = f"no answer of {self.function.name} ({error}): what runs there goes on"
            return Answer(PlatformFailed(why), None)
        tail = base64.b64decode(response.get("LogResult", "")).decode(errors="replace")
        bill = Bill.of_tail(tail)
        if kind := response.get("FunctionError"):
            return Answer(_what_failed(body, tail, kind), bill)
        return Answer(body, bill or measured(body))

    def _compare(self, found: Mapping[str, Any]) -> None:
        wanted = self.function
        said: list[str] = []
        if found["MemorySize"] != wanted.memory_mb:
            said.append(f"has {found['MemorySize']} MB (spend.memory_mb is {wanted.memory_mb})")
        if found["Timeout"] > wanted.timeout_s:
            said.append(
                f"may take {found['Timeout']} s (workers.deadline_s is {wanted.timeout_s:g}: more "
                "is not set aside)"
            )
        built = found.get("Architectures", ["x86_64"])[0]
        if wanted.architecture and built != wanted.architecture:
            said.append(f"is for {built} (spend.price is for {wanted.architecture})")
        region, account = found["FunctionArn"].split(":")[3:5]
        if wanted.region and region != wanted.region:
            said.append(f"is in {region} (spend.price is for {wanted.region})")
        if wanted.account and account != wanted.account:
            said.append(f"is of account {account} (functions.account is {wanted.account})")
        if found.get("State", "Active") not in ("Active", "Inactive"):
            said.append(f"is {found['State']}: {found.get('StateReason', 'no reason given')}")
        if said:
            raise SettingsError(f"the function {wanted.name}:{wanted.alias} {' and '.join(said)}")


def _with_objects(answers: Sequence[Answer], large: Sequence[bool]) -> list[Answer]:
    """The first large payload bears the one request that wrote them all."""
    writer = large.index(True)
    return [
        replace(each, bill=replace(each.bill, writes=int(rank == writer), reads=int(read)))
        if each.bill
        else each
        for rank, (each, read) in enumerate(zip(answers, large, strict=True))
    ]


def _why_not(error: ClientError) -> InvocationError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in FULL or status == 429:
        return Throttled(f"the platform has no worker for it now ({code})")
    if status >= 500:
        return PlatformFailed(f"the platform failed ({code}): {error}")
    return Refused(refusal(error))


def _what_failed(body: bytes, tail: str, kind: str) -> InvocationError:
    """What the function raised, or how its environment ended (errorType and errorMessage)."""
    marks = _MARK.findall(tail)
    reached = int(marks[-1]) if marks else None
    try:
        said = orjson.loads(body)
        what, message = str(said.get("errorType", kind)), str(said.get("errorMessage", ""))
    except (orjson.JSONDecodeError, AttributeError):
        what, message = kind, body[:500].decode(errors="replace")
    if what == "Sandbox.Timedout" or "Task timed out after" in message:
        return TimedOut(message, reached)
    if what in ("Runtime.ExitError", "Runtime.OutOfMemory"):
        return WorkerLost(f"{what}: {message}", reached)
    return FunctionError(f"the handler raised {what}: {message}", reached, what)


def measured(body: bytes) -> Bill | None:
    """What the worker itself measured, where the platform's bill did not come through."""
    try:
        said = orjson.loads(body)
        memory = said.get("memory_mb")
        init = round(said["ms"].get("init", 0))
        return Bill(round(said["ms"]["total"] + 0.5) + init, init, memory, certain=False)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
