"""Measure, print, and write the page after a full run."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from benchmarks import machine
from benchmarks.delivery import page, runs, servers, side, visit
from benchmarks.delivery.figures import Found
from benchmarks.delivery.plans import BY_BATCH, BY_EVENT, Bench

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "delivery.md"

_ALL = (side.LOOKBACK_WORK, *BY_BATCH, *BY_EVENT)


async def quick(bench: Bench) -> Found:
    """The figures of the last line, within 50 seconds."""
    counts = {side.LOOKBACK_WORK: 20_000, side.FASTSTREAM_BATCH: 20_000}
    counts |= {side.QUIX_BATCH: 10_000, side.FASTSTREAM: 600, side.QUIX: 200}
    small, large, even, drained = await bench.measure(
        await bench.consuming(100_000, 1_000, 5),
        await bench.consuming(1_500, 80_000, 3),
        await bench.answering(counts, "even", 1),
        await bench.draining(800, 4),
        shared=True,
    )
    return Found(small, large, even, drained, bench.overhead(40_000, 1))


async def full(bench: Bench) -> Found:
    """Everything."""
    counts = {side.LOOKBACK_WORK: 60_000, side.FASTSTREAM_BATCH: 60_000}
    counts |= {side.QUIX_BATCH: 30_000, side.FASTSTREAM: 3_000, side.QUIX: 1_200}
    fewer = counts | {side.FASTSTREAM_BATCH: 10_000, side.QUIX_BATCH: 5_000}
    return Found(
        small=await bench.one(await bench.consuming(200_000, 1_000, 7, side.BARE_FOR)),
        large=await bench.one(await bench.consuming(5_000, 80_000, 5, side.BARE_FOR)),
        even=await bench.one(await bench.answering(counts, "even", 3)),
        drained=await bench.one(await bench.draining(2_000, 7)),
        overhead=bench.overhead(200_000, 5),
        uneven=await bench.one(await bench.answering(fewer, "uneven", 3)),
        decoded=await bench.one(await bench.decoding(40_000, 3)),
        memory=await bench.memory(1_000_000, list(range(100_000, 1_000_001, 100_000))),
        visit=await bench.visit(visit.PACKETS),
    )


async def measure(*, in_short: bool) -> Found:
    """Start the servers, measure."""
    core, limit_s = runs.core(), 120 if in_short else 3600
    runs.leave(core)
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.broker(limit_s) as broker,
        servers.queues(Path(folder), limit_s) as queues,
    ):
        bench = Bench(broker, queues, core)
        return await (quick(bench) if in_short else full(bench))


def main() -> None:
    """Read the arguments, measure, report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    where = machine.describe()
    found = asyncio.run(measure(in_short=options.quick))
    if not options.quick:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page.write(where, found))
    for line in page.lines(found):
        print(line)
    figures = found.headline()
    for name, value in figures.items():
        print(f"{name:<28} {value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
