"""Python's garbage collector, set for a service that makes and drops many small objects."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 10, 10)


def ease() -> None:
    """Let the collector look less often, and never again at what is there already.

    An event is some ten small objects that reference counting frees. Python's default is to look
    for cycles after every 700 new ones, through all that thousands of events in flight hold: that
    was half of the time that the lane took for an event. To be called when all is loaded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
