"""The trail of an event: what was done with it, and when. In the end a trace is made of it.

Few events have one (`traces.share`); for all others a trail is None, and nobody writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, NamedTuple

Facts = Mapping[str, str | int | float | bool]

NO_FACTS: Final[Facts] = MappingProxyType({})


class Ids(NamedTuple):
    """Which span of which trace."""

    trace: int
    span: int


class Kind(Enum):
    """What a step is to others."""

    INSIDE = auto()
    TAKES = auto()
    """It begins with what somebody sent."""
    ASKS = auto()
    """Somebody else is asked to do something."""


@dataclass(slots=True, eq=False)
class Shared:
    """A call that many events were part of. Times in monotonic seconds.

    `root`: the ids of its span, once that was sent.
    """

    start: float
    end: float
    facts: Facts
    root: Ids | None = None


class Step(NamedTuple):
    """One thing that was done. Times in monotonic seconds; `error`: why it was in vain.

    `inside`: what is known of its parts.
    """

    name: str
    start: float
    end: float
    facts: Facts = NO_FACTS
    error: str | None = None
    inside: tuple[Step, ...] = ()
    shared: Shared | None = None


@dataclass(slots=True, eq=False)
class Trail:
    """Steps of one event, without a gap. `started`: when it was taken (monotonic seconds).

    `until`: where the last step ended, and the next begins. `paid`: what the calls so far have cost
    it (pico-dollars). `root`: the ids of the event's span, once that was sent.
    """

    monotonic: Callable[[], float]
    started: float
    until: float
    steps: list[Step] = field(default_factory=list)
    paid: int = 0
    root: Ids | None = None

    def step(
        self,
        name: str,
        facts: Facts = NO_FACTS,
        error: str | None = None,
        inside: tuple[Step, ...] = (),
        shared: Shared | None = None,
    ) -> None:
        """All that was since the last step was this."""
        now = self.monotonic()
        self.steps.append(Step(name, self.until, now, facts, error, inside, shared))
        self.until = now

    def beside(self, name: str, facts: Facts) -> Step:
        """One of several things that are done at once: each begins where the last step ended."""
        made = Step(name, self.until, self.monotonic(), facts)
        self.steps.append(made)
        return made

    def settle(self) -> Step:
        """The last step: what was done at once is over, as far as somebody waited for it."""
        begin = max((each.end for each in self.steps), default=self.until)
        made = Step("settle", begin, self.monotonic())
        self.steps.append(made)
        return made
