"""One side in a fresh process: `python -m benchmarks.delivery.side NAME CORE ROUNDS`."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, Final

from benchmarks.delivery.gate import Gate
from dispatcher import collector

BARE: Final = "bare getmany"
BARE_FOR: Final = "bare async for"
LOOKBACK: Final = "Lookback"
DECODED: Final = "Lookback, decoded"
LOOKBACK_WORK: Final = "Lookback, 1,000 under way"
FASTSTREAM: Final = "FastStream, by event"
FASTSTREAM_BATCH: Final = "FastStream, by batch"
QUIX: Final = "Quix Streams, by event"
QUIX_BATCH: Final = "Quix Streams, by batch"
BARE_QUEUE: Final = "bare receive and delete"
LOOKBACK_QUEUE: Final = "Lookback, queue"


def _side(name: str) -> Callable[..., Any]:
    # Each process imports what it measures, and nothing else.
    sides: dict[str, Callable[..., Any]]
    if name in (BARE, BARE_FOR, BARE_QUEUE):
        from benchmarks.delivery import bare

        sides = {BARE: bare.getmany, BARE_FOR: bare.one_by_one, BARE_QUEUE: bare.queue}
    elif name == DECODED:
        from benchmarks.delivery import decoded

        collector.ease()  # as the service does
        sides = {DECODED: decoded.notices}
    elif name in (LOOKBACK, LOOKBACK_WORK, LOOKBACK_QUEUE):
        from benchmarks.delivery import ours

        collector.ease()  # as the service does
        sides = {
            LOOKBACK: ours.instant,
            LOOKBACK_WORK: ours.answering,
            LOOKBACK_QUEUE: ours.queue,
        }
    else:
        from benchmarks.delivery import peers

        sides = {
            FASTSTREAM: peers.faststream,
            FASTSTREAM_BATCH: peers.faststream_batches,
            QUIX: peers.quix,
            QUIX_BATCH: peers.quix_batches,
        }
    return sides[name]


async def _all(side: Callable[..., Any], core: int, rounds: list[dict[str, Any]]) -> None:
    """All rounds of a side get ready together; the gates let them go one by one."""

    async def one(arguments: dict[str, Any]) -> None:
        gate = Gate(core)
        gate.report(**await side(gate, **arguments))

    async with asyncio.TaskGroup() as tasks:
        for arguments in rounds:
            tasks.create_task(one(arguments))


def main() -> None:
    """Measure the rounds of one side, and print the figures of each in a line."""
    name, core, rounds = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    # Imports and joins may use what there is; from the gate on there is one core.
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")  # of peers' own dependencies
    side = _side(name)
    if inspect.iscoroutinefunction(side):
        asyncio.run(_all(side, core, rounds))
        return
    for arguments in rounds:
        gate = Gate(core)
        gate.report(**side(gate, **arguments))


if __name__ == "__main__":
    main()
