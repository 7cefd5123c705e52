"""The Invoke API: what `aiobotocore` and the AWS tools call.

AWS Lambda API reference: Invoke, GetFunctionConfiguration, GetFunctionConcurrency,
PutFunctionConcurrency, DeleteFunctionConcurrency; error names and limits as documented there.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from aiohttp import web

from dispatcher.errors import FunctionError, InvocationError, TimedOut
from dispatcher.invokers.bill import Bill
from dispatcher.invokers.runtime_api import FunctionProcess
from dispatcher.platform.environments import Environments
from dispatcher.platform.function import Function
from dispatcher.platform.troubles import Trouble, Troubles, befall, spoilt

MAX_REQUEST: Final = 6_291_456
_TAIL: Final = 4096


@dataclass(slots=True)
class FunctionPlatform:
    """One function behind an HTTP server on loopback.

    `idle_s`: an environment without work is thrown away after so long. `revoked`: nobody may
    invoke. `bills`: what was charged, one by one, as a month's invoice says.
    """

    function: Function
    troubles: Troubles = field(default_factory=Troubles)
    idle_s: float = 300.0
    revoked: bool = False
    bills: list[Bill] = field(default_factory=list)
    throttles: int = 0
    url: str = ""
    _environments: Environments = field(init=False)
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self._environments = Environments(self.function, self.function.concurrency, self.idle_s)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Port 0 takes a free one; `url` is where it is then."""
        app = web.Application(client_max_size=4 * MAX_REQUEST)
        one = "/2015-03-31/functions/{name}"
        app.router.add_post(f"{one}/invocations", self._on_invoke)
        app.router.add_get(f"{one}/configuration", self._on_configuration)
        app.router.add_get("/2019-09-30/functions/{name}/concurrency", self._on_concurrency)
        app.router.add_put("/2017-10-31/functions/{name}/concurrency", self._on_reserve)
        app.router.add_delete("/2017-10-31/functions/{name}/concurrency", self._on_free)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def close(self) -> None:
        """Stop listening, kill what runs."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        await self._environments.close()

    async def _on_invoke(self, request: web.Request) -> web.Response:
        payload = await request.read()
        if refused := self._refusal(request, len(payload)):
            return refused
        if request.headers.get("X-Amz-Invocation-Type") == "DryRun":
            return web.Response(status=204)
        trouble = self.troubles.next()
        process = None if trouble.throttled else await self._environments.take(cold=trouble.cold)
        if process is None:
            self.throttles += 1
            return _error(429, "TooManyRequestsException", "Rate Exceeded.", reason=_LIMIT)
        # Who goes away while it runs stops neither the function nor its bill.
        tail = request.headers.get("X-Amz-Log-Type") == "Tail"
        return await asyncio.shield(self._run(process, payload, trouble, tail=tail))

    async def _run(
        self, process: FunctionProcess, payload: bytes, trouble: Trouble, *, tail: bool
    ) -> web.Response:
        function, request = self.function, str(uuid.uuid4())
        befalling = asyncio.create_task(befall(process, trouble))
        try:
            answer = await process.invoke(spoilt(payload, trouble), function.timeout_s)
        finally:
            befalling.cancel()
            await asyncio.wait({befalling})
            self._environments.give_back(process)
        bill = replace(answer.bill or Bill(0), memory_mb=function.memory_mb)
        self.bills.append(bill)
        headers = {"X-Amz-Executed-Version": function.version, "x-amzn-RequestId": request}
        body, status = answer.result, ""
        if isinstance(body, InvocationError):
            headers["X-Amz-Function-Error"] = "Unhandled"
            status = "timeout" if isinstance(body, TimedOut) else "error"
            body = orjson.dumps(_what_lambda_says(body, process, request, function.timeout_s))
        if tail:
            end = f"END RequestId: {request}\n{bill.report(request, status)}".encode()
            start = f"START RequestId: {request} Version: {function.version}\n".encode()
            log = (start + bytes(process.tail) + end)[-_TAIL:]
            headers["X-Amz-Log-Result"] = base64.b64encode(log).decode()
        return web.Response(body=body, headers=headers, content_type="application/json")

    def _refusal(self, request: web.Request, size: int) -> web.Response | None:
        if missing := self._missing(request):
            return missing
        if size > MAX_REQUEST:
            limit = f"Request must be smaller than {MAX_REQUEST} bytes"
            return _error(413, "RequestTooLargeException", limit)
        return None

    def _missing(self, request: web.Request) -> web.Response | None:
        name, qualifier = request.match_info["name"], request.query.get("Qualifier")
        if self.revoked:
            return _error(
                403,
                "AccessDeniedException",
                "User is not authorized to perform: lambda:InvokeFunction on resource: "
                f"{self.function.arn} because no identity-based policy allows it",
            )
        if not self.function.answers_to(name, qualifier):
            known = f"{self.function.arn}:{qualifier}" if qualifier else self.function.arn
            return _error(404, "ResourceNotFoundException", f"Function not found: {known}")
        return None

    async def _on_configuration(self, request: web.Request) -> web.Response:
        return self._missing(request) or web.json_response(self.function.configuration())

    async def _on_concurrency(self, request: web.Request) -> web.Response:
        reserved = {"ReservedConcurrentExecutions": self._environments.limit}
        return self._missing(request) or web.json_response(reserved)

    async def _on_reserve(self, request: web.Request) -> web.Response:
        if missing := self._missing(request):
            return missing
        self._environments.limit = int((await request.json())["ReservedConcurrentExecutions"])
        return web.json_response({"ReservedConcurrentExecutions": self._environments.limit})

    async def _on_free(self, request: web.Request) -> web.Response:
        if missing := self._missing(request):
            return missing
        self._environments.limit = self.function.concurrency
        return web.Response(status=204)


_LIMIT: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"


def _what_lambda_says(
    error: InvocationError, process: FunctionProcess, request: str, timeout_s: float
) -> dict[str, Any]:
    if isinstance(error, TimedOut):
        kind, message = "Sandbox.Timedout", f"Task timed out after {timeout_s:.2f} seconds"
    elif isinstance(error, FunctionError):
        if process.error:
            return process.error
        kind, message = "Runtime.Unknown", str(error)
    else:
        kind, message = "Runtime.ExitError", f"Runtime exited with error: {error}"
    return {"errorType": kind, "errorMessage": f"RequestId: {request} Error: {message}"}


def _error(status: int, name: str, message: str, reason: str | None = None) -> web.Response:
    body = {"Type": "User", "message": message, "Message": message}
    if reason:
        body["Reason"] = reason
    return web.json_response(body, status=status, headers={"x-amzn-ErrorType": name})
