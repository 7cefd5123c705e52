"""Memory of a lane over many events: `python -m benchmarks.delivery.memory CORE JSON`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.delivery.gate import Gate
from benchmarks.delivery.ours import kafka, lane, settings
from benchmarks.delivery.works import Instant
from dispatcher import collector
from dispatcher.errands import Errand


class Watched(Instant):
    """Notes the resident memory where so many events were taken."""

    def __init__(self, marks: Sequence[int], depth: int) -> None:
        super().__init__(depth)
        self._marks, self._taken = sorted(marks), 0
        self.rss_mib: dict[int, float] = {}

    async def accept(self, errands: Sequence[Errand]) -> None:
        """See `Work.accept`."""
        self._taken += len(errands)
        await super().accept(errands)
        while self._marks and self._taken >= self._marks[0]:
            self.rss_mib[self._marks.pop(0)] = psutil.Process().memory_info().rss / 2**20


async def follow(servers: str, topic: str, group: str, marks: Sequence[int]) -> dict[str, Any]:
    """Read the topic to its end, with 1,000 events in flight."""
    work = Watched(marks, depth=1000)
    with lane(kafka(Gate(), servers, topic, group), work, settings(2000, 500)) as ours:
        await ours.run()
    return {"rss_mib": work.rss_mib, "events": ours.outcomes.total()}


def main() -> None:
    """Print the figures."""
    collector.ease()  # as the service does
    os.sched_setaffinity(0, {int(sys.argv[1])})
    print(json.dumps(asyncio.run(follow(**json.loads(sys.argv[2])))))


if __name__ == "__main__":
    main()
