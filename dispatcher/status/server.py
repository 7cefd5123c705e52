"""The server of a running dispatcher: page, interface, metrics, health.

Everything is read-only, but for actions: those need the token of the settings. It answers from the
dispatcher's own event loop, so that what it says is what the loop sees; one that hangs does not
answer, and that is the truth, too.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from dispatcher import health, logs, metrics
from dispatcher.errors import SettingsError
from dispatcher.service import Run
from dispatcher.status.actions import Actions
from dispatcher.status.snapshot import Snapshots

PORT: Final = 8077
ACTIONS: Final = ("pause", "resume", "freeze", "thaw", "redrive", "replay")
_ASSETS: Final = Path(__file__).parent / "assets"
_MOST_ROWS: Final = 1000
_MOST_BYTES: Final = 64 * 1024
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Routes for one run."""

    def __init__(self, run: Run, actions: Actions, snapshots: Snapshots) -> None:
        self._run, self._actions, self._snapshots = run, actions, snapshots
        self._registry = metrics.registry(run)
        token = run.settings.status.token
        self._token = token.get_secret_value() if token else None

    def app(self) -> web.Application:
        """All routes."""
        app = web.Application(middlewares=[self._guard], client_max_size=_MOST_BYTES)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/assets/{name}", self._asset),
                web.get("/metrics", self._metrics),
                web.get("/live", self._live),
                web.get("/ready", self._ready),
                web.get("/api/status", self._status),
                web.get("/api/results", self._results),
                web.get("/api/results/{result_id}", self._result),
                web.get("/api/review", self._review),
                web.post("/api/review/{result_id}", self._decide),
                *(web.post(f"/api/{each}", self._act) for each in ACTIONS),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only for those who mean this server; errors are one sentence of JSON."""
        if not self._is_meant(request):
            answer: web.StreamResponse = _said(421, "ask for this server by its address")
        else:
            try:
                answer = await handler(request)
            except web.HTTPException as error:
                answer = _said(error.status, error.reason)
            except SettingsError as error:
                answer = _said(409, str(error))
        answer.headers.update(_HEADERS)
        return answer

    def _is_meant(self, request: web.Request) -> bool:
        """On loopback, a page of somebody else may have its own name lead here (DNS rebinding)."""
        name = request.host.rsplit(":", 1)[0].strip("[]")
        return self._run.settings.status.host not in _LOOPBACK or name in _LOOPBACK

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(_ASSETS / "index.html")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        path = _ASSETS / Path(request.match_info["name"]).name
        if not path.is_file():
            raise web.HTTPNotFound(reason="there is no such file")
        return web.FileResponse(path)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _live(self, _: web.Request) -> web.Response:
        return _verdict(health.live(self._run))

    async def _ready(self, _: web.Request) -> web.Response:
        return _verdict(health.ready(self._run))

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(await self._snapshots.look())

    async def _results(self, request: web.Request) -> web.Response:
        asked = request.query
        found = self._run.recent.page(
            _number(request, "offset", 0, 10**9),
            _number(request, "limit", 100, _MOST_ROWS),
            asked.get("status", ""),
            asked.get("search", "").strip().lower(),
            _number(request, "upto", 0, 10**12) if "upto" in asked else None,
        )
        return web.json_response(found)

    async def _result(self, request: web.Request) -> web.Response:
        wanted = request.match_info["result_id"]
        found = self._run.recent.whole(wanted) or await self._run.desk.whole(wanted)
        if found is None:
            raise web.HTTPNotFound(reason="this result is not among the recent ones (any more)")
        return web.json_response(found)

    async def _review(self, request: web.Request) -> web.Response:
        return web.json_response(
            await self._run.desk.listing(
                request.query.get("state", "waiting"),
                _number(request, "offset", 0, 10**9),
                _number(request, "limit", 100, _MOST_ROWS),
            )
        )

    async def _decide(self, request: web.Request) -> web.Response:
        self._check(request)
        wish = await _body(request)
        said = await self._run.desk.decide(
            request.match_info["result_id"],
            str(wish.get("decision", "")),
            str(wish.get("by", "")),
            str(wish.get("note", "")),
        )
        return web.json_response({"done": said})

    async def _act(self, request: web.Request) -> web.Response:
        self._check(request)
        name = request.path.rsplit("/", 1)[1]
        done = await self._actions.do(name, await _body(request))
        self._snapshots.forget()
        return web.json_response({"done": done})

    def _check(self, request: web.Request) -> None:
        if self._token is None:
            raise web.HTTPForbidden(
                reason="nobody may act from here: set status.token (LOOKBACK_STATUS__TOKEN)"
            )
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPUnauthorized(reason="the token is missing or wrong")


@asynccontextmanager
async def serve(
    run: Run, location: str | None = None, settings_file: Path | None = None
) -> AsyncIterator[tuple[str | None, Snapshots]]:
    """Answer while the context lasts; yields the page's address (None: there is none).

    Raises:
        SettingsError: the port is taken, or the address is none of this machine's.
    """
    given = run.settings.status
    actions = Actions(run, location, settings_file)
    snapshots = Snapshots(run, actions.background)
    if given.port == 0:
        yield None, snapshots
        return
    runner = web.AppRunner(Server(run, actions, snapshots).app(), access_log=None)
    await runner.setup()
    try:
        yield await _listen(runner, given.host, given.port), snapshots
    finally:
        await actions.close()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int | None) -> str:
    """Where it can be reached; another port where the usual one is taken and none was asked for."""
    wanted = [PORT, 0] if port is None else [port]
    for each in wanted:
        site = web.TCPSite(runner, host, each)
        try:
            await site.start()
        except OSError as error:
            if each is wanted[-1]:
                raise SettingsError(
                    f"status.port {each} on {host} cannot be used ({error.strerror}): choose "
                    "another, or 0 for no page"
                ) from error
            await site.stop()
            continue
        break
    taken = runner.addresses[-1][1]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{taken}/"


def _verdict(found: health.Verdict) -> web.Response:
    body = {"ok": found.ok, "reasons": list(found.reasons)}
    return web.json_response(body, status=200 if found.ok else 503)


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise web.HTTPBadRequest(reason=f"{name} is a whole number")
    return min(int(text), most)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.text() or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(reason="the body is no JSON object")
    return found


def _said(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": logs.redacted(sentence)}, status=status)
