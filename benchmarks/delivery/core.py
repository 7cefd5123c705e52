"""What the lane costs by itself: `python -m benchmarks.delivery.core CORE EVENTS ROUNDS`.

An in-memory source and an instant work, so that nothing but the taking, the custody, the credit,
the settling and the commits is left (and the source's own deliveries).
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from typing import Final

from benchmarks.delivery.ours import lane, settings
from benchmarks.delivery.topics import PARTITIONS
from benchmarks.delivery.works import Instant
from dispatcher import collector
from dispatcher.books import Outcome
from ingest.sources.memory import MemorySource

DEPTHS: Final = (10, 100, 1_000, 10_000)
_FETCH: Final = 500


async def us_per_event(events: int, depth: int) -> float:
    """Microseconds for each event, with `depth` others in flight."""
    source = MemorySource({str(n): [b"x" * 1000] * (events // PARTITIONS) for n in range(4)})
    with lane(source, Instant(depth), settings(depth + 2 * _FETCH, _FETCH)) as ours:
        started = time.process_time()
        await ours.run()
        spent_s = time.process_time() - started
    if ours.outcomes[Outcome.WRITTEN] != events:
        raise RuntimeError(f"{ours.outcomes} of {events}")
    return 1e6 * spent_s / events


def main() -> None:
    """Print the medians over the rounds, by depth."""
    core, events, rounds = (int(each) for each in sys.argv[1:])
    collector.ease()  # as the service does
    os.sched_setaffinity(0, {core})
    found: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    for number in range(rounds):
        for depth in reversed(DEPTHS) if number % 2 else DEPTHS:
            found[depth].append(asyncio.run(us_per_event(events, depth)))
    print(json.dumps({depth: statistics.median(each) for depth, each in found.items()}))


if __name__ == "__main__":
    main()
