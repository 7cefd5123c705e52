"""What runs on a worker of a Dask cluster: one invocation of the handler."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dispatcher.invokers import Context
from dispatcher.invokers.memory import memory_mb

_MARK = re.compile(r"^lookback at (\d+)$", re.MULTILINE)
_begun: set[str] = set()


class BegunBefore(Exception):
    """The scheduler has sent a task again that this process has begun."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an invocation gave: JSON in `result`, or what the handler raised (`error`: its type)."""

    result: bytes
    billed_ms: int
    init_ms: int
    max_memory_mb: int | None
    error: str | None = None
    message: str = ""
    reached: int | None = None


def prepare(environment: Mapping[str, str], handler: str) -> int:
    """Load the handler in this process, with its model; returns the process id."""
    os.environ.update(environment)
    _load(handler)
    if handler.startswith("workers."):
        from workers.shelf import shelf

        shelf()
    return os.getpid()


def answer(key: str, payload: bytes, deadline_s: float, handler: str) -> Said:
    """Run the handler once.

    Raises:
        BegunBefore: see there.
    """
    if key in _begun:
        raise BegunBefore(key)
    _begun.add(key)
    started, printed = time.monotonic(), io.StringIO()
    context = Context(key, started + deadline_s)
    result, error, message = b"", None, ""
    try:
        # For the whole process: so a worker has one thread.
        with contextlib.redirect_stdout(printed):
            result = json.dumps(_load(handler)(json.loads(payload), context)).encode()
    except Exception as raised:  # noqa: BLE001 - whatever a handler raises is its answer
        error, message = type(raised).__name__, str(raised)
    marks = _MARK.findall(printed.getvalue())
    return Said(
        result,
        math.ceil(1000 * (time.monotonic() - started)),
        0,
        memory_mb("self", "VmHWM"),
        error,
        message,
        int(marks[-1]) if marks else None,
    )


def _load(handler: str) -> Callable[[Any, Any], Any]:
    module, _, name = handler.rpartition(".")
    found: Callable[[Any, Any], Any] = getattr(importlib.import_module(module), name)
    return found
