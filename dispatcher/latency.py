"""Latency quantiles in constant memory."""

from __future__ import annotations

import math

_GROWTH = 1.02  # a bucket is 2 % wide: a quantile is right to 1 %
_SMALLEST_S = 1e-4


class LatencyHistogram:
    """Counts of durations in logarithmic buckets from 0.1 ms upwards.

    A night has millions of events, so their latencies are not kept.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count one duration, so many times."""
        bucket = math.ceil(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S, _GROWTH))
        self._counts[bucket] = self._counts.get(bucket, 0) + times
        self.count += times

    def quantile(self, fraction: float) -> float | None:
        """The duration (s) that `fraction` of all stay below; None when there are none."""
        if not self.count:
            return None
        wanted, seen = fraction * self.count, 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                break
        return _SMALLEST_S * math.pow(_GROWTH, bucket - 0.5)

    def counts(self) -> list[tuple[float, int]]:
        """Upper edge (s) and count of every bucket that is not empty, in rising order."""
        return [(_SMALLEST_S * _GROWTH**each, self._counts[each]) for each in sorted(self._counts)]
