"""The books: received = written + duplicate + filtered + not applicable + dead + in flight.

The three sides are counted at three places: `received` where a delivery is taken from the
source, the outcomes where it is settled, and `in flight` by the trackers of its partitions.
They are compared and not derived from each other, so that a lost or doubled event shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a delivery was settled."""

    WRITTEN = "written"
    DUPLICATE = "duplicate"
    FILTERED = "filtered"
    NOT_APPLICABLE = "not_applicable"
    DEAD = "dead"


@dataclass(slots=True)
class Page:
    """The books of one source partition."""

    received: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    @property
    def settled(self) -> int:
        """Deliveries that have their answer in every sink."""
        return sum(self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Totals:
    """The books summed over partitions; `in_flight` as the trackers see it."""

    received: int
    outcomes: Mapping[Outcome, int]
    in_flight: int

    @property
    def difference(self) -> int:
        """Received minus all that is accounted for: zero when the books balance."""
        return self.received - sum(self.outcomes.values()) - self.in_flight

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing and nothing is counted twice."""
        return self.difference == 0

    def to_json(self) -> dict[str, int | bool]:
        """Flat counts, for summaries and logs."""
        counts = {outcome.value: self.outcomes.get(outcome, 0) for outcome in Outcome}
        return {
            "received": self.received,
            **counts,
            "in_flight": self.in_flight,
            "balanced": self.balanced,
        }

    def __str__(self) -> str:
        parts = " + ".join(
            f"{self.outcomes.get(outcome, 0)} {outcome.value.replace('_', ' ')}"
            for outcome in Outcome
        )
        sign = "=" if self.balanced else "≠"
        return f"{self.received} received {sign} {parts} + {self.in_flight} in flight"


def total(pages: Iterable[Page], in_flight: int = 0) -> Totals:
    """Sum pages into totals."""
    received, outcomes = 0, Counter[Outcome]()
    for page in pages:
        received += page.received
        outcomes.update(page.outcomes)
    return Totals(received, outcomes, in_flight)
