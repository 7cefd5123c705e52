"""The books as tables, in the SQL that SQLite and PostgreSQL share.

Several budgets may lie in one database: every table says whose each row is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.ledger.accounts import Controls, Purse, Window
from dispatcher.ledger.books import Books, Holding, Owner, changes
from dispatcher.ledger.stores import Entry
from dispatcher.ledger.stores.transactional import JOURNAL_S
from dispatcher.ledger.windows import KEPT_S, Calendar

Statement = tuple[str, Sequence[tuple[Any, ...]]]
"""One statement, and the arguments of each time that it is run."""

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS lookback_ledger_spent (budget text NOT NULL, span text NOT NULL,
        start bigint NOT NULL, purse text NOT NULL, amount bigint NOT NULL,
        PRIMARY KEY (budget, span, start, purse))""",
    """CREATE TABLE IF NOT EXISTS lookback_ledger_held (budget text NOT NULL, owner text NOT NULL,
        purse text NOT NULL, amount bigint NOT NULL, expires double precision NOT NULL,
        ttl_s double precision NOT NULL, PRIMARY KEY (budget, owner, purse))""",
    """CREATE TABLE IF NOT EXISTS lookback_ledger_lapsed (budget text NOT NULL,
        owner text NOT NULL, purse text NOT NULL, expired double precision NOT NULL,
        amount bigint NOT NULL, PRIMARY KEY (budget, owner, purse, expired))""",
    """CREATE TABLE IF NOT EXISTS lookback_ledger_owners (budget text NOT NULL,
        owner text NOT NULL, number bigint NOT NULL, seen double precision NOT NULL,
        needed_until double precision NOT NULL, PRIMARY KEY (budget, owner))""",
    """CREATE TABLE IF NOT EXISTS lookback_ledger_caps (budget text NOT NULL,
        account text NOT NULL, period text NOT NULL, amount bigint NOT NULL,
        PRIMARY KEY (budget, account, period))""",
    """CREATE TABLE IF NOT EXISTS lookback_ledger_frozen (budget text NOT NULL,
        account text NOT NULL, PRIMARY KEY (budget, account))""",
    """CREATE TABLE IF NOT EXISTS lookback_ledger_journal (budget text NOT NULL,
        paid double precision NOT NULL, owner text NOT NULL, purse text NOT NULL,
        amount bigint NOT NULL, reserved bigint NOT NULL, items bigint NOT NULL,
        kind text NOT NULL)""",
    """CREATE INDEX IF NOT EXISTS lookback_ledger_journal_paid
        ON lookback_ledger_journal (budget, paid)""",
)

_READS: Final = (
    """SELECT owner, purse, amount, expires, ttl_s FROM lookback_ledger_held
        WHERE budget = $1""",
    """SELECT owner, purse, expired, amount FROM lookback_ledger_lapsed
        WHERE budget = $1""",
    """SELECT owner, number, seen, needed_until FROM lookback_ledger_owners
        WHERE budget = $1""",
    "SELECT account, period, amount FROM lookback_ledger_caps WHERE budget = $1",
    "SELECT account FROM lookback_ledger_frozen WHERE budget = $1",
)

_SPENT: Final = """SELECT purse, CAST(sum(amount) AS bigint) FROM lookback_ledger_spent
    WHERE budget = $1 AND span = $2 AND start >= $3 GROUP BY purse"""

PER_HOUR: Final = """SELECT start, purse, amount FROM lookback_ledger_spent
    WHERE budget = $1 AND span = 'hour' AND start >= $2 AND start < $3 ORDER BY start, purse"""

JOURNAL: Final = """SELECT owner, paid, purse, amount, reserved, items, kind
    FROM lookback_ledger_journal WHERE budget = $1 AND paid >= $2 ORDER BY paid DESC LIMIT $3"""


