"""The books in Redis or Valkey, for dispatchers on several machines.

No script: a script's numbers are doubles, and a sum of pico-dollars passes 2**53 at some $9,000.
A transaction watches one key, reads, thinks here in whole numbers, and writes if nobody else has
written meanwhile; else it is done again. Sums are the server's own 64-bit HINCRBY.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import structlog
from valkey import asyncio as client
from valkey.exceptions import AuthenticationError, ValkeyError, WatchError

from dispatcher.errors import LedgerUnavailable, SettingsError
from dispatcher.ledger.accounts import Purse, Window
from dispatcher.ledger.books import Books
from dispatcher.ledger.stores import Entry, rows
from dispatcher.ledger.stores.transactional import JOURNAL_S, TransactionalStore
from dispatcher.ledger.windows import KEPT_S, Span

T = TypeVar("T")

_ATTEMPTS: Final = 60
_JOURNAL_LINES: Final = 1_000_000

_log = structlog.get_logger()


class RedisStore(TransactionalStore):
    """A `Store` in keys `lookback:{budget}:*` of one server, or of the primary of a pair.

    It is as durable as the server: one that keeps no append-only file forgets what was spent when
    it ends, and a line in the log says so. The journal has the last million calls.
    """

    def __init__(
        self,
        url: str,
        budget: str = "lookback",
        noon_utc_h: float = 12.0,
        *,
        timeout_s: float = 5.0,
    ) -> None:
        """`timeout_s` is for each answer of the server.

        Raises:
            SettingsError: the address cannot be read.
        """
        super().__init__(noon_utc_h)
        try:
            at = urlsplit(url)
            self._name = f"{at.scheme}://{at.hostname}:{at.port or 6379}"
            self._client: Any = client.Valkey.from_url(
                url,
                decode_responses=True,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
            )
        except ValueError:
            raise SettingsError(
                "spend.ledger: the address of the ledger cannot be read; write it as "
                "redis://user:password@host:port/0, special characters of the password as %XX"
            ) from None
        self._prefix = f"lookback:{{{budget}}}:"

    async def open(self) -> None:
        """See `Store.open`."""
        try:
            with self._errors():
                found = await self._client.info("persistence")
        except LedgerUnavailable as error:
            await self.close()
            if isinstance(error.__cause__, AuthenticationError):
                raise SettingsError(
                    f"{self._name} does not let us in ({error.__cause__}): check user and password "
                    "in spend.ledger"
                ) from error
            raise
        if not int(found.get("aof_enabled", 0)):
            _log.warning(
                "ledger_not_durable",
                where=self._name,
                what="it keeps no append-only file: set appendonly yes, or a restart of it forgets "
                "what was spent",
            )

    async def close(self) -> None:
        """See `Store.close`."""
        await self._client.aclose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (ValkeyError, OSError, TimeoutError) as error:
            raise LedgerUnavailable(
                f"the ledger {self._name} does not answer ({error or type(error).__name__}): "
                "nothing is sent until it does; see that the server runs and takes writes"
            ) from error

    async def _transaction(
        self, now: float | None, work: Callable[[Books], T], *, write: bool = True
    ) -> T:
        with self._errors():
            for attempt in range(_ATTEMPTS):
                async with self._client.pipeline(transaction=True) as pipe:
                    if write:
                        await pipe.watch(self._key("version"))
                    parts, spent = await self._read(now)
                    books = rows.page(self.calendar, now, parts, spent)
                    before = books.as_read()
                    result = work(books)
                    if not write:
                        return result
                    pipe.multi()
                    self._write(pipe, before, books, spent)
                    try:
                        await pipe.execute()
                    except WatchError:
                        # Others were faster; who comes again at another moment each gets its turn.
                        await asyncio.sleep(random.uniform(0, 0.002 * (attempt + 1)))  # noqa: S311
                        continue
                    return result
        raise LedgerUnavailable(
            f"the ledger {self._name} is too busy: too many dispatchers share this budget; give "
            "some of them another (spend.budget), or keep the ledger in PostgreSQL"
        )

    def _key(self, name: str) -> str:
        return self._prefix + name

    async def _read(self, now: float | None) -> tuple[dict[str, Any], dict[Window, rows.Fields]]:
        """The hashes of `PARTS`, and the rows of spending that each window may look at."""
        windows = list(Window) if now is not None else []
        async with self._client.pipeline(transaction=True) as pipe:
            for part in rows.PARTS:
                pipe.hgetall(self._key(part))
            for window in windows:
                span, first = self.calendar.first_row(window, now or 0.0)
                if span in KEPT_S:
                    pipe.hgetall(self._key(span))
                else:
                    pipe.hmget(self._key(span), [f"{first} {purse}" for purse in Purse])
            found = await pipe.execute()
        parts = dict(zip(rows.PARTS, found, strict=False))
        spent: dict[Window, rows.Fields] = {}
        for window, values in zip(windows, found[len(parts) :], strict=True):
            first = self.calendar.first_row(window, now or 0.0)[1]
            named = zip((f"{first} {purse}" for purse in Purse), values, strict=False)
            spent[window] = values if isinstance(values, dict) else dict(named)
        return parts, spent

    def _write(
        self, pipe: Any, before: Books, after: Books, spent: dict[Window, rows.Fields]
    ) -> None:
        pipe.incr(self._key("version"))
        for (span, start, purse), amount in after.added.items():
            pipe.hincrby(self._key(span), f"{start} {purse}", amount)
        for part, put, gone in rows.differences(before, after):
            if put:
                pipe.hset(self._key(part), mapping=put)
            if gone:
                pipe.hdel(self._key(part), *gone)
        if after.journal:
            self._note(pipe, after)
            self._prune(pipe, after.now, spent)

    def _note(self, pipe: Any, after: Books) -> None:
        lines = {
            rows.line(owner, after.owners[owner].number, place, entry): entry.when
            for place, (owner, entry) in enumerate(after.journal)
        }
        pipe.zadd(self._key("journal"), lines)
        pipe.zremrangebyscore(self._key("journal"), "-inf", after.now - JOURNAL_S)
        pipe.zremrangebyrank(self._key("journal"), 0, -_JOURNAL_LINES - 1)

    def _prune(self, pipe: Any, now: float, spent: dict[Window, rows.Fields]) -> None:
        for window, fields in spent.items():
            span = self.calendar.first_row(window, now)[0]
            kept_s = KEPT_S.get(span, math.inf)
            old = [field for field in fields if rows.seconds_of(field) < now - kept_s]
            if old:
                pipe.hdel(self._key(span), *old)

    async def spent_per_hour(self, since: float, until: float) -> list[tuple[float, str, int]]:
        """See `Store.spent_per_hour`."""
        with self._errors():
            fields = await self._client.hgetall(self._key(Span.HOUR))
        return [row for row in rows.hours(fields) if since <= row[0] < until]

    async def journal(self, since: float, limit: int) -> list[tuple[str, Entry]]:
        """See `Store.journal`."""
        if limit <= 0:
            return []
        with self._errors():
            lines = await self._client.zrevrangebyscore(
                self._key("journal"), "+inf", since, start=0, num=limit
            )
        return [rows.read_line(line) for line in reversed(lines)]
