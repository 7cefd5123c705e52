"""The books in memory: for tests, and for a simulated night."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from dispatcher.ledger.accounts import Window
from dispatcher.ledger.books import Books
from dispatcher.ledger.stores import Entry
from dispatcher.ledger.stores.transactional import JOURNAL_S, TransactionalStore
from dispatcher.ledger.windows import KEPT_S, Span

T = TypeVar("T")


class MemoryStore(TransactionalStore):
    """A `Store` for the dispatchers of one process."""

    def __init__(self, noon_utc_h: float = 12.0) -> None:
        super().__init__(noon_utc_h)
        self._page = Books(self.calendar, 0.0)
        self._rows: dict[Span, dict[int, Counter[str]]] = {span: {} for span in Span}
        self._journal: list[tuple[str, Entry]] = []

    async def open(self) -> None:
        """See `Store.open`."""

    async def close(self) -> None:
        """See `Store.close`. The books stay, for who opens them again."""

    async def _transaction(
        self, now: float | None, work: Callable[[Books], T], *, write: bool = True
    ) -> T:
        kept = self._page
        books = Books(
            self.calendar,
            now or 0.0,
            holdings=dict(kept.holdings),
            lapsed=dict(kept.lapsed),
            owners=dict(kept.owners),
            controls=kept.controls,
        )
        if now is not None:
            books.spent = {window: self._spent(window, now) for window in Window}
        result = work(books)
        if write:
            self._keep(books)
        return result

    def _spent(self, window: Window, now: float) -> Counter[str]:
        span, first = self.calendar.first_row(window, now)
        spent = Counter[str]()
        for start, row in self._rows[span].items():
            if start >= first:
                spent.update(row)
        return spent

    def _keep(self, books: Books) -> None:
        self._page = books
        for (span, start, purse), amount in books.added.items():
            self._rows[span].setdefault(start, Counter())[purse] += amount
        self._journal += books.journal
        if books.added:
            self._prune(books.now)

    def _prune(self, now: float) -> None:
        for span, kept_s in KEPT_S.items():
            rows = self._rows[span]
            for start in [start for start in rows if start < now - kept_s]:
                del rows[start]
        while self._journal and self._journal[0][1].when < now - JOURNAL_S:
            self._journal.pop(0)

    async def spent_per_hour(self, since: float, until: float) -> list[tuple[float, str, int]]:
        """See `Store.spent_per_hour`."""
        return sorted(
            (float(start), purse, amount)
            for start, row in self._rows[Span.HOUR].items()
            if since <= start < until
            for purse, amount in row.items()
        )

    async def journal(self, since: float, limit: int) -> list[tuple[str, Entry]]:
        """See `Store.journal`."""
        found = sorted(
            (each for each in self._journal if each[1].when >= since),
            key=lambda each: each[1].when,
        )
        return found[-limit:] if limit > 0 else []
