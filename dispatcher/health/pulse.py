"""The pulse of a lane: what its loop does now, and since when."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from dispatcher.clock import Clock


class Doing(StrEnum):
    """What a lane does; as a word that a person reads."""

    OPENING = "opening its source"
    TAKING = "taking events"
    ACCEPTING = "accepting events"
    HELD = "held back by credit"
    PAUSED = "paused"
    DRAINING = "finishing what is under way"
    COMMITTING = "committing"
    ENDED = "ended"


_MAY_LAST: Final = frozenset({Doing.OPENING, Doing.HELD, Doing.PAUSED, Doing.ENDED})
"""The loop waits for something outside of it: a broker, a sink, money, a person. Nothing hangs."""


@dataclass(slots=True)
class Pulse:
    """Told of every turn of the loop."""

    clock: Clock
    doing: Doing = Doing.OPENING
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock.monotonic()

    def beat(self, doing: Doing) -> None:
        """Another turn, or another part of one."""
        self.doing, self._since = doing, self.clock.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat; 0 while the loop does what may last as long as it wants."""
        return 0.0 if self.doing in _MAY_LAST else self.clock.monotonic() - self._since
