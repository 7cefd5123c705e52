"""A slice: the money of one purse that a dispatcher holds, and the calls that it pays.

    held by us, as the store knows      held
      - set aside for calls under way    open
      - paid, and not reported so far    unreported
      - on its way back                  returning
      = left

A call may cost more than its reserve: one of a hundred does, up to its worst. Headroom is what is
left for that, so the slice covers it and no cap is passed. Where more of them do than was said,
more is left; and for a call that is under way for longer than its reserve pays for, all of its
worst is set aside, so when everything hangs, little is sent before that shows.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from dispatcher.ledger.accounts import Purse, Refusal, Reservation

_SHARES: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of calls that may pass their reserve: twice the one of a hundred that does, or what is seen."""
_MEMORY: Final = 128  # calls, of which is seen how many passed theirs
_UNLIKELY: Final = 1e-6
_AHEAD_S: Final = 2.0
_MANY: Final = 400  # from where on the normal distribution does


@cache
def coincident(calls: int, share: float = _SHARES[0]) -> int:
    """How many of so many calls may pass their reserve at once, but for one time in a million.

    `share`: of all calls that do.
    """
    if calls <= 0:
        return 0
    mean = share * calls
    if mean > _MANY:
        return min(calls, math.ceil(mean + 5 * math.sqrt(mean)))
    term = below = math.exp(-mean)
    count = 0
    while 1 - below > _UNLIKELY and count < calls:
        count += 1
        term *= mean / count
        below += term
    return max(1, count)


@dataclass(slots=True)
class Slice:
    """Money of `purse`, in pico-dollars. `until`: when it may be spent no longer (unix seconds)."""

    purse: Purse
    held: int = 0
    until: float = 0.0
    open: int = 0
    unreported: int = 0
    returning: int = 0
    lapsed: int = 0
    """Counts as spent because its lease ran out, and was not: the next report says so."""
    calls: dict[Reservation, None] = field(default_factory=dict)
    """Under way, in the order they were made."""
    late: int = 0
    """How many of them are late."""
    gaps: Counter[int] = field(default_factory=Counter)
    """Worst less reserve, of the calls under way."""
    widest: int = 0
    share: float = _SHARES[0]
    """Of calls that may pass their reserve."""
    passed: float = 0.0
    """Of calls that did, of late."""
    reserved: int = 0
    """Since the last report."""
    rate: float = 0.0
    """Pico-dollars a second that are set aside of late."""
    needed: int | None = None
    """What a call wants that was refused, headroom included; None: nothing does."""
    refusal: Refusal | None = None
    refused_until: float = 0.0

    @property
    def left(self) -> int:
        """What nothing is set aside for."""
        return self.held - self.open - self.unreported - self.returning

    def headroom(self, gap: int = 0, more: int = 0) -> int:
        """For the calls under way, and `more` whose worst is `gap` above their reserve."""
        return coincident(len(self.calls) - self.late + more, self.share) * max(self.widest, gap)

    def add(self, reservation: Reservation) -> None:
        """Set money aside for a call."""
        gap = reservation.worst - reservation.amount
        self.calls[reservation] = None
        self.gaps[gap] += 1
        self.widest = max(self.widest, gap)
        self.open += reservation.amount
        self.reserved += reservation.amount

    def remove(self, reservation: Reservation) -> None:
        """A call is over; nothing is set aside for it."""
        del self.calls[reservation]
        if reservation.late:
            self.late -= 1
            self.open -= reservation.worst
        else:
            self.open -= reservation.amount
            self._drop(reservation.worst - reservation.amount)

    def _drop(self, gap: int) -> None:
        self.gaps[gap] -= 1
        if not self.gaps[gap]:
            del self.gaps[gap]
            if gap == self.widest:
                self.widest = max(self.gaps, default=0)

    def find_late(self, now: float, longest_s: float) -> None:
        """Set the worst aside for calls that have passed their reserve. `now`: monotonic seconds.

        A call that costs its worst lasts `longest_s`.
        """
        for each in self.calls:
            if not each.late and (now - each.made) * each.worst > longest_s * each.amount:
                each.late = True
                self.late += 1
                self.open += each.worst - each.amount
                self._drop(each.worst - each.amount)

    def pay(self, reservation: Reservation, amount: int) -> None:
        """A call is over, and cost so much."""
        self.remove(reservation)
        self.unreported += amount
        self.passed += ((amount > reservation.amount) - self.passed) / _MEMORY
        if self.passed > self.share or self.share > _SHARES[0]:
            self.share = next(each for each in _SHARES if each >= self.passed)

    def measure(self, seconds: float) -> None:
        """Learn the rate. It rises at once and falls by halves: a pause is not yet an end."""
        self.rate = max(self.reserved / seconds, self.rate / 2) if seconds > 0 else self.rate
        self.reserved = 0

    def wish(self, needed: int) -> tuple[int, int]:
        """(least, want) of a lease, for a call that needs so much."""
        least = max(0, needed - self.left)
        return least, least + max(int(_AHEAD_S * self.rate), self.reserved)

    def give_back(self, *, everything: bool = False) -> int:
        """What the next report returns."""
        self.returning = max(0, self.left) if everything else self._surplus()
        amount, self.lapsed = self.returning + self.lapsed, 0
        return amount

    def _surplus(self) -> int:
        # A dispatcher that is refused keeps nothing that it cannot use.
        keep = self.headroom()
        if self.refusal is None:
            keep += int(_AHEAD_S * self.rate)
            if self.left <= 2 * keep:
                return 0
        return max(0, self.left - keep)

    def reported(self, held: int | None) -> None:
        """The store has taken the report, and says what is held; None: the lease has run out."""
        if held is None:
            self.lapsed += max(0, self.left)
        self.held, self.returning = held or 0, 0
