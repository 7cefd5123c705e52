"""One line in the log when a lane stands still for money, one when it goes on."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from dispatcher.calls.queue import Holder, Queue
from dispatcher.clock import Clock

_LOOK_S: Final = 1.0
_PATIENCE_S: Final = 5.0  # waits of some seconds are how a cap for a minute works

_log = structlog.get_logger()


async def report(queue: Queue, clock: Clock) -> None:
    """Until cancelled."""
    since: float | None = None
    said = False
    while True:
        await asyncio.sleep(_LOOK_S)
        why = _standstill(queue)
        if why is None:
            if said:
                _log.info(
                    "the lane goes on", ended="budget_gone", subject=queue.lane, lane=queue.lane
                )
            since, said = None, False
            continue
        since = clock.monotonic() if since is None else since
        if not said and clock.monotonic() - since >= _PATIENCE_S:
            said = True
            _log.warning(
                "the lane stands still, its source is not asked for more",
                incident="budget_gone",
                subject=queue.lane,
                lane=queue.lane,
                why=why,
                advice="see `lookback ledger show`; set and freeze --off change it",
            )


def _standstill(queue: Queue) -> str | None:
    """Why nothing can be paid; None if something can, or nothing is there to be sent."""
    if queue.ledger.away:
        return None  # the ledger says so itself
    if queue.held is Holder.MONEY:
        return queue.why
    if not (queue.waiting or queue.at_workers) and not queue.affordable(1):
        return queue.ledger.why(queue.purse)
    return None
