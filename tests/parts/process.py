"""A server as a child process: started on a free port, killed, started again on the same one."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_START_S = 30.0
_ATTEMPTS = 3  # another process may take the free port first


@dataclass
class Server:
    """A server that can be killed and started again. `address` is host:port."""

    command: Callable[[int], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, on the same port as before when there was one; returns when it listens."""
        for _ in range(_ATTEMPTS):
            port = self.port or free_port()
            self.process = subprocess.Popen(
                self.command(port),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **self.environment, "SERVER_PORT": str(port)},
            )
            if _listens(port, self.process):
                self.port = port
                return
            self.kill()
        raise RuntimeError(f"{self.command(0)[0]} does not start")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def terminate(self, timeout_s: float = 20.0) -> None:
        """Ask it to end, and wait until it did."""
        if self.process:
            self.process.terminate()
            self.process.wait(timeout_s)
            self.process = None


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, started; killed at the end."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _listens(port: int, process: subprocess.Popen) -> bool:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process.poll() is None
        time.sleep(0.02)
    return False