@dataclass(frozen=True, slots=True)
class Tables:
    """Reads and writes pages of one budget."""

    budget: str
    calendar: Calendar

    def reads(self, now: float | None) -> list[tuple[str, tuple[Any, ...]]]:
        """The queries whose rows `page` makes a page of."""
        mine = (self.budget,)
        reads: list[tuple[str, tuple[Any, ...]]] = [(query, mine) for query in _READS]
        if now is not None:
            firsts = (self.calendar.first_row(window, now) for window in Window)
            reads += [(_SPENT, (*mine, *first)) for first in firsts]
        return reads

    def page(self, now: float | None, rows: Sequence[Sequence[Sequence[Any]]]) -> Books:
        """The page that those rows make."""
        held, lapsed, owners, caps, frozen, *spent = rows
        by_hand: dict[str, dict[Window, int]] = {}
        for account, period, amount in caps:
            by_hand.setdefault(account, {})[Window(period)] = amount
        books = Books(
            self.calendar,
            now or 0.0,
            holdings={(owner, Purse(purse)): Holding(*rest) for owner, purse, *rest in held},
            lapsed={(owner, Purse(purse), at): amount for owner, purse, at, amount in lapsed},
            owners={name: Owner(*rest) for name, *rest in owners},
            controls=Controls(by_hand, frozenset(account for (account,) in frozen)),
        )
        for window, sums in zip(Window, spent, strict=False):
            books.spent[window] = Counter(dict(map(tuple, sums)))
        return books

    def writes(self, before: Books, after: Books) -> Iterator[Statement]:
        """The statements that turn one page into the other."""
        mine = self.budget
        yield _ADD, [(mine, *key, amount) for key, amount in after.added.items() if amount]
        put, gone = changes(before.holdings, after.holdings)
        yield _HOLD, [(mine, *key, h.amount, h.expires, h.ttl_s) for key, h in put.items()]
        yield _DROP, [(mine, *key) for key in gone]
        lapsed, corrected = changes(before.lapsed, after.lapsed)
        yield _LAPSE, [(mine, *key, amount) for key, amount in lapsed.items()]
        yield _CORRECT, [(mine, *key) for key in corrected]
        owners, left = changes(before.owners, after.owners)
        yield _OWN, [(mine, n, o.number, o.seen, o.needed_until) for n, o in owners.items()]
        yield _LEAVE, [(mine, name) for name in left]
        yield (
            _NOTE,
            [
                (mine, e.when, owner, e.purse, e.amount, e.reserved, e.items, e.kind)
                for owner, e in after.journal
            ],
        )
        if before.controls != after.controls:
            yield from self._controls(after.controls)
        if after.journal:
            yield from self._prunes(after.now)

    def _controls(self, controls: Controls) -> Iterator[Statement]:
        mine = self.budget
        yield "DELETE FROM lookback_ledger_caps WHERE budget = $1", [(mine,)]
        yield "DELETE FROM lookback_ledger_frozen WHERE budget = $1", [(mine,)]
        yield (
            "INSERT INTO lookback_ledger_caps VALUES ($1, $2, $3, $4)",
            [
                (mine, account, window, amount)
                for account, windows in controls.caps.items()
                for window, amount in windows.items()
            ],
        )
        yield (
            "INSERT INTO lookback_ledger_frozen VALUES ($1, $2)",
            [(mine, account) for account in controls.frozen],
        )

    def _prunes(self, now: float) -> Iterator[Statement]:
        yield _PRUNE, [(self.budget, span, int(now) - kept_s) for span, kept_s in KEPT_S.items()]
        yield _PRUNE_JOURNAL, [(self.budget, now - JOURNAL_S)]


def hours(rows: Sequence[Sequence[Any]]) -> list[tuple[float, str, int]]:
    """What `PER_HOUR` found, as `Store.spent_per_hour` gives it."""
    return [(float(start), purse, amount) for start, purse, amount in rows]


def lines(rows: Sequence[Sequence[Any]]) -> list[tuple[str, Entry]]:
    """What `JOURNAL` found, oldest first."""
    return [
        (owner, Entry(paid, Purse(purse), *rest)) for owner, paid, purse, *rest in reversed(rows)
    ]


_ADD: Final = """INSERT INTO lookback_ledger_spent VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (budget, span, start, purse)
    DO UPDATE SET amount = lookback_ledger_spent.amount + excluded.amount"""
_HOLD: Final = """INSERT INTO lookback_ledger_held VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (budget, owner, purse) DO UPDATE
    SET amount = excluded.amount, expires = excluded.expires, ttl_s = excluded.ttl_s"""
_DROP: Final = "DELETE FROM lookback_ledger_held WHERE budget = $1 AND owner = $2 AND purse = $3"
_LAPSE: Final = """INSERT INTO lookback_ledger_lapsed VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (budget, owner, purse, expired) DO UPDATE SET amount = excluded.amount"""
_CORRECT: Final = """DELETE FROM lookback_ledger_lapsed
    WHERE budget = $1 AND owner = $2 AND purse = $3 AND expired = $4"""
_OWN: Final = """INSERT INTO lookback_ledger_owners VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (budget, owner) DO UPDATE SET number = excluded.number, seen = excluded.seen,
    needed_until = excluded.needed_until"""
_LEAVE: Final = "DELETE FROM lookback_ledger_owners WHERE budget = $1 AND owner = $2"
_NOTE: Final = "INSERT INTO lookback_ledger_journal VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
_PRUNE: Final = "DELETE FROM lookback_ledger_spent WHERE budget = $1 AND span = $2 AND start < $3"
_PRUNE_JOURNAL: Final = "DELETE FROM lookback_ledger_journal WHERE budget = $1 AND paid < $2"
