"""How much is sent, when, and what it will cost: the policy of a lane."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Protocol

from dispatcher.calls import sizing
from dispatcher.calls.durations import Durations, Fit
from dispatcher.calls.sizing import Limits, Size, Target
from dispatcher.ledger.accounts import Quote
from dispatcher.ledger.prices import Tariff

_TIGHT_GROWTH: Final = 2.0
"""Near a cap, a batch may wait for as many times the objective: late is better than not at all."""


_ENOUGH: Final = 30
"""Calls seen before a late one is known to be late."""
_FAR: Final = 2.0
"""Times p95 at which a call is far too late."""


class Policy(Protocol):
    """Decides for one lane. Called at every turn of the event loop: answers take microseconds."""

    @property
    def most(self) -> int:
        """Items that one worker can take."""

    @property
    def objective_s(self) -> float:
        """Seconds in which an answer should be there; infinite without an objective."""

    def size(self) -> Size:
        """The size at which a batch is sent at once, if there is a worker."""

    def due_in(self, waiting: int, oldest_age_s: float, *, tight: bool) -> float:
        """Seconds until so many waiting questions must be sent, full or not; may be infinite.

        `tight`: money runs short.
        """

    def ranks(self, items: int, oldest_age_s: float) -> int:
        """How many workers share so many items."""

    def quote(self, items: int, ranks: int) -> Quote:
        """What that costs."""

    def patience_s(self, items: int) -> float:
        """After how long a call is so late that a second one is worth its money."""

    def ratio(self, items: int, seconds: float) -> float:
        """Measured to predicted duration."""

    def learn(self, items: int, seconds: float, cold_s: float) -> None:
        """A worker took so long for so many items; `cold_s`: for its start, not in `seconds`."""


@dataclass(slots=True)
class Adaptive:
    """The least dollars per item inside the objective, by what was measured so far.

    `linger_s`: where calls are free, an idle worker waits for company no longer than this; None
    where they cost money, and waiting pays.
    """

    durations: Durations
    tariff: Tariff
    limits: Limits
    target: Target
    deadline_s: float
    linger_s: float | None = None
    _fit: Fit | None = None
    _size: Size | None = None
    _quotes: dict[tuple[int, int], Quote] | None = None

    def _current(self) -> Fit:
        fit = self.durations.fit
        if fit is not self._fit:
            self._fit, self._size, self._quotes = fit, None, {}
        return fit

    @property
    def most(self) -> int:
        """See `Policy.most`."""
        return self.limits.items

    @property
    def objective_s(self) -> float:
        """See `Policy.objective_s`."""
        return math.inf if self.target.objective_s is None else self.target.objective_s

    def size(self) -> Size:
        """See `Policy.size`."""
        fit = self._current()
        if self._size is None:
            self._size = sizing.full(fit, self.tariff, self.limits, self.target)
        return self._size

    def due_in(self, waiting: int, oldest_age_s: float, *, tight: bool) -> float:
        """See `Policy.due_in`."""
        if self.linger_s is not None and not tight:
            return self.linger_s - oldest_age_s
        target = self.target
        if tight and target.objective_s is not None:
            target = replace(target, objective_s=_TIGHT_GROWTH * target.objective_s)
        return sizing.due_in(self._current(), self.limits, target, waiting, oldest_age_s)

    def ranks(self, items: int, oldest_age_s: float) -> int:
        """See `Policy.ranks`."""
        return sizing.ranks_for(self._current(), self.limits, self.target, items, oldest_age_s)

    def quote(self, items: int, ranks: int) -> Quote:
        """See `Policy.quote`."""
        fit = self._current()
        quotes = self._quotes if self._quotes is not None else {}
        found = quotes.get((items, ranks))
        if found is None:
            found = sizing.quote(fit, self.tariff, items, ranks, self.deadline_s)
            quotes[items, ranks] = found
        return found

    def patience_s(self, items: int) -> float:
        """See `Policy.patience_s`. Infinite while too little is known.

        Near p99; where more than one call in a hundred is far too late, p99 is as late as those.
        While there are cold starts it may be one, and a second call would only be another.
        """
        fit = self._current()
        if fit.observations < _ENOUGH:
            return math.inf
        warm_s = min(fit.p99, _FAR * fit.p95) * fit.predict(items)
        return warm_s + (fit.cold_s if fit.cold_share else 0.0)

    def ratio(self, items: int, seconds: float) -> float:
        """See `Policy.ratio`."""
        return seconds / max(self._current().predict(items), 1e-6)

    def learn(self, items: int, seconds: float, cold_s: float) -> None:
        """See `Policy.learn`."""
        self.durations.observe(items, seconds, cold_s)
