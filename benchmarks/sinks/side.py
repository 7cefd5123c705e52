"""One case in a process of its own; what it finds is JSON on the last line.

`side CASE AT speed ROUNDS ROWS LIMIT_S` or `side CASE AT memory`
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import psutil

from benchmarks.sinks import night
from benchmarks.sinks.bare import Side, make_bucket, make_topic
from benchmarks.sinks.cases import CASES, Case
from benchmarks.sinks.servers import ACCESS
from sinks import Access, open_sink
from sinks.record import ResultRecord

_AT_LEAST: Final = 3


class Ours:
    """A sink, opened as a service would open it."""

    def __init__(self, case: Case, at: str, name: str) -> None:
        self._case, self._at, self._topic = case, at, f"results-{name}"
        access = Access(aws={"endpoint_url": at, **ACCESS}) if case.destination == "aws" else None
        self._sink = open_sink(case.address.format(at=at, name=name), access=access)

    async def open(self) -> None:
        """See `Side.open`."""
        if self._case.destination == "kafka":
            await make_topic(self._at, self._topic)
        if self._case.destination == "aws":
            await make_bucket(self._at)
        await self._sink.open()

    def ready(self, records: Sequence[ResultRecord]) -> Sequence[ResultRecord]:
        """See `Side.ready`."""
        return records

    async def write(self, ready: Sequence[ResultRecord]) -> None:
        """See `Side.write`."""
        await self._sink.write(ready)

    async def close(self) -> None:
        """See `Side.close`."""
        await self._sink.close()


async def speed(
    name: str, at: str, rounds: int, rows: int, limit_s: float
) -> dict[str, list[float]]:
    """Rows a second of each round: ours, ours when the same comes again, and the peer's.

    After three rounds, none begins that would end after `limit_s`.
    """
    case = CASES[name]
    found: dict[str, list[float]] = {"ours": [], "again": [], "peer": []}
    batches = [
        night.records(first, case.batch, all_sky=case.all_sky)
        for first in range(0, rows + case.batch, case.batch)
    ]
    gc.collect()
    gc.freeze()
    started = time.perf_counter()
    for n in range(rounds):
        if n >= _AT_LEAST and (time.perf_counter() - started) * (n + 1) / n > limit_s:
            break
        ours, peer = Ours(case, at, f"{name}_{n}"), case.peer(at, f"{name}_{n}")
        for side in (ours, peer) if n % 2 else (peer, ours):
            await _round(side, batches, found)
    return found


async def _round(
    side: Side, batches: list[list[ResultRecord]], found: dict[str, list[float]]
) -> None:
    await side.open()
    first, *rest = [side.ready(batch) for batch in batches]
    await side.write(first)
    rows = sum(map(len, rest))
    found["ours" if isinstance(side, Ours) else "peer"].append(rows / await _timed(side, rest))
    if isinstance(side, Ours):
        found["again"].append(rows / await _timed(side, rest))
    await side.close()


async def _timed(side: Side, batches: Sequence[Any]) -> float:
    started = time.perf_counter()
    for batch in batches:
        await side.write(batch)
    return time.perf_counter() - started


async def memory(name: str, at: str) -> list[dict[str, float]]:
    """Resident memory and rows a second at each tenth of many rows."""
    case = CASES[name]
    side, points, spent = Ours(case, at, f"{name}_many"), [], 0.0
    tenth = case.many // 10
    await side.open()
    for first in range(0, case.many, case.batch):
        batch = night.records(first, case.batch, all_sky=case.all_sky)
        spent += await _timed(side, [batch])
        done = first + case.batch
        if done % tenth == 0:
            resident = psutil.Process().memory_info().rss / 2**20
            points.append({"rows": done, "mib": resident, "rows_per_s": tenth / spent})
            spent = 0.0
    await side.close()
    return points


def main() -> None:
    """Measure one case."""
    name, at, what, *limits = sys.argv[1:]
    if what == "memory":
        found: Any = asyncio.run(memory(name, at))
    else:
        rounds, rows, limit_s = limits
        found = asyncio.run(speed(name, at, int(rounds), int(rows), float(limit_s)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
