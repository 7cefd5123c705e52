"""A visit of LSST: 10,000 packets of 100 KB in 37 s, taken by the whole of Lookback.

Source, decoding, stamps, batches, wire, sink (SQLite on this disk) and commits are real. The
packets are SIMULATED notices with a stamp of noise, and the worker is SIMULATED: it is handed the
items as any worker, sleeps for as long as the model takes for them on one core, and answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from benchmarks.delivery.topics import PARTITIONS
from dispatcher.conclusions import Conclusion
from dispatcher.invokers import InlineInvoker
from dispatcher.service import Run, identify_model, prepare
from dispatcher.settings import Settings
from ingest.codecs.notice import InlineImage
from ingest.sources.kafka import KafkaSource
from workers.wire import Estimate, Verdict, VerdictKind, decode_items, encode_verdicts

PACKETS: Final = 10_000
WINDOW_S: Final = 37.0
IMAGES_PER_S: Final = 420.0
"""Of the model on one core: see the page on inference."""

_SIDE: Final = 63  # pixels: the notice has 100 KB
_MIB: Final = 256.0
_ESTIMATE: Final = Estimate(0.1, 0.1, 0.1, 0.09, 0.11, 0.08, 0.12, 0)


def packets(kinds: int = 16) -> list[tuple[bytes, bytes]]:
    """What stands before and after the number of a packet, for a few different stamps."""
    noise = np.random.default_rng(1)
    halves = []
    for _ in range(kinds):
        image = noise.normal(size=(5, _SIDE, _SIDE)).astype(np.float32)
        stamp = InlineImage.of_pixels(image).model_dump_json()
        rest = ',"survey":"SIMULATED","ra":10.5,"dec":-3.25,"magnitudes":[20,19,18,18,17.5]'
        halves.append((b'{"id":', f'{rest},"stamp":{stamp}}}'.encode()))
    return halves


def packet(halves: Sequence[tuple[bytes, bytes]], number: int) -> bytes:
    """Packet `number`."""
    before, after = halves[number % len(halves)]
    return before + str(number).encode() + after


class Worker:
    """Answers as late as the model would on one core. SIMULATED."""

    def __init__(self, sha256: str) -> None:
        self._sha256 = sha256

    def __call__(self, event: dict[str, Any], _context: Any) -> dict[str, Any]:
        """The handler."""
        due = time.monotonic()
        ids, _, _ = decode_items(event["partition"])
        time.sleep(max(0.0, due + len(ids) / IMAGES_PER_S - time.monotonic()))
        verdicts = [Verdict(each, VerdictKind.ESTIMATED, _ESTIMATE) for each in ids]
        return {
            "rank": 0,
            "model": {"weights_sha256": self._sha256},
            "verdicts": encode_verdicts(verdicts),
            "gathered": [],
            "drift": [],
        }


async def take(servers: str, topic: str, count: int, start: float) -> dict[str, Any]:
    """Take the visit that begins at `start` (unix seconds)."""
    settings = Settings.model_validate(
        {
            "kafka": {"session_timeout_s": 6.0, "revoke_s": 1.0},
            "flow": {"items": 4000, "mib": _MIB},
            "workers": {"ranks": 1, "count": 1},
        }
    )
    worker = InlineInvoker(Worker(identify_model(settings.workers.weights).weights_sha256), slots=1)
    location, late_s = f"kafka://{servers}/{topic}", list[float]()
    with tempfile.TemporaryDirectory() as folder:
        async with prepare(location, Path(folder) / "out", settings, invoker=worker) as run:
            before = psutil.Process().memory_info().rss

            def note(conclusions: Conclusion) -> None:
                position = conclusions.errand.delivery.position
                number = position.offset * PARTITIONS + int(position.partition)
                late_s.append(time.time() - (start + number * WINDOW_S / PACKETS))
                if len(late_s) == count:
                    run.lane.stop()

            run.pipeline.listeners = [*run.pipeline.listeners, note]
            async with _watching(run) as seen:
                await run.lane.run()
            totals = run.night.estimates()
    return {
        "estimates": totals,
        "p50_s": float(np.quantile(late_s, 0.5)),
        "p98_s": float(np.quantile(late_s, 0.98)),
        "largest_s": max(late_s),
        "rss_before_mib": before / 2**20,
        "rss_peak_mib": max(each["rss_mib"] for each in seen),
        "under_way_peak_mib": max(each["under_way_mib"] for each in seen),
        "lag_peak": max(each["lag"] for each in seen),
        "seen": seen,
    }


@asynccontextmanager
async def _watching(run: Run) -> AsyncIterator[list[dict[str, float]]]:
    """A look at it each half second."""
    seen: list[dict[str, float]] = []
    started = time.monotonic()

    async def watch() -> None:
        while True:
            source = run.lane.source
            lags = source.lag() if isinstance(source, KafkaSource) else {}
            seen.append(
                {
                    "t_s": time.monotonic() - started,
                    "lag": sum(each.offsets for each in lags.values()),
                    "under_way": run.lane.credit.items,
                    "under_way_mib": run.lane.credit.bytes / 2**20,
                    "rss_mib": psutil.Process().memory_info().rss / 2**20,
                }
            )
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.wait({watching})


def main() -> None:
    """`python -m benchmarks.delivery.visit CORE JSON`: print the figures."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    print(json.dumps(asyncio.run(take(**json.loads(sys.argv[2])))))


if __name__ == "__main__":
    main()
