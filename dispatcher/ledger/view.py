"""The ledger on a terminal, and as JSON: exact dollars as text, times in ISO 8601 (UTC)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dispatcher.ledger.accounts import TOTAL, Balance, Controls
from dispatcher.ledger.forecast import Forecast, Outlook
from dispatcher.ledger.money import DOLLAR, dollars
from dispatcher.ledger.stores import Entry

Journal = Sequence[tuple[str, Entry]]

_BALANCES: Final = ("account", "window", "cap", "spent", "used", "set aside", "left")
_CALLS: Final = ("when (UTC)", "purse", "cost", "reserved", "items", "kind", "dispatcher")
_OUTLOOKS: Final = ("account", "window", "cap", "spent", "per hour", "by its end", "cap reached")


def show_balances(
    balances: Iterable[Balance], controls: Controls, journal: Journal, console: Console
) -> None:
    """Print the accounts that have a cap or spent something, and the last calls."""
    console.print(_table(_BALANCES, [_balance(b, controls) for b in balances if _matters(b)]))
    for account in sorted(controls.frozen):
        console.print(f"{account} is frozen", style="bold")
    if any(controls.caps.values()):
        console.print("* set by hand with `lookback ledger set`, instead of the settings")
    if journal:
        console.print(_table(_CALLS, [_call(owner, entry) for owner, entry in journal]))


def show_forecast(found: Forecast, console: Console) -> None:
    """Print what was spent in every hour of tonight, and where it leads."""
    rows = [(_clock(start), dollars(amount)) for start, amount in found.hours]
    console.print(_table(("hour (UTC)", "spent"), rows))
    console.print(f"in the last hour: {dollars(found.last_hour)}")
    console.print(_table(_OUTLOOKS, [_outlook(each) for each in found.outlooks]))


def balances_to_json(
    balances: Iterable[Balance], controls: Controls, journal: Journal
) -> dict[str, Any]:
    """What `show_balances` shows, complete."""
    return {
        "balances": [
            {
                **_amounts(each),
                "leased_usd": exact(each.leased),
                "left_usd": None if each.left is None else exact(each.left),
                "began": _iso(each.began),
                "cap_by_hand": _by_hand(each, controls),
            }
            for each in balances
        ],
        "frozen": sorted(controls.frozen),
        "calls": [
            {
                "when": _iso(entry.when),
                "purse": entry.purse.value,
                "cost_usd": exact(entry.amount),
                "reserved_usd": exact(entry.reserved),
                "items": entry.items,
                "kind": entry.kind,
                "dispatcher": owner,
            }
            for owner, entry in journal
        ],
    }


def forecast_to_json(found: Forecast) -> dict[str, Any]:
    """What `show_forecast` shows."""
    return {
        "hours": [{"hour": _iso(at), "spent_usd": exact(spent)} for at, spent in found.hours],
        "last_hour_usd": exact(found.last_hour),
        "outlook": [
            {
                **_amounts(each.balance),
                "per_hour_usd": exact(round(each.rate)),
                "by_end_usd": exact(each.by_end),
                "ends": _iso(each.ends),
                "cap_reached": None if each.runs_out is None else _iso(each.runs_out),
            }
            for each in found.outlooks
        ],
    }


def exact(amount: int) -> str:
    """Pico-dollars as dollars, to the last digit."""
    return f"{Decimal(amount) / DOLLAR:f}"


def _amounts(each: Balance) -> dict[str, Any]:
    return {
        "account": each.account,
        "window": each.window.value,
        "cap_usd": None if each.cap is None else exact(each.cap),
        "spent_usd": exact(each.spent),
    }


def _matters(each: Balance) -> bool:
    return each.account == TOTAL or each.cap is not None or each.spent > 0 or each.leased > 0


def _by_hand(each: Balance, controls: Controls) -> bool:
    return each.window in controls.caps.get(each.account, {})


def _balance(each: Balance, controls: Controls) -> tuple[str, ...]:
    cap, used, left = "-", "-", "-"
    if each.cap is not None:
        cap = dollars(each.cap) + ("*" if _by_hand(each, controls) else "")
        used = f"{each.spent / each.cap:.1%}" if each.cap else "-"
        left = dollars(each.left or 0)
    leased = dollars(each.leased)
    return each.account, each.window.value, cap, dollars(each.spent), used, leased, left


def _call(owner: str, entry: Entry) -> tuple[str, ...]:
    amounts = dollars(entry.amount), dollars(entry.reserved)
    when = _clock(entry.when, seconds=True)
    return when, entry.purse.value, *amounts, str(entry.items), entry.kind, owner


def _outlook(each: Outlook) -> tuple[str, ...]:
    cap = "-" if each.balance.cap is None else dollars(each.balance.cap)
    reached = "-" if each.runs_out is None else _clock(each.runs_out)
    amounts = (cap, dollars(each.balance.spent), dollars(round(each.rate)), dollars(each.by_end))
    return each.balance.account, each.balance.window.value, *amounts, reached


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # names come from outside: no markup
    return table


def _clock(when: float, *, seconds: bool = False) -> str:
    form = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(when, UTC).strftime(form)


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat()
