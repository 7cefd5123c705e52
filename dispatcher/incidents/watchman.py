"""What nobody logs by itself, because it shows only over some time: looked for once a second."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from dispatcher.books import Outcome
from dispatcher.clock import Clock
from dispatcher.conclusions import Conclusion
from sinks.deadletters import DeadLetter

_LOOK_S: Final = 1.0
_JUMP_S: Final = 2.0
"""NTP slews by less; a machine that wakes up, or a person with `date`, does not."""
_FLOOD_WINDOW_S: Final = 60.0
_FLOOD: Final = 20
_FLOOD_SHARE: Final = 0.2
_DYING: Final = 3  # workers in that window
_GROWING_S: Final = 60.0
_SCHEMAS: Final = frozenset({"unknown_schema", "bad_schema"})

_log = structlog.get_logger()


@dataclass(slots=True)
class Watchman:
    """Watches one run. `oldest_s`: age of its oldest open event; `lost`: workers lost so far.

    `late_s`: the age that is meant not to be reached (the objective of the lane).
    """

    clock: Clock
    oldest_s: Callable[[], float]
    lost: Callable[[], int]
    late_s: float
    jumps: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    """Dead letters of this run by reason."""
    _offset: float | None = None
    _settled: int = 0
    _history: deque[tuple[float, int, int, int]] = field(default_factory=deque)
    """(monotonic s, settled, dead, workers lost)."""
    _told: tuple[int, int] = (0, 0)
    """Dead letters and workers lost when a flood of them was told last."""
    _late_since: tuple[float, float] | None = None
    _growing: bool = False

    def note(self, conclusion: Conclusion) -> None:
        """Be told of a settled errand."""
        self._settled += 1
        if conclusion.outcome is Outcome.DEAD and isinstance(conclusion.row, DeadLetter):
            reason = conclusion.row.reason
            self.dead[reason] += 1
            if reason in _SCHEMAS:
                _log.warning(
                    "events come with a schema that is not known: they become dead letters",
                    incident="bad_schema",
                    reason=reason,
                    detail=conclusion.row.detail,
                )

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Once."""
        now = self.clock.monotonic()
        self._look_at_clock(now)
        self._look_at_age(now)
        self._history.append((now, self._settled, self.dead.total(), self.lost()))
        while now - self._history[0][0] > _FLOOD_WINDOW_S:
            self._history.popleft()
        self._look_at_floods()

    def _look_at_clock(self, now: float) -> None:
        offset = self.clock.now() - now
        before, self._offset = self._offset, offset
        if before is not None and abs(offset - before) > _JUMP_S:
            self.jumps += 1
            _log.warning(
                "the clock of this machine has jumped",
                incident="clock_jump",
                subject=str(self.jumps),
                by_s=round(offset - before, 1),
            )

    def _look_at_age(self, now: float) -> None:
        """Growing: over the objective for a minute, and older at its end than at its begin."""
        age = self.oldest_s()
        if age <= self.late_s:
            self._late_since = None
            if self._growing:
                self._growing = False
                _log.info("events are answered in time again", ended="lag_growing")
            return
        if self._late_since is None:
            self._late_since = now, age
        since, first = self._late_since
        if not self._growing and now - since >= _GROWING_S and age > first:
            self._growing = True
            _log.warning(
                "events wait longer and longer",
                incident="lag_growing",
                oldest_s=round(age, 1),
                objective_s=self.late_s,
            )

    def _look_at_floods(self) -> None:
        _, settled, dead, lost = self._history[0]
        _, settled_now, dead_now, lost_now = self._history[-1]
        died, all_ = dead_now - dead, settled_now - settled
        dead_told, lost_told = self._told
        if died >= _FLOOD and died > _FLOOD_SHARE * all_ and dead_now > dead_told:
            dead_told = dead_now
            _log.warning(
                "many events become dead letters",
                incident="poison_flood",
                dead=died,
                of=all_,
                most=self.dead.most_common(1)[0][0],
            )
        if lost_now - lost >= _DYING and lost_now > lost_told:
            lost_told = lost_now
            _log.warning(
                "workers end before they answer", incident="worker_dying", lost=lost_now - lost
            )
        self._told = dead_told, lost_told
