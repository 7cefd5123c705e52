"""How much of the processors others have used meanwhile, which is what spoils a figure."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import psutil


class Outside:
    """Processor time from its creation on that neither this process nor its children used."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._others_s = _all_s() - _own_s()

    def share(self) -> float:
        """Of all cores' time. Ask before the children end: who is gone is not counted as ours."""
        cores = os.cpu_count() or 1
        elapsed_s = time.monotonic() - self._started
        others_s = _all_s() - _own_s() - self._others_s
        return max(0.0, others_s / (cores * elapsed_s))


def _all_s() -> float:
    times = psutil.cpu_times()
    busy: float = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    return busy  # with what the host has taken away: steal


def _own_s() -> float:
    own, used_s = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            used_s += sum(process.cpu_times()[:2])
    return used_s
