"""The purse of one replay: what it may spend, and how it is noticed that nothing is left."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Final

from dispatcher.calls.queue import Holder, Queue
from dispatcher.errors import LedgerUnavailable
from dispatcher.ledger.accounts import Balance, Purse, Window
from dispatcher.ledger.ledger import Ledger
from dispatcher.settings import Settings

_LOOK_S: Final = 0.5
_LOOKS: Final = 6
"""So many in a row find no money: a slice that is on its way would have come."""


def with_purse(settings: Settings, usd: Decimal) -> Settings:
    """The settings with so many dollars a month for replays, or fewer if they say so."""
    given = settings.replay.month_usd
    month = usd if given is None else min(given, usd)
    return settings.model_copy(
        update={"replay": settings.replay.model_copy(update={"month_usd": month})}
    )


async def until_empty(queue: Queue, ledger: Ledger) -> None:
    """Return when nothing more can be sent of the month's money for replays."""
    without = 0
    while without < _LOOKS:
        await asyncio.sleep(_LOOK_S)
        try:
            empty = _waits(queue) and any(_is_empty(b, queue) for b in await ledger.balances())
        except LedgerUnavailable:
            empty = False
        without = without + 1 if empty else 0


def _waits(queue: Queue) -> bool:
    if queue.at_workers:
        return False
    return queue.held is Holder.MONEY or not (queue.waiting or queue.affordable(1))


def _is_empty(balance: Balance, queue: Queue) -> bool:
    if (balance.account, balance.window) != (Purse.REPLAY, Window.MONTH) or balance.cap is None:
        return False
    size = queue.policy.size()
    # What is leased to this very replay is not spent: it has it, and it is not enough.
    return balance.cap - balance.spent < queue.policy.quote(size.items, size.ranks).worst
