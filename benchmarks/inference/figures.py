"""What the rounds say: medians, spreads, ratios round by round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.inference.names import ENGINE, ESTIMATE, LOOP

GFLOP: Final = 0.222
"""Of one image, before anything is folded: multiplications and additions of the plain model."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rates (images or GFLOP a processor second) and seconds of each side, round by round."""

    found: dict[str, dict[str, list[float]]]

    def rate(self, side: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.found[side]["rates"])

    def spread(self, side: str) -> tuple[float, float]:
        """The lowest and the highest."""
        rates = self.found[side]["rates"]
        return min(rates), max(rates)

    def best(self, prefix: str) -> str:
        """The fastest of the sides whose names begin so."""
        return max((name for name in self.found if name.startswith(prefix)), key=self.rate)

    def ratio(self, one: str, other: str) -> float:
        """How many times as fast `one` is, round by round."""
        pairs = zip(self.found[one]["rates"], self.found[other]["rates"], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def headline(self) -> dict[str, float]:
        """The figures of the last line."""
        estimate, engine = self.best(f"{ESTIMATE} "), self.best(f"{ENGINE} ")
        # One item is measured a hundred times a round.
        one = [each / 96 for each in self.found[f"{ESTIMATE} 1"]["seconds"]]
        rate = self.best("matrix ")
        figures = {
            "images_per_s_core": self.rate(estimate),
            "vs_cai_loop": self.ratio(engine, LOOP),
            "vs_cai_first_batch": self.rate(engine) / self.rate(f"{LOOP}, first batch"),
            "vs_eager": self.ratio(engine, self.best("eager ")),
            "fraction_of_matrix_rate": GFLOP * self.ratio(engine, rate),
            "matrix_gflop_per_s": self.rate(rate),
            "batch1_ms": 1e3 * statistics.median(one),
            "estimator_share": 1 - self.ratio(f"{ESTIMATE} 128", f"{ENGINE} 128"),
        }
        if any(name.startswith("bfloat16 ") for name in self.found):
            figures["vs_cai_loop_bfloat16"] = self.ratio(self.best("bfloat16 "), LOOP)
        return figures

    def by_batch(self, name: str) -> dict[str, float]:
        """Images a second of one side, by its batch."""
        sides = [each for each in self.found if each.rpartition(" ")[0] == name]
        return {each.rpartition(" ")[2]: round(self.rate(each), 1) for each in sides}


def details(rounds: Rounds) -> dict[str, Any]:
    """Images a second by batch, of the sides that have several."""
    return {name: rounds.by_batch(name) for name in (ESTIMATE, ENGINE, "eager", "bfloat16")}
