"""What is counted of a night: rates, latencies, redshifts. Constant memory, however long it is."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from dispatcher.books import Outcome
from dispatcher.clock import Clock
from dispatcher.conclusions import Conclusion
from dispatcher.latency import LatencyHistogram
from sinks.deadletters import DeadLetter
from sinks.record import ResultRecord

_Z_BIN: Final = 0.02
_RATE_WINDOW_S: Final = 10


@dataclass(slots=True)
class Night:
    """Counts of one run, fed with every settled errand."""

    clock: Clock
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    per_second: dict[int, Counter[Outcome]] = field(default_factory=dict)
    redshifts: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    started: float = field(init=False)
    last: float | None = None
    first: float | None = None

    def __post_init__(self) -> None:
        self.started = self.clock.monotonic()

    def count(self, conclusion: Conclusion) -> None:
        """Count one settled errand."""
        now = self.clock.monotonic()
        self.first = now if self.first is None else self.first
        self.last = now
        second = int(now - self.started)
        self.per_second.setdefault(second, Counter())[conclusion.outcome] += 1
        row = conclusion.row
        if isinstance(row, DeadLetter):
            self.reasons[f"dead: {row.reason}"] += 1
        elif isinstance(row, ResultRecord):
            if row.z_median is not None:
                self.redshifts[int(row.z_median / _Z_BIN)] += 1
            else:
                self.reasons[f"not applicable: {row.status}"] += 1
        if conclusion.outcome is Outcome.WRITTEN:
            self.latency.add(now - conclusion.errand.started)

    def estimates(self) -> int:
        """Redshifts written in this run."""
        return sum(each[Outcome.WRITTEN] for each in self.per_second.values())

    def rate(self) -> float:
        """Estimates per second over the last ten full seconds."""
        now = int(self.clock.monotonic() - self.started)
        window = range(max(0, now - _RATE_WINDOW_S), now)
        return sum(
            self.per_second[each][Outcome.WRITTEN] for each in window if each in self.per_second
        ) / max(1, len(window))

    def mean_rate(self) -> float | None:
        """Estimates per second from the start of the lane to the last settled errand."""
        if self.last is None or self.last <= self.started:
            return None
        return self.estimates() / (self.last - self.started)

    def redshift_edges(self) -> list[tuple[float, int]]:
        """Lower edge and count of each redshift bin that is not empty."""
        return [(n * _Z_BIN, self.redshifts[n]) for n in sorted(self.redshifts)]


def utc(seconds: float) -> str:
    """Unix seconds as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
