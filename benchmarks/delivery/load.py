"""How long the work of an event takes: the same for all sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

WORK_S: Final = 0.005
SLOW_S: Final = 0.5
SLOW_ONE_IN: Final = 100


def seconds(kind: str) -> Callable[[int], float]:
    """Seconds of work at an offset: `even`, or `uneven` with one in a hundred much slower."""
    if kind == "even":
        return lambda _: WORK_S
    return lambda offset: SLOW_S if offset % SLOW_ONE_IN == SLOW_ONE_IN - 1 else WORK_S
