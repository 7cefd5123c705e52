"""The words of the ledger: purses, windows, caps, quotes, reservations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dispatcher.errors import SettingsError


class Purse(StrEnum):
    """Whose money a call spends."""

    LIVE = "live"
    REPLAY = "replay"
    HEDGE = "hedge"
    RETRY = "retry"
    POISON = "poison"


TOTAL = "total"
"""The account of all purses together, beside the names of purses."""


class Window(StrEnum):
    """A stretch of time that a cap is for.

    `minute` and `hour` slide: the cap holds for every 60 or 3,600 seconds, wherever they begin.
    `night` goes from noon to noon at the observatory, `month` is that of the bill (UTC).
    """

    MINUTE = "minute"
    HOUR = "hour"
    NIGHT = "night"
    MONTH = "month"


Caps = Mapping[str, Mapping[Window, int]]
"""Pico-dollars by account (a purse's name, or TOTAL) and window; what is not there has no cap."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call will cost, in pico-dollars.

    `reserve`: 99 calls of 100 stay below it. `worst`: what the platform's own time limit allows.
    """

    expected: int
    reserve: int
    worst: int


@dataclass(slots=True, eq=False)
class Reservation:
    """Money that is set aside for one call, until it is settled or released."""

    purse: Purse
    amount: int
    worst: int
    items: int
    made: float
    """Monotonic seconds."""
    open: bool = True
    booked: int = 0
    """What it cost, once it is settled."""
    late: bool = False
    """Under way for longer than its amount pays for: its worst is set aside."""
    overdue: bool = False
    """Its worst was booked, because nobody had settled it in time."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No money for this call now. `why` is a sentence.

    `account` and `window` say what refuses (None: neither, it is being asked for); `retry_s`: when
    to try again.
    """

    why: str
    retry_s: float
    account: str | None = None
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """One account in one window, in pico-dollars. `cap`: None for none."""

    account: str
    window: Window
    cap: int | None
    spent: int
    leased: int
    """Set aside for dispatchers and not spent so far."""
    began: float
    """Unix seconds: when the window began, or begins to be counted if it slides."""

    @property
    def left(self) -> int | None:
        """What may still be leased; None without a cap. Never negative."""
        return None if self.cap is None else max(0, self.cap - self.spent - self.leased)


@dataclass(frozen=True, slots=True)
class Controls:
    """What a person has said while the dispatchers run.

    `caps` replace those of the settings; `frozen`: accounts that spend nothing.
    """

    caps: Caps = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()


def account_of(name: str) -> str:
    """The account of that name.

    Raises:
        SettingsError: there is none.
    """
    known = (TOTAL, *(purse.value for purse in Purse))
    if name not in known:
        raise SettingsError(f"{name!r} is no account: it is one of {', '.join(known)}")
    return name
