"""The rules of the accounts, the same for every store.

A store reads a page of its books, lets one of these functions work on it, and writes what changed,
all in one transaction. Sums are Python's integers: no database rounds them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from dispatcher.ledger.accounts import TOTAL, Balance, Caps, Controls, Purse, Refusal, Window
from dispatcher.ledger.money import dollars
from dispatcher.ledger.stores import Entry, Lease
from dispatcher.ledger.windows import Calendar, Span

K = TypeVar("K")
V = TypeVar("V")

FORGOTTEN_S: Final = 2 * 86400.0
"""Seconds after which a dispatcher that said nothing is forgotten."""

_SLIDING_RETRY_S: Final = 1.0
_CALENDAR_RETRY_S: Final = 5.0
_LAST_SHARE: Final = 4  # of what is left goes to one dispatcher, where there is not enough for all
_WINDOWS: Final = (Window.MONTH, Window.NIGHT, Window.HOUR, Window.MINUTE)  # the longest refuses


@dataclass(frozen=True, slots=True)
class Holding:
    """Money that a dispatcher holds, in pico-dollars, until `expires` (unix seconds)."""

    amount: int
    expires: float
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Owner:
    """A dispatcher: the number of its last report, when it came, until when it needs workers."""

    number: int = 0
    seen: float = 0.0
    needed_until: float = 0.0


@dataclass(slots=True)
class Books:
    """A page of the books: what holds at `now`, and what a transaction adds.

    `spent`: by window and purse. `lapsed`: what counts as spent because its lease ran out, by
    owner, purse and the moment it did. `added` and `journal` are for the store to write.
    """

    calendar: Calendar
    now: float
    spent: dict[Window, Counter[str]] = field(
        default_factory=lambda: {w: Counter() for w in Window}
    )
    holdings: dict[tuple[str, Purse], Holding] = field(default_factory=dict)
    lapsed: dict[tuple[str, Purse, float], int] = field(default_factory=dict)
    owners: dict[str, Owner] = field(default_factory=dict)
    controls: Controls = field(default_factory=Controls)
    added: Counter[tuple[Span, int, str]] = field(default_factory=Counter)
    journal: list[tuple[str, Entry]] = field(default_factory=list)

    def as_read(self) -> Books:
        """A copy of what a transaction may change, to compare with afterwards."""
        return replace(
            self,
            holdings=dict(self.holdings),
            lapsed=dict(self.lapsed),
            owners=dict(self.owners),
        )

    def spend(self, when: float, purse: Purse, amount: int) -> None:
        """Write down that so much was spent at `when`; a negative amount takes it back."""
        for span, start in self.calendar.rows(when):
            self.added[span, start, purse.value] += amount
        for window in Window:
            span, first = self.calendar.first_row(window, self.now)
            if self.calendar.row(span, when) >= first:
                self.spent[window][purse.value] += amount

    def leased(self, account: str) -> int:
        """What dispatchers hold of an account."""
        return sum(
            each.amount for (_, purse), each in self.holdings.items() if account in (TOTAL, purse)
        )

    def spent_of(self, account: str, window: Window) -> int:
        """What was spent of an account in a window."""
        spent = self.spent[window]
        return spent.total() if account == TOTAL else spent[account]


def in_force(caps: Caps, controls: Controls, account: str, window: Window) -> int | None:
    """The cap that holds: the one set by hand, else that of the settings. None: there is none."""
    by_hand = controls.caps.get(account, {}).get(window)
    return caps.get(account, {}).get(window) if by_hand is None else by_hand


def forget(books: Books) -> None:
    """Leave out who has said nothing for days, and what can hardly be corrected any more."""
    long_ago = books.now - FORGOTTEN_S
    for name, owner in list(books.owners.items()):
        if owner.seen < long_ago:
            del books.owners[name]
    for key in [key for key in books.lapsed if key[2] < long_ago]:
        del books.lapsed[key]


def lapse(books: Books) -> None:
    """What was not renewed in time counts as spent at the moment its lease ran out."""
    for (owner, purse), holding in list(books.holdings.items()):
        if holding.expires > books.now:
            continue
        del books.holdings[owner, purse]
        if holding.amount:
            books.spend(holding.expires, purse, holding.amount)
            key = (owner, purse, holding.expires)
            books.lapsed[key] = books.lapsed.get(key, 0) + holding.amount


def grant(
    books: Books, owner: str, purse: Purse, want: int, least: int, caps: Caps, ttl_s: float
) -> Lease | Refusal:
    """See `Store.lease`."""
    lapse(books)
    granted = want
    for account in (TOTAL, purse.value):
        if account in books.controls.frozen:
            return _frozen(account)
        for window, cap, left in _room(books, account, caps):
            if cap == 0 or left < least:
                return _refused(books, account, window, cap, least)
            if left < want:
                granted = min(granted, max(least, left // _LAST_SHARE))
    held = books.holdings.get((owner, purse))
    amount = granted + (held.amount if held else 0)
    books.holdings[owner, purse] = Holding(amount, books.now + ttl_s, ttl_s)
    return Lease(purse, granted, books.now + ttl_s, amount)


def _room(books: Books, account: str, caps: Caps) -> Iterator[tuple[Window, int, int]]:
    for window in _WINDOWS:
        cap = in_force(caps, books.controls, account, window)
        if cap is not None:
            yield window, cap, cap - books.spent_of(account, window) - books.leased(account)


def _frozen(account: str) -> Refusal:
    return Refusal(frozen(account), _SLIDING_RETRY_S, account)


def _refused(books: Books, account: str, window: Window, cap: int, least: int) -> Refusal:
    reached = capped(account, window, cap, books.spent_of(account, window), books.leased(account))
    ends_s = books.calendar.ends(window, books.now) - books.now
    retry_s = min(_CALENDAR_RETRY_S, ends_s) if ends_s > 0 else _SLIDING_RETRY_S
    return Refusal(f"{reached}; the next call needs {dollars(least)}", retry_s, account, window)


def frozen(account: str) -> str:
    """Says that an account is frozen, and what a person does about it."""
    return f"{account} is frozen; `lookback ledger freeze {account} --off` lets it go on"


def capped(account: str, window: Window, cap: int, spent: int, leased: int) -> str:
    """Says that a cap is reached."""
    return (
        f"the cap of {account} is {dollars(cap)} a {window.value}: {dollars(spent)} are spent and "
        f"{dollars(leased)} set aside (`lookback ledger set` changes it)"
    )


def book(
    books: Books, owner: str, number: int, entries: Sequence[Entry], returned: dict[Purse, int]
) -> dict[Purse, int]:
    """See `Store.report`."""
    lapse(books)
    forget(books)
    known = books.owners.get(owner, Owner())
    if number > known.number:
        used, paid = Counter(returned), Counter[tuple[int, Purse]]()
        for entry in entries:
            used[entry.purse] += entry.amount
            paid[math.floor(entry.when), entry.purse] += entry.amount
        for (second, purse), amount in paid.items():
            books.spend(second, purse, amount)
        books.journal += [(owner, entry) for entry in entries]
        for purse, amount in used.items():
            _take(books, owner, purse, amount)
    books.owners[owner] = replace(known, number=max(number, known.number), seen=books.now)
    mine = {key: each for key, each in books.holdings.items() if key[0] == owner}
    for key, each in mine.items():
        books.holdings[key] = replace(each, expires=books.now + each.ttl_s)
    return {purse: each.amount for (_, purse), each in mine.items()}


def _take(books: Books, owner: str, purse: Purse, amount: int) -> None:
    """Out of what lapsed first: it was counted as spent, and is known now."""
    for key in sorted(key for key in books.lapsed if key[:2] == (owner, purse)):
        part = min(books.lapsed[key], amount)
        books.spend(key[2], purse, -part)
        books.lapsed[key] -= part
        if not books.lapsed[key]:
            del books.lapsed[key]
        amount -= part
    if held := books.holdings.get((owner, purse)):
        books.holdings[owner, purse] = replace(held, amount=max(0, held.amount - amount))


def balances(books: Books, caps: Caps) -> list[Balance]:
    """See `Store.balances`."""
    lapse(books)
    return [
        Balance(
            account,
            window,
            in_force(caps, books.controls, account, window),
            books.spent_of(account, window),
            books.leased(account),
            books.calendar.began(window, books.now),
        )
        for account in (*(purse.value for purse in Purse), TOTAL)
        for window in Window
    ]


def changes(before: dict[K, V], after: dict[K, V]) -> tuple[dict[K, V], list[K]]:
    """What to write and what to delete, so that `before` becomes `after`."""
    written = {key: value for key, value in after.items() if before.get(key) != value}
    return written, [key for key in before if key not in after]


def with_cap(controls: Controls, account: str, window: Window, amount: int | None) -> Controls:
    """The controls with one cap set; None: without it."""
    caps = {name: dict(windows) for name, windows in controls.caps.items()}
    mine = caps.setdefault(account, {})
    mine.pop(window, None)
    if amount is not None:
        mine[window] = amount
    return replace(controls, caps={name: windows for name, windows in caps.items() if windows})


def with_frozen(controls: Controls, account: str, *, frozen: bool) -> Controls:
    """The controls with an account frozen, or not any more."""
    mine = controls.frozen | {account} if frozen else controls.frozen - {account}
    return replace(controls, frozen=mine)
