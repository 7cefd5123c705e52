"""What is counted of a night: rates, latencies, redshifts. Constant memory, however long it is."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from dispatcher.books import Outcome
from dispatcher.clock import Clock
from dispatcher.conclusions import Conclusion
from dispatcher.latency import LatencyHistogram
from sinks.deadletters import DeadLetter
from sinks.record import ResultRecord, Status

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
    edges: Sequence[float] = ()
    """Rising redshifts between which estimates are counted as well (see `in_bins`)."""
    in_bins: list[int] = field(init=False)
    flagged: Counter[int] = field(default_factory=Counter)
    """Estimates by quality flag (one bit)."""
    out_of_domain: int = 0
    """Events that the model refused to estimate."""
    started: float = field(init=False)
    last: float | None = None
    first: float | None = None

    def __post_init__(self) -> None:
        self.started = self.clock.monotonic()
        self.in_bins = [0] * (len(self.edges) + 1)

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
                self._count_estimate(row.z_median, row.quality_flag or 0)
            else:
                self.out_of_domain += row.status == Status.OUT_OF_DOMAIN
                self.reasons[f"not applicable: {row.status}"] += 1
        if conclusion.outcome is Outcome.WRITTEN:
            self.latency.add(now - conclusion.errand.started)

    def _count_estimate(self, z: float, flags: int) -> None:
        self.redshifts[int(z / _Z_BIN)] += 1
        self.in_bins[bisect_right(self.edges, z)] += 1
        while flags:
            lowest = flags & -flags
            self.flagged[lowest] += 1
            flags ^= lowest

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
