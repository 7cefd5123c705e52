"""The servers are those of the tests, each on a free port of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from parts.aws import ACCESS, ministack
from parts.kafka import noida
from parts.postgres import postgres

__all__ = ["ACCESS", "DESTINATIONS", "destination"]

DESTINATIONS = ("disk", "postgres", "kafka", "aws")


@contextmanager
def destination(kind: str, folder: Path) -> Iterator[str]:
    """Where a side writes to: a folder, a DSN, host:port or a URL."""
    folder.mkdir()
    match kind:
        case "postgres":
            with postgres() as server:
                yield server.dsn
        case "kafka":
            with noida(folder) as broker:
                yield broker.address
        case "aws":
            with ministack(folder) as account:
                yield f"http://{account.address}"
        case "disk":
            yield str(folder)
