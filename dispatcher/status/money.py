"""Money on the status page: every window against its cap, and where the night leads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.clock import Clock
from dispatcher.errors import LedgerUnavailable
from dispatcher.ledger.accounts import TOTAL, Balance, Caps
from dispatcher.ledger.forecast import Outlook, forecast
from dispatcher.ledger.ledger import Ledger
from dispatcher.ledger.prices import Tariff
from dispatcher.ledger.view import exact
from dispatcher.ledger.windows import Calendar

_FRESH_S: Final = 2.0


@dataclass(slots=True)
class Money:
    """Asks the store of the ledger, every two seconds at most, however many look."""

    ledger: Ledger
    tariff: Tariff
    caps: Caps
    calendar: Calendar
    clock: Clock
    _windows: list[dict[str, Any]] = field(default_factory=list)
    _frozen: list[str] = field(default_factory=list)
    _asked: float | None = None

    async def look(self) -> dict[str, Any]:
        """Amounts are exact dollars as text."""
        now = self.clock.monotonic()
        if self._asked is None or now - self._asked >= _FRESH_S:
            self._asked = now
            with suppress(LedgerUnavailable):  # what was known last is shown, and the incident
                await self._ask()
        return {
            "free": self.tariff.price.free,
            "price": self.tariff.price.name,
            "frozen": self._frozen,
            "windows": self._windows,
            "set_aside_usd": exact(self.ledger.outstanding),
            "spent_run_usd": exact(self.ledger.spent.total()),
        }

    def forget(self) -> None:
        """Ask again the next time."""
        self._asked = None

    async def _ask(self) -> None:
        now = self.clock.now()
        async with self.ledger.asked() as store:
            balances = await store.balances(self.caps, now)
            controls = await store.controls()
            found = await forecast(store, self.caps, now, self.calendar)
        outlooks = {(each.balance.account, each.balance.window): each for each in found.outlooks}
        self._windows = [
            _window(each, outlooks.get((each.account, each.window)))
            for each in balances
            if each.account == TOTAL or each.cap is not None or each.spent
        ]
        self._frozen = sorted(controls.frozen)


def _window(balance: Balance, outlook: Outlook | None) -> dict[str, Any]:
    cap = balance.cap
    return {
        "account": balance.account,
        "window": balance.window.value,
        "spent_usd": exact(balance.spent),
        "set_aside_usd": exact(balance.leased),
        "cap_usd": None if cap is None else exact(cap),
        "used": balance.spent / cap if cap else None,
        "ends": outlook.ends if outlook else None,
        "by_end_usd": exact(outlook.by_end) if outlook else None,
        "runs_out": outlook.runs_out if outlook else None,
    }
