"""Where the books of the money are: the protocol of a store.

Dispatchers that share a budget share a store. None of them asks it for every call: each leases a
slice of money, spends from that, and reports. What is leased counts against every cap at once, so
all of them together never hold more than there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dispatcher.errors import SettingsError
from dispatcher.ledger.accounts import Balance, Caps, Controls, Purse, Refusal, Window


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal: a call that was paid. Amounts in pico-dollars, time in unix seconds.

    `kind`: "settled" by its bill, "assumed" when there was none (`amount` is the reserve then).
    """

    when: float
    purse: Purse
    amount: int
    reserved: int
    items: int
    kind: str


@dataclass(frozen=True, slots=True)
class Lease:
    """Money that a dispatcher may spend from `purse` until `expires` (unix seconds).

    `amount` was granted now, `held` is what its owner holds with it.
    """

    purse: Purse
    amount: int
    expires: float
    held: int


class Store(Protocol):
    """The accounts of one budget.

    Every method is atomic, also between processes. A lease that is not renewed until it expires
    counts as spent at that moment: its holder is gone, and nobody knows what it has sent. A report
    that comes later corrects it.

    `now` is the caller's clock: machines that share a budget keep theirs within a second (NTP).
    Every method raises `LedgerUnavailable` when the store does not answer.
    """

    async def open(self) -> None:
        """Get ready.

        Raises:
            LedgerUnavailable: it does not answer.
            SettingsError: it cannot be used.
        """

    async def lease(
        self, owner: str, purse: Purse, want: int, least: int, caps: Caps, now: float, ttl_s: float
    ) -> Lease | Refusal:
        """Add between `least` and `want` to what `owner` holds of `purse`; extends its lease.

        Granted only if for every window of the purse and of TOTAL: spent + leased + granted <= cap.
        Where less than `want` is left, at most a quarter of it goes to one dispatcher (and never
        less than `least`), so that the last money does not lie with one that does not need it.
        Caps set by hand replace those given; a frozen account refuses, and so does a cap of 0.
        """

    async def report(
        self,
        owner: str,
        number: int,
        entries: Sequence[Entry],
        returned: dict[Purse, int],
        now: float,
    ) -> dict[Purse, int]:
        """`entries` were spent out of the leases of `owner`, `returned` is not needed any more.

        An entry larger than what is leased counts all the same. Extends the leases of `owner`, and
        returns what it holds by purse; a purse whose lease ran out is not in it. Reports of an
        owner are numbered from 1: one that came before changes nothing, so it may be sent again
        when nobody knows whether it arrived.
        """

    async def balances(self, caps: Caps, now: float) -> list[Balance]:
        """Every purse and TOTAL, in every window, with the caps that hold now."""

    async def spent_per_hour(self, since: float, until: float) -> list[tuple[float, str, int]]:
        """(start of the hour, purse, pico-dollars), in order of time."""

    async def journal(self, since: float, limit: int) -> list[tuple[str, Entry]]:
        """The last `limit` entries since then, oldest first, each with its owner."""

    async def controls(self) -> Controls:
        """What a person has set."""

    async def set_cap(self, account: str, window: Window, amount: int | None) -> None:
        """Replace a cap from now on; None: as the settings have it."""

    async def freeze(self, account: str, *, frozen: bool) -> None:
        """Spend nothing of an account (a purse, or TOTAL), or go on."""

    async def need(self, owner: str, until: float) -> None:
        """The live lane of `owner` needs the workers until then: replays keep still."""

    async def needed_until(self, now: float, besides: str) -> float:
        """Until when some other dispatcher than `besides` needs the workers; 0 when none does."""

    async def close(self) -> None:
        """Let go of files and connections."""


def open_store(address: str, folder: Path, budget: str, noon_utc_h: float = 12.0) -> Store:
    """The store at `address`; it is reached when it is opened.

    `address`: postgresql://, redis:// (or rediss://, valkey://, valkeys://), or a file, which lies
    in `folder` if its path is relative.

    Raises:
        SettingsError: nothing keeps books at such an address.
    """
    scheme = address.partition("://")[0] if "://" in address else ""
    if not budget or any(letter.isspace() or letter in "{}" for letter in budget):
        raise SettingsError(f"spend.budget {budget!r} is no name: use letters, digits, - and _")
    if scheme in ("postgresql", "postgres"):
        from dispatcher.ledger.stores.postgres import PostgresStore

        return PostgresStore(address, budget, noon_utc_h)
    if scheme in ("redis", "rediss", "valkey", "valkeys"):
        from dispatcher.ledger.stores.redis import RedisStore

        return RedisStore(address, budget, noon_utc_h)
    if scheme or not address:
        raise SettingsError(
            f'nothing keeps a ledger at "{scheme}://": spend.ledger is a file name, '
            "postgresql://user@host/database or redis://host:port"
        )
    from dispatcher.ledger.stores.sqlite import SqliteStore

    return SqliteStore(folder / address, budget, noon_utc_h)
