"""Measure, print, and write the page after a full run."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks import machine
from benchmarks.sinks import page
from benchmarks.sinks.cases import CASES, QUICK
from benchmarks.sinks.servers import DESTINATIONS, destination

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks" / "sinks.md"
QUICK_S: Final = 40.0
_SYNCS: Final = 50


def main() -> None:
    """Read the arguments, measure, report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end, too
    where = machine.describe()
    speeds: page.Speeds = {}
    memories: page.Memories = {}
    with TemporaryDirectory() as folder:
        where["4 KiB written and synced"] = f"{_sync_ms(Path(folder)):.2f} ms"
        measure(Path(folder), speeds, memories, quick=options.quick)
    if not options.quick:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page.write(where, speeds, memories))
    figures = page.headline(speeds, memories)
    for name, value in figures.items():
        print(f"{name:<28} {value}")
    if options.json:
        print(json.dumps(figures))


def measure(folder: Path, speeds: page.Speeds, memories: page.Memories, *, quick: bool) -> None:
    """All cases, those of one destination after each other; the quick ones share the time."""
    names = QUICK if quick else tuple(CASES)
    until = time.monotonic() + QUICK_S
    for kind in DESTINATIONS:
        mine = [name for name in names if CASES[name].destination == kind]
        if not mine:
            continue
        with destination(kind, folder / kind) as at:
            for name in mine:
                rows, left = CASES[name].rows, len(names) - len(speeds)
                if quick:
                    limit_s = (until - time.monotonic()) / left
                    speeds[name] = _side(name, at, "speed", 7, rows // 5, limit_s)
                else:
                    speeds[name] = _side(name, at, "speed", 7, rows, 600)
                    memories[name] = _side(name, at, "memory")
                for line in page.lines(name, speeds, memories):
                    print(line, flush=True)


def _side(name: str, at: str, *arguments: object) -> Any:
    """In a process of its own, which starts with an empty memory."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sinks.side", name, at, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} could not be measured: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _sync_ms(folder: Path) -> float:
    """How long this disk takes: it bounds what waits for it once a batch."""
    spent = []
    with (folder / "synced").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            spent.append(time.perf_counter() - started)
    return 1000 * median(spent)


if __name__ == "__main__":
    main()
