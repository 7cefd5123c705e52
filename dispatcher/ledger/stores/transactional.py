"""What all stores have in common: every method is one transaction on a page of the books."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from dispatcher.ledger import books as rules
from dispatcher.ledger.accounts import Balance, Caps, Controls, Purse, Refusal, Window
from dispatcher.ledger.books import Books, Owner
from dispatcher.ledger.stores import Entry, Lease
from dispatcher.ledger.windows import Calendar

T = TypeVar("T")

JOURNAL_S: Final = 400 * 86400.0
"""Seconds that a line of the journal is kept: a year, and the month it is billed in."""


class TransactionalStore(ABC):
    """A `Store` that is made of `_transaction`, and of two lists that it can show."""

    def __init__(self, noon_utc_h: float = 12.0) -> None:
        self.calendar = Calendar(noon_utc_h)

    @abstractmethod
    async def _transaction(
        self, now: float | None, work: Callable[[Books], T], *, write: bool = True
    ) -> T:
        """Run `work` on what is there at `now`, and keep what it changes. It may run twice.

        `now` is None where nobody asks what was spent.

        Raises:
            LedgerUnavailable: nothing was kept, or nobody knows.
        """

    async def lease(
        self, owner: str, purse: Purse, want: int, least: int, caps: Caps, now: float, ttl_s: float
    ) -> Lease | Refusal:
        """See `Store.lease`."""
        return await self._transaction(
            now, lambda books: rules.grant(books, owner, purse, want, least, caps, ttl_s)
        )

    async def report(
        self,
        owner: str,
        number: int,
        entries: Sequence[Entry],
        returned: dict[Purse, int],
        now: float,
    ) -> dict[Purse, int]:
        """See `Store.report`."""
        return await self._transaction(
            now, lambda books: rules.book(books, owner, number, entries, returned)
        )

    async def balances(self, caps: Caps, now: float) -> list[Balance]:
        """See `Store.balances`."""
        return await self._transaction(now, lambda books: rules.balances(books, caps), write=False)

    async def controls(self) -> Controls:
        """See `Store.controls`."""
        return await self._transaction(None, lambda books: books.controls, write=False)

    async def set_cap(self, account: str, window: Window, amount: int | None) -> None:
        """See `Store.set_cap`."""

        def work(books: Books) -> None:
            books.controls = rules.with_cap(books.controls, account, window, amount)

        await self._transaction(None, work)

    async def freeze(self, account: str, *, frozen: bool) -> None:
        """See `Store.freeze`."""

        def work(books: Books) -> None:
            books.controls = rules.with_frozen(books.controls, account, frozen=frozen)

        await self._transaction(None, work)

    async def need(self, owner: str, until: float) -> None:
        """See `Store.need`."""

        def work(books: Books) -> None:
            known = books.owners.get(owner, Owner())
            books.owners[owner] = replace(known, needed_until=until, seen=max(known.seen, until))

        await self._transaction(None, work)

    async def needed_until(self, now: float, besides: str) -> float:
        """See `Store.needed_until`."""

        def work(books: Books) -> float:
            others = (each for name, each in books.owners.items() if name != besides)
            latest = max((each.needed_until for each in others), default=0.0)
            return latest if latest > now else 0.0

        return await self._transaction(None, work, write=False)
