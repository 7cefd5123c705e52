"""A delivery on its way: an errand, and the question it puts to the model."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcher.assignment import Assignment
from dispatcher.traces.trail import Trail
from ingest.events import Delivery, Event, Stamp
from workers.wire import Item


@dataclass(slots=True, eq=False)
class Errand:
    """A delivery that was taken and must be settled. `started`: monotonic seconds.

    `assignment`: the stay of its partition that it was taken under. `trail`: of one that is traced.
    """

    delivery: Delivery
    started: float
    assignment: Assignment
    trail: Trail | None = None


@dataclass(frozen=True, slots=True)
class Identified:
    """An errand whose event is known and new: its stamp has still to be found.

    `key` is the result key.
    """

    errand: Errand
    event: Event
    key: str


@dataclass(slots=True)
class Question:
    """An errand whose event has a stamp: what is batched and sent to the workers.

    `key` is the result key. `attempts` counts the calls that it was part of, `cost` is its share of
    what those cost (pico-dollars); `failed_alone`: how often it was lost with its worker alone.
    """

    errand: Errand
    event: Event
    stamp: Stamp
    key: str
    attempts: int = 0
    cost: int = 0
    failed_alone: int = 0

    def item(self) -> Item:
        """What the model takes."""
        return Item(self.key, self.stamp.image, self.stamp.magnitudes)

    @property
    def spent(self) -> tuple[int, int]:
        """Attempts and cost."""
        return self.attempts, self.cost
