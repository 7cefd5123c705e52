"""Measure, print, and write the page after a full run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.inference import fresh, page
from benchmarks.inference.figures import Rounds, details

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "inference.md"


def main() -> None:
    """Read the arguments, measure, report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    where = machine.describe()
    # One core, for this process and all that it starts.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    begun = time.perf_counter()
    started = fresh.starts(3 if options.quick else 9)
    spent = time.perf_counter() - begun
    rounds = _rounds(5, 42 - spent, "quick") if options.quick else _rounds(7, 1500, "full")
    figures: dict[str, Any] = {k: round(v, 3) for k, v in rounds.headline().items()}
    for name in ("cold_start_s", "cold_start_core_s", "peak_mib"):
        figures[name] = round(started[name], 3)
    if not options.quick:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page.write(where, rounds, figures, started))
    for line in page.lines(rounds):
        print(line)
    for name, value in figures.items():
        print(f"{name:<28} {value}")
    if options.json:
        print(json.dumps(figures | {"details": details(rounds)}))


def _rounds(rounds: int, limit_s: float, which: str) -> Rounds:
    """Measured in a process of its own, where no library has made threads yet."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.inference.sides", str(rounds), str(limit_s), which],
        env=os.environ | threads,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the sides could not be measured: {done.stderr[-2000:]}")
    return Rounds(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
