"""What will be spent if it goes on like this, and when a cap would stop it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dispatcher.ledger.accounts import TOTAL, Balance, Caps, Window
from dispatcher.ledger.stores import Store
from dispatcher.ledger.windows import Calendar

_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """One cap of the calendar. Amounts in pico-dollars, times in unix seconds.

    `rate`: pico-dollars an hour. `by_end`: what will be spent at that rate, if nothing stops it;
    `runs_out`: when the cap is reached, None if it holds until the window `ends`.
    """

    balance: Balance
    ends: float
    rate: float
    by_end: int
    runs_out: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """`hours`: (start, pico-dollars) of tonight; `last_hour`: pico-dollars of the last 3,600 s."""

    hours: Sequence[tuple[float, int]]
    last_hour: int
    outlooks: Sequence[Outlook]


async def forecast(store: Store, caps: Caps, now: float, calendar: Calendar) -> Forecast:
    """A night goes on as its last hour, a month as its last 24 hours.

    Raises:
        LedgerUnavailable: the store does not answer.
    """
    found = await store.balances(caps, now)
    rows = await store.spent_per_hour(now - _DAY_S, now + 1)
    last_hour = {each.account: each.spent for each in found if each.window is Window.HOUR}
    last_day: dict[str, int] = {}
    tonight: dict[float, int] = {}
    began = calendar.began(Window.NIGHT, now)
    for start, purse, amount in rows:
        for account in (purse, TOTAL):
            last_day[account] = last_day.get(account, 0) + amount
        if start > began - _HOUR_S:  # the hour in which the night began is of both nights
            tonight[start] = tonight.get(start, 0) + amount
    rates = {
        Window.NIGHT: {account: float(amount) for account, amount in last_hour.items()},
        Window.MONTH: {account: amount / 24 for account, amount in last_day.items()},
    }
    outlooks = [
        _outlook(each, rates[each.window], now, calendar.ends(each.window, now))
        for each in found
        if each.window in rates and (each.cap is not None or each.account == TOTAL)
    ]
    return Forecast(sorted(tonight.items()), last_hour[TOTAL], outlooks)


def _outlook(balance: Balance, rates: Mapping[str, float], now: float, ends: float) -> Outlook:
    rate = rates.get(balance.account, 0.0)
    by_end = balance.spent + round(rate * (ends - now) / _HOUR_S)
    runs_out = None
    if balance.cap is not None and by_end > balance.cap:
        left = max(0, balance.cap - balance.spent)
        runs_out = now + left / rate * _HOUR_S if rate else now
    return Outlook(balance, ends, rate, by_end, runs_out)
