"""Live first, also between processes: who shares a ledger says through it when live needs workers.

The live lane says so while it waits for workers or money, or is late; a replay in another process
looks several times a second, and sends nothing meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Final

from dispatcher.calls.queue import Holder, Queue
from dispatcher.clock import Clock
from dispatcher.errors import LedgerUnavailable
from dispatcher.ledger.accounts import Purse
from dispatcher.ledger.stores import Store

_LOOK_S: Final = 0.25
_NEED_S: Final = 2.0  # a dispatcher that died needs nothing any more


async def watch(queue: Queue, store: Store, owner: str, clock: Clock, late_s: float) -> None:
    """Say that a live queue needs workers, or keep a replay's queue still while another does.

    Until cancelled. `late_s`: age of the oldest question at which a live queue is late.
    """
    while True:
        now = clock.now()
        try:
            if queue.purse is Purse.LIVE:
                if needs_workers(queue, late_s):
                    await store.need(owner, now + _NEED_S)
            elif queue.purse is Purse.REPLAY:
                queue.paused = await store.needed_until(now, owner) > now
        except LedgerUnavailable:
            queue.paused = queue.purse is Purse.REPLAY
        await asyncio.sleep(_LOOK_S)


def needs_workers(queue: Queue, late_s: float) -> bool:
    """Whether it waits for what a replay may be using."""
    return queue.held in (Holder.WORKERS, Holder.MONEY) or queue.oldest_s > late_s
