"""The board: listens to the log and keeps what is wrong now, and what was lately."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from dispatcher.incidents.faults import FAULTS, Fault

_KEPT: Final = 200
_SHOWN: Final = frozenset({"warning", "error", "critical"})
_FRAME: Final = frozenset({"event", "level", "timestamp", "incident", "ended", "subject", "run"})


@dataclass(slots=True)
class Incident:
    """One thing that is wrong, or was. Times in unix seconds; `count`: how often it was said."""

    fault: Fault
    subject: str
    message: str
    facts: Mapping[str, Any]
    since: float
    last: float
    count: int = 1
    over: float | None = None

    @property
    def open(self) -> bool:
        """Whether it still is."""
        return self.over is None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log that a person should know of."""

    when: float
    level: str
    event: str
    facts: Mapping[str, Any]


class Board:
    """A processor of structlog that passes lines on, and each incident only once.

    While an incident is open, what says it again is counted and dropped. `counts`: how often each
    fault has begun; `lines`: the latest warnings and errors; `now`: unix seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.counts = Counter[str]()
        self.lines: deque[LogLine] = deque(maxlen=_KEPT)
        self._now = now
        self._open: dict[tuple[str, str], Incident] = {}
        self._closed: deque[Incident] = deque(maxlen=_KEPT)

    def __call__(
        self, _: object, method: str, entry: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """See `structlog.typing.Processor`.

        Raises:
            structlog.DropEvent: this is known already.
        """
        if name := entry.get("ended"):
            self._end(str(name), str(entry.get("subject", "")))
        elif (name := entry.get("incident")) and not self._begin(str(name), entry):
            raise structlog.DropEvent
        if method in _SHOWN:
            line = LogLine(self._now(), method, str(entry.get("event", "")), _facts(entry))
            self.lines.append(line)
        return entry

    def _begin(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Whether it is news."""
        now, key = self._now(), (name, str(entry.get("subject", "")))
        self._expire(now)
        if known := self._open.get(key):
            known.last, known.count, known.facts = now, known.count + 1, _facts(entry)
            return False
        message = str(entry.get("event", ""))
        self._open[key] = Incident(FAULTS[name], key[1], message, _facts(entry), now, now)
        self.counts[name] += 1
        return True

    def _end(self, name: str, subject: str) -> None:
        if found := self._open.pop((name, subject), None):
            found.over = self._now()
            self._closed.append(found)

    def _expire(self, now: float) -> None:
        """Close those of which nothing was heard for long, where nobody can tell the end."""
        for (name, subject), each in list(self._open.items()):
            if each.fault.lasts_s is not None and now - each.last > each.fault.lasts_s:
                self._end(name, subject)

    def is_open(self, name: str, subject: str = "") -> bool:
        """Whether such an incident lasts."""
        self._expire(self._now())
        return (name, subject) in self._open

    def open(self) -> list[Incident]:
        """Those that last, the latest first."""
        self._expire(self._now())
        return sorted(self._open.values(), key=lambda each: -each.since)

    def recent(self) -> list[Incident]:
        """Those that last, then those that are over, each the latest first."""
        return [*self.open(), *reversed(self._closed)]


def _facts(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in _FRAME}


def current_board() -> Board:
    """The board that listens to this process's log; one that hears nothing, if there is none."""
    for each in structlog.get_config()["processors"]:
        if isinstance(each, Board):
            return each
    return Board()
