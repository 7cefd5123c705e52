"""The books as the fields of Redis hashes: how each row is written, and read again.

An owner's name may have spaces in it, so it is the last of the words of a field.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from dispatcher.ledger.accounts import Controls, Purse, Window
from dispatcher.ledger.books import Books, Holding, Owner, changes
from dispatcher.ledger.stores import Entry
from dispatcher.ledger.windows import Calendar

Fields = Mapping[str, str | None]

PARTS: Final = ("held", "lapsed", "owners", "caps", "frozen")
"""The hashes that are read whole."""

Change = tuple[str, dict[str, str], list[str]]
"""A hash, the fields to set in it, and those to delete."""


def page(
    calendar: Calendar,
    now: float | None,
    parts: Mapping[str, Mapping[str, str]],
    spent: Mapping[Window, Fields],
) -> Books:
    """The page that these hashes make. `spent`: fields "start purse" of each window's rows."""
    books = Books(
        calendar,
        now or 0.0,
        holdings=dict(map(_holding, parts["held"].items())),
        lapsed=dict(map(_lapsed, parts["lapsed"].items())),
        owners={name: _owner(text) for name, text in parts["owners"].items()},
        controls=Controls(_caps(parts["caps"]), frozenset(parts["frozen"])),
    )
    for window, fields in spent.items():
        books.spent[window] = _sums(fields, calendar.first_row(window, books.now)[1])
    return books


def differences(before: Books, after: Books) -> Iterator[Change]:
    """What turns the hashes of one page into those of the other."""
    old, new = _texts(before), _texts(after)
    for part in PARTS:
        put, gone = changes(old[part], new[part])
        if put or gone:
            yield part, put, gone


def line(owner: str, number: int, place: int, entry: Entry) -> str:
    """A line of the journal; `number` and `place` of its report make it differ from all others."""
    what = (entry.when, entry.purse, entry.amount, entry.reserved, entry.items, entry.kind)
    return json.dumps([owner, number, place, *what])


def read_line(text: str) -> tuple[str, Entry]:
    """The owner and the entry of a line."""
    owner, _, _, when, purse, *rest = json.loads(text)
    return owner, Entry(when, Purse(purse), *rest)


def _texts(books: Books) -> dict[str, dict[str, str]]:
    return {
        "held": {
            f"{purse} {owner}": f"{each.amount} {each.expires!r} {each.ttl_s!r}"
            for (owner, purse), each in books.holdings.items()
        },
        "lapsed": {
            f"{purse} {expired!r} {owner}": str(amount)
            for (owner, purse, expired), amount in books.lapsed.items()
        },
        "owners": {
            name: f"{each.number} {each.seen!r} {each.needed_until!r}"
            for name, each in books.owners.items()
        },
        "caps": {
            f"{account} {window}": str(amount)
            for account, windows in books.controls.caps.items()
            for window, amount in windows.items()
        },
        "frozen": dict.fromkeys(books.controls.frozen, "1"),
    }


def _sums(fields: Fields, first: int) -> Counter[str]:
    spent = Counter[str]()
    for field, amount in fields.items():
        start, purse = field.split()
        if amount is not None and int(start) >= first:
            spent[purse] += int(amount)
    return spent


def _holding(row: tuple[str, str]) -> tuple[tuple[str, Purse], Holding]:
    purse, owner = row[0].split(" ", 1)
    amount, expires, ttl_s = row[1].split()
    return (owner, Purse(purse)), Holding(int(amount), float(expires), float(ttl_s))


def _lapsed(row: tuple[str, str]) -> tuple[tuple[str, Purse, float], int]:
    purse, expired, owner = row[0].split(" ", 2)
    return (owner, Purse(purse), float(expired)), int(row[1])


def _owner(text: str) -> Owner:
    number, seen, needed_until = text.split()
    return Owner(int(number), float(seen), float(needed_until))


def _caps(fields: Mapping[str, str]) -> dict[str, dict[Window, int]]:
    caps: dict[str, dict[Window, int]] = {}
    for field, amount in fields.items():
        account, window = field.split()
        caps.setdefault(account, {})[Window(window)] = int(amount)
    return caps


def seconds_of(field: str) -> int:
    """The start of the row that a field is of."""
    return int(field.split(" ", 1)[0])


def hours(fields: Mapping[str, str]) -> list[tuple[float, str, int]]:
    """Rows of spending as `Store.spent_per_hour` gives them."""
    rows = ((field.split(), int(amount)) for field, amount in fields.items())
    return sorted((float(start), purse, amount) for (start, purse), amount in rows)
