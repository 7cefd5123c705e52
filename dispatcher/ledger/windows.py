"""When money counts: rows of time in which spending is kept, and which of them a window looks at.

A window that slides is counted in whole rows, and always in one more rather than one less: a minute
in 61 rows of a second, an hour in 361 rows of ten seconds. So a cap may hold a little early, and
never late.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from dispatcher.ledger.accounts import Window

_DAY_S: Final = 86400


class Span(StrEnum):
    """How long a row of spending is."""

    SECOND = "second"
    TEN = "ten"
    HOUR = "hour"
    NIGHT = "night"
    MONTH = "month"


KEPT_S: Final[Mapping[Span, int]] = {Span.SECOND: 120, Span.TEN: 3700}
"""Seconds after which no window looks at a row any more; the others are kept for ever."""

_ROW_S: Final = {Span.SECOND: 1, Span.TEN: 10, Span.HOUR: 3600}
_SLIDING: Final = {Window.MINUTE: (Span.SECOND, 60), Window.HOUR: (Span.TEN, 3600)}
_CALENDAR: Final = {Window.NIGHT: Span.NIGHT, Window.MONTH: Span.MONTH}


@dataclass(frozen=True, slots=True)
class Calendar:
    """Knows where windows begin. `noon_utc_h`: hour (UTC) of noon at the observatory."""

    noon_utc_h: float = 12.0

    def row(self, span: Span, when: float) -> int:
        """Start (unix seconds) of the row that `when` is in."""
        if span is Span.MONTH:
            day = datetime.fromtimestamp(when, UTC)
            return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp())
        if span is Span.NIGHT:
            noon = round(self.noon_utc_h * 3600)
            return math.floor((when - noon) / _DAY_S) * _DAY_S + noon
        return math.floor(when / _ROW_S[span]) * _ROW_S[span]

    def rows(self, when: float) -> Iterator[tuple[Span, int]]:
        """All rows that money spent at `when` is written to."""
        return ((span, self.row(span, when)) for span in Span)

    def first_row(self, window: Window, now: float) -> tuple[Span, int]:
        """The rows that make up a window at `now`: those of this span that start here or later."""
        if window in _SLIDING:
            span, length_s = _SLIDING[window]
            return span, self.row(span, now - length_s)
        span = _CALENDAR[window]
        return span, self.row(span, now)

    def began(self, window: Window, now: float) -> float:
        """When the window began, or begins to be counted if it slides (unix seconds)."""
        return float(self.first_row(window, now)[1])

    def ends(self, window: Window, now: float) -> float:
        """When the window of the calendar is over (unix seconds); `now` for one that slides."""
        if window in _SLIDING:
            return now
        began = self.first_row(window, now)[1]
        if window is Window.NIGHT:
            return float(began + _DAY_S)
        return float(self.row(Span.MONTH, began + 32 * _DAY_S))
