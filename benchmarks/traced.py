"""What a trace costs: processor time per event of a night, off, for a tenth, for every event.

The whole road but for the model: notices with a stamp from memory, a handler that answers at once,
results into SQLite. The collector is a process of its own, which takes everything and keeps
nothing.

    python -m benchmarks.traced [--quick] [--json]

loop_us_*      processor time per event of the dispatcher's own thread; median of the nights
process_us_*   of the whole process, with the thread that sends; off, a tenth, all: what is traced
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import numpy as np

from dispatcher import collector as garbage
from dispatcher import service
from dispatcher.invokers import InlineInvoker
from dispatcher.settings import Settings
from ingest.codecs.notice import InlineImage, NewImage
from ingest.sources.memory import MemorySource
from workers.wire import Estimate, Verdict, VerdictKind, decode_items, encode_verdicts

SHARES: Final = {"off": 0.0, "a_tenth": 0.1, "all": 1.0}
_ESTIMATE: Final = Estimate(0.1, 0.1, 0.1, 0.09, 0.11, 0.08, 0.12, 0)


class _Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def collecting() -> Iterator[str]:
    """The URL of a collector."""
    command = [sys.executable, "-m", "benchmarks.traced", "--collect"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("the collector says no port")
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


async def spent(bodies: list[bytes], endpoint: str, share: float, folder: Path) -> dict[str, Any]:
    """One night: seconds of processor per event, and of that the loop's own."""
    settings = Settings(
        workers={"weights": "galaxies", "ranks": 1, "count": 1},
        traces={"endpoint": endpoint, "share": share},
    )
    model = service.identify_model("galaxies")

    def answer(event: dict[str, Any], _: object) -> dict[str, Any]:
        keys, _, _ = decode_items(event["partition"])
        said = [Verdict(each, VerdictKind.ESTIMATED, _ESTIMATE) for each in keys]
        return {
            "model": {"weights_sha256": model.weights_sha256},
            "verdicts": encode_verdicts(said),
            "gathered": [],
            "ms": {"decode": 1.0, "infer": 1.0, "total": 2.0},
        }

    source, invoker = MemorySource({"p": bodies}), InlineInvoker(answer)
    began, loop = time.process_time(), time.thread_time()
    async with service.prepare(
        "memory://", folder, settings, replaying=source, invoker=invoker
    ) as run:
        await run.lane.run()
        count = len(bodies)
        loop = time.thread_time() - loop
    return {"process": (time.process_time() - began) / count, "loop": loop / count}


def measure(events: int, rounds: int) -> dict[str, float]:
    """Microseconds per event for each share, the median of several nights."""
    logging.disable()
    garbage.ease()  # as a run does
    rng = np.random.default_rng(1)
    image = InlineImage.of_pixels(rng.normal(size=(5, 32, 32)))
    bodies = [
        NewImage(
            id=n, survey="bench", ra=1.0, dec=1.0, magnitudes=(20.0,) * 5, stamp=image
        ).to_bytes()
        for n in range(events)
    ]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SHARES}
    with collecting() as endpoint, tempfile.TemporaryDirectory() as folder:
        for n in range(rounds + 1):
            for name, share in SHARES.items():
                one = asyncio.run(spent(bodies, endpoint, share, Path(folder) / f"{n}-{share}"))
                if n:  # the first is for the caches
                    found[name].append(one)
    return {
        f"{part}_us_{name}": round(1e6 * statistics.median(night[part] for night in nights), 1)
        for name, nights in found.items()
        for part in ("loop", "process")
    }


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.collect:
        _collect()
    figures = measure(1000 if options.quick else 3000, 3 if options.quick else 5)
    for name, value in figures.items():
        print(f"{name:<28} {value}")
    if options.json:
        print(json.dumps(figures))


def _collect() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Taker)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
