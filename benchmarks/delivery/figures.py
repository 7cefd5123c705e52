"""What was found, and the figures that are compared from release to release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.delivery import side
from benchmarks.delivery.plans import BY_BATCH, BY_EVENT
from benchmarks.delivery.runs import Compared


@dataclass(frozen=True, slots=True)
class Found:
    """All that was measured; what only a full run measures is None else."""

    small: Compared
    large: Compared
    even: Compared
    drained: Compared
    overhead: dict[int, float]
    uneven: Compared | None = None
    decoded: Compared | None = None
    memory: dict[int, float] | None = None
    visit: dict[str, Any] | None = None

    def headline(self) -> dict[str, float]:
        """The figures of the last line."""
        ours, bare = side.LOOKBACK, side.BARE
        figures = {
            "kafka_1KB_vs_bare": self.small.ratio(ours, bare),
            "kafka_1KB_vs_bare_cpu": self.small.cpu_ratio(ours, bare),
            "kafka_80KB_vs_bare": self.large.ratio(ours, bare),
            "kafka_80KB_vs_bare_cpu": self.large.cpu_ratio(ours, bare),
            "kafka_1KB_per_s": self.small.rate(ours),
            "kafka_80KB_per_s": self.large.rate(ours),
            "vs_best_peer": _over(self.even, BY_EVENT),
            "vs_best_batch": _over(self.even, BY_BATCH),
            "work_5ms_per_s": self.even.rate(side.LOOKBACK_WORK),
            "sqs_vs_bare": self.drained.ratio(side.LOOKBACK_QUEUE, side.BARE_QUEUE),
            "us_per_event": self.overhead[1_000],
            "us_per_event_growth": self.overhead[10_000] / self.overhead[10],
        }
        figures |= {f"us_per_event_{depth}": us for depth, us in self.overhead.items()}
        return {name: round(value, 3) for name, value in (figures | self._of_full()).items()}

    def _of_full(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        if side.BARE_FOR in self.small.sides:
            figures["kafka_1KB_vs_async_for"] = self.small.ratio(side.LOOKBACK, side.BARE_FOR)
        if self.uneven:
            figures["vs_best_batch_uneven"] = _over(self.uneven, BY_BATCH)
        if self.decoded:
            ratio = self.decoded.ratio(side.DECODED, side.BARE)
            figures["kafka_1KB_decoded_vs_bare"] = ratio
            figures["kafka_1KB_decoded_per_s"] = self.decoded.rate(side.DECODED)
        if self.memory:
            first, last = min(self.memory), max(self.memory)
            figures["rss_growth_mib"] = self.memory[last] - self.memory[first]
        if self.visit:
            for name in ("p50_s", "p98_s", "lag_peak", "rss_peak_mib"):
                figures[f"visit_{name}"] = self.visit[name]
        return figures


def _over(found: Compared, peers: tuple[str, ...]) -> float:
    """How many times as fast as the fastest of the peers."""
    return found.ratio(side.LOOKBACK_WORK, found.best(peers))
