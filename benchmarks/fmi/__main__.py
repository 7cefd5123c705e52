"""Measure, print, and write the page after a full run."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import machine
from benchmarks.fmi import cases, page
from benchmarks.fmi.cases import (
    ALL,
    ALLREDUCE,
    ASYNCIO,
    BARE_REDIS,
    BARRIER,
    DIRECT,
    OPENMPI,
    PING,
    REDIS,
    SET_UP,
    SOCKET,
    STREAM,
    SYSTEMS,
    Case,
)
from benchmarks.fmi.runs import Bench
from benchmarks.fmi.servers import Meeting, store
from benchmarks.fmi.teams import check_openmpi

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "fmi.md"
Plan = dict[int, dict[Case, Collection[str]]]  # systems of each case, by ranks

QUICK: Plan = {
    2: {
        PING: (DIRECT, SOCKET, REDIS, BARE_REDIS),
        STREAM: (DIRECT, SOCKET),
        ALLREDUCE: (DIRECT, OPENMPI),
    },
    8: {SET_UP: (DIRECT,), BARRIER: (DIRECT, OPENMPI)},
}


def full() -> Plan:
    """Everything; the asyncio interface with two ranks only, which says what it costs."""
    return {
        ranks: {
            case: [
                system
                for system in SYSTEMS
                if cases.covers(system, case) and (ranks == 2 or system != ASYNCIO)
            ]
            for case in ALL
        }
        for ranks in (2, 4, 8)
    }


def main() -> None:
    """Read the arguments, measure, report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    check_openmpi()
    where = machine.describe()
    quick, limit_s = options.quick, 50 if options.quick else 1800
    with store(limit_s) as port, closing(Meeting()) as meeting, TemporaryDirectory() as folder:
        bench = Bench(
            meeting,
            port,
            Path(folder),
            rounds=21,
            round_s=0.1 if quick else 0.12,
            set_ups=15 if quick else 31,
            until=time.monotonic() + (35 if quick else math.inf),
            limit_s=limit_s,
        )
        for ranks, plan in (QUICK if quick else full()).items():
            bench.compare(ranks, plan)
    print("\n".join(page.lines(bench.figures)))
    if not quick:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page.write(where, bench))
    figures = {name: round(value, 3) for name, value in cases.headline(bench.figures).items()}
    for ranks, share in bench.outside.items():
        figures[f"outside_cpu_{ranks}"] = round(share, 3)
    for name, value in figures.items():
        print(f"{name:<28} {value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
