"""The ledger of one dispatcher: it leases slices of the budget and admits calls against them.

    try_reserve -> call -> settle     in memory, in microseconds, whatever the store does
    a task of the ledger              leases what was refused, reports what was paid, each second

When the store is away, what is held is spent on for half its time to live, and no longer: a call
lasts at most the other half, so all are over when the lease runs out and counts as spent.

Every run holds its money under a name of its own. What a run that was killed has held stays set
aside until its lease runs out, and counts as spent from then on: nobody knows what it had sent.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.errors import LedgerUnavailable
from dispatcher.ledger.accounts import (
    TOTAL,
    Balance,
    Caps,
    Controls,
    Purse,
    Quote,
    Refusal,
    Reservation,
)
from dispatcher.ledger.books import capped, frozen
from dispatcher.ledger.money import dollars
from dispatcher.ledger.slices import Slice
from dispatcher.ledger.stores import Entry, Lease, Store

_ASKED_RETRY_S: Final = 0.05
_SHARE_RETRY_S: Final = 0.25
_CLOSED_RETRY_S: Final = 1.0
_LATE_S: Final = 0.25  # between looks for calls that are late
_CLOSE_S: Final = 1e-3  # to a report that is due: a timer may ring a moment early
_AWAY: Final = "the ledger does not answer: no money can be set aside until it does"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Report:
    number: int
    entries: list[Entry]
    returned: dict[Purse, int]


class Ledger:
    """One dispatcher's hand on the budget: leases slices from the store and spends from them.

    `shares`: purses that may spend at most such a share of what live and replay have spent in this
    run, and one call more. `soft`: share of a cap from which on `tight` says so. `report_s`:
    seconds between reports; within it a person's caps and freezes hold. `ttl_s`: twice what a call
    lasts at most, in seconds.

    `changed` is set whenever money may have come. `spent` (this run), `outstanding` (set aside) and
    `overshoot` (what calls cost beyond their reserves) are in pico-dollars.
    """

    def __init__(
        self,
        store: Store,
        caps: Caps,
        clock: Clock,
        owner: str,
        *,
        shares: Mapping[Purse, float] | None = None,
        soft: float = 0.8,
        report_s: float = 1.0,
        ttl_s: float = 30.0,
    ) -> None:
        self.store = store
        self.owner = f"{owner} {secrets.token_hex(4)}"
        self.changed = asyncio.Event()
        self.spent = Counter[Purse]()
        self.outstanding = 0
        self.overshoot = 0
        self._caps, self._clock = caps, clock
        self._shares = dict(shares or {})
        self._soft, self._report_s, self._ttl_s = soft, report_s, ttl_s
        self._slices = {purse: Slice(purse) for purse in Purse}
        self._entries: list[Entry] = []
        self._unsent: _Report | None = None
        self._reports = 0
        self._reported = 0.0
        self._controls = Controls()
        self._balances: list[Balance] = []
        self._tight: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._running = self._away = self._open = False
        self._door = asyncio.Lock()

    # --- calls -----------------------------------------------------------------------------------

    def try_reserve(self, purse: Purse, quote: Quote, items: int = 0) -> Reservation | Refusal:
        """Set money aside for a call, or say why not. Returns at once."""
        mine = self._slices[purse]
        if purse in self._shares and (refusal := self._share_spent(purse)):
            return refusal
        gap = max(0, quote.worst - quote.reserve)
        needed = quote.reserve + mine.headroom(gap, more=1)
        if mine.left < needed or self._clock.now() >= mine.until or not self._running:
            return self._refuse(mine, needed)
        reservation = Reservation(
            purse, quote.reserve, quote.reserve + gap, items, self._clock.monotonic()
        )
        mine.add(reservation)
        self.outstanding += reservation.amount
        return reservation

    def settle(
        self, reservation: Reservation, amount: int | None = None, *, assumed: bool = False
    ) -> int:
        """Pay a call. Returns what was booked: once, whatever is said of it later.

        `amount`: None when there is no bill: the call costs its reserve. `assumed`: a part of it is
        a guess. The bill of a call that was overdue is only looked at for what it is above what was
        booked then: less would be money for a time that may be over.
        """
        if not reservation.open:
            if reservation.overdue and (more := (amount or 0) - reservation.booked) > 0:
                self._slices[reservation.purse].unreported += more
                self._book(reservation, more, 0, 0, "settled")
            return reservation.booked
        booked = reservation.amount if amount is None else amount
        reservation.open = False
        self._slices[reservation.purse].pay(reservation, booked)
        self.outstanding -= reservation.amount
        self.changed.set()
        kind = "assumed" if assumed or amount is None else "settled"
        self._book(reservation, booked, reservation.amount, reservation.items, kind)
        return booked

    def _book(
        self, reservation: Reservation, amount: int, reserved: int, items: int, kind: str
    ) -> None:
        reservation.booked += amount
        self._entries.append(
            Entry(self._clock.now(), reservation.purse, amount, reserved, items, kind)
        )
        self.spent[reservation.purse] += amount
        self.overshoot += max(0, amount - reserved)

    def release(self, reservation: Reservation) -> None:
        """Nothing was sent: nothing is paid."""
        if reservation.open:
            reservation.open = False
            self._slices[reservation.purse].remove(reservation)
            self.outstanding -= reservation.amount
            self.changed.set()

    def _share_spent(self, purse: Purse) -> Refusal | None:
        share, own = self._shares[purse], self.spent[purse] + self._slices[purse].open
        base = self.spent[Purse.LIVE] + self.spent[Purse.REPLAY]
        if share > 0 and own <= share * base:
            return None
        why = (
            f"{purse} has {dollars(own)}, and may have {share:.0%} of the {dollars(base)} that "
            "live and replay have spent in this run"
        )
        return Refusal(why, _SHARE_RETRY_S, purse.value)

    def _refuse(self, mine: Slice, needed: int) -> Refusal:
        if not self._running:
            return Refusal("the ledger is closed", _CLOSED_RETRY_S)
        now = self._clock.now()
        if mine.refusal and now < mine.refused_until:
            return mine.refusal
        mine.needed = max(needed, mine.needed or 0)
        if self._away:
            return Refusal(_AWAY, self._report_s)
        self._wake.set()
        if mine.refusal:
            return replace(mine.refusal, retry_s=_ASKED_RETRY_S)  # most likely it says so again
        return Refusal(f"money for {mine.purse} is being asked for", _ASKED_RETRY_S)

    # --- what there is ---------------------------------------------------------------------------

    def affordable(self, purse: Purse, per_item: int, wanted: int) -> int:
        """How many items of `wanted` could be paid now, by what is known here."""
        mine, now = self._slices[purse], self._clock.now()
        refused = mine.refusal and now < mine.refused_until
        if refused or self._controls.frozen & {purse.value, TOTAL}:
            return 0
        if self._away and now >= mine.until:
            return 0
        if per_item <= 0:
            return wanted
        more = [each.left for each in self._balances if each.account in (purse.value, TOTAL)]
        limits = [each for each in more if each is not None]
        if not limits:
            return wanted
        return max(0, min(wanted, (max(0, mine.left) + min(limits)) // per_item))

    @property
    def frozen(self) -> frozenset[str]:
        """Accounts that a person has frozen."""
        return self._controls.frozen

    def tight(self, purse: Purse) -> bool:
        """Whether some window of the purse, or of all together, is past its soft limit."""
        return purse.value in self._tight or TOTAL in self._tight

    def why(self, purse: Purse) -> str | None:
        """Why `affordable` finds so little, as a sentence; None: nothing is known against it."""
        mine, accounts = self._slices[purse], (TOTAL, purse.value)
        for account in accounts:
            if account in self._controls.frozen:
                return frozen(account)
        if self._away and self._clock.now() >= mine.until:
            return _AWAY
        if mine.refusal:
            return mine.refusal.why
        found = [b for b in self._balances if b.account in accounts and b.cap is not None]
        if not found:
            return None
        least = min(found, key=lambda each: each.left or 0)
        return capped(least.account, least.window, least.cap or 0, least.spent, least.leased)

    async def balances(self) -> list[Balance]:
        """Every account in every window, as the store has it now.

        Raises:
            LedgerUnavailable: it does not answer.
        """
        return await self.store.balances(self._caps, self._clock.now())

    # --- the task --------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Calls are admitted while the context lasts. An error inside comes in an ExceptionGroup.

        At its end, what is still under way is paid as it was reserved; everything is reported, and
        what is left goes back.

        Raises:
            LedgerUnavailable: the store does not answer at the start.
            SettingsError: it cannot be used.
        """
        async with self._door:
            await self.store.open()
            self._open = True
        try:
            self._controls = await self.store.controls()
            self._balances = await self.balances()
            self._reported, self._running = self._clock.monotonic(), True
            try:
                async with asyncio.TaskGroup() as tasks:
                    keeper = tasks.create_task(self._keep())
                    try:
                        yield
                    finally:
                        keeper.cancel()
            finally:
                self._running = False
                await self._finish()
        finally:
            async with self._door:
                self._open = False
                await self.store.close()

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Store]:
        """The store, for a person who looks or sets something, also before and after the calls.

        Raises:
            LedgerUnavailable: it does not answer.
        """
        async with self._door:
            if self._open:
                yield self.store
                return
            await self.store.open()
            try:
                yield self.store
            finally:
                await self.store.close()

    async def _keep(self) -> None:
        while True:
            due_s = self._reported + self._report_s - self._clock.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(due_s, _LATE_S))):
                    await self._wake.wait()
            self._wake.clear()
            now = self._clock.monotonic()
            for mine in self._slices.values():
                mine.find_late(now, self._ttl_s / 2)
            due = now > self._reported + self._report_s - _CLOSE_S
            try:
                if due:
                    await self._report()
                    await self._look()
                if due or not self._away:
                    await self._lease()
                    self._answers()
            except LedgerUnavailable as error:
                self._does_not_answer(error)

    @property
    def known_balances(self) -> Sequence[Balance]:
        """As the store had them when it was asked last."""
        return self._balances

    @property
    def away(self) -> bool:
        """Whether the store did not answer when it was asked last."""
        return self._away

    def _does_not_answer(self, error: LedgerUnavailable) -> None:
        self._reported = self._clock.monotonic()  # it is tried again when the next report is due
        if not self._away:
            self._away = True
            _log.warning("ledger_away", incident="ledger_away", error=str(error))

    def _answers(self) -> None:
        if self._away:
            self._away = False
            _log.info("ledger_back", ended="ledger_away")
            self.changed.set()

    async def _report(self) -> None:
        self._settle_overdue()
        since, self._reported = self._reported, self._clock.monotonic()
        for mine in self._slices.values():
            mine.measure(self._reported - since)
        await self._send()

    async def _send(self) -> None:
        report = self._unsent = self._unsent or self._next_report()
        if not (report.entries or report.returned or any(m.held for m in self._slices.values())):
            self._unsent = None  # there is nothing to say, and no lease to extend
            return
        now = self._clock.now()
        held = await self.store.report(
            self.owner, report.number, report.entries, report.returned, now
        )
        self._unsent = None
        for entry in report.entries:
            self._slices[entry.purse].unreported -= entry.amount
            self._slices[entry.purse].held -= entry.amount
        for purse, mine in self._slices.items():
            mine.reported(held.get(purse))
            mine.until = now + self._ttl_s / 2 if purse in held and mine.until else 0.0

    def _next_report(self) -> _Report:
        returned = {}
        for purse, mine in self._slices.items():
            if amount := mine.give_back(everything=not self._running):
                returned[purse] = amount
        entries, self._entries = self._entries, []
        self._reports += 1
        return _Report(self._reports, entries, returned)

    async def _look(self) -> None:
        """See what a person has said, and how near the caps are."""
        controls = await self.store.controls()
        if controls != self._controls:
            self._controls = controls
            for mine in self._slices.values():
                mine.until, mine.refusal = 0.0, None  # everything is asked for anew
            self.changed.set()
        if any(self._caps.values()) or controls.caps:
            self._balances = await self.balances()
            self.changed.set()  # a window may have slid on, or somebody returned money
            self._tight = frozenset(filter(None, map(self._account_if_tight, self._balances)))

    def _account_if_tight(self, each: Balance) -> str | None:
        if each.cap is None:
            return None
        return each.account if each.spent + each.leased >= self._soft * each.cap else None

    async def _lease(self) -> None:
        for purse, mine in self._slices.items():
            if mine.needed is None:
                continue
            least, want = mine.wish(mine.needed)
            now = self._clock.now()
            found = await self.store.lease(
                self.owner, purse, want, least, self._caps, now, self._ttl_s
            )
            mine.needed = None
            if isinstance(found, Lease):
                mine.held, mine.until = found.held, now + self._ttl_s / 2
                mine.refusal = None
            else:
                mine.refusal, mine.refused_until = found, now + found.retry_s
            self.changed.set()

    def _settle_overdue(self) -> None:
        """What nobody settles in time costs its worst: a lost call must not hold money for ever."""
        before = self._clock.monotonic() - self._ttl_s
        for mine in self._slices.values():
            overdue = list(takewhile(lambda each: each.made < before, mine.calls))
            for reservation in overdue:
                reservation.overdue = True
                self.settle(reservation, reservation.worst, assumed=True)
            if overdue:
                _log.warning(
                    "reservations_overdue",
                    purse=mine.purse.value,
                    calls=len(overdue),
                    booked=dollars(sum(each.worst for each in overdue)),
                )

    async def _finish(self) -> None:
        for mine in self._slices.values():
            for reservation in list(mine.calls):
                self.settle(reservation)
        try:
            while self._unsent or self._entries or any(m.left > 0 for m in self._slices.values()):
                await self._send()
        except LedgerUnavailable as error:
            _log.warning(
                "ledger_not_told",
                error=str(error),
                what="what was held counts as spent when its lease runs out",
            )
