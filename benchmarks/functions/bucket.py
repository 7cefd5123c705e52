"""A bucket on this machine that counts what is read from it: the counted part is real."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(slots=True)
class Bucket:
    """Serves `objects` by ranges. `requests` and `bytes`: what was read since they were set."""

    objects: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0
    bytes: int = 0
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        app = web.Application()
        app.router.add_get("/{key}", self._on_get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def close(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    def address(self, key: str) -> dict[str, Any]:
        """See `workers.payload`."""
        raw = self.objects[key]
        sha256 = hashlib.sha256(raw).hexdigest()
        return {"url": f"{self.url}/{key}", "start": 0, "length": len(raw), "sha256": sha256}

    async def _on_get(self, request: web.Request) -> web.Response:
        first, last = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        body = self.objects[request.match_info["key"]][first : last + 1]
        self.requests += 1
        self.bytes += len(body)
        return web.Response(status=206, body=body)
