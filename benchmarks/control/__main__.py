"""Measure, print, and write the page after a full run."""

from __future__ import annotations

import argparse
import json
import logging
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import structlog

from benchmarks import machine
from benchmarks.control import measured, page, simulated
from dispatcher.simulate.arrivals import PATTERNS

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks" / "control.md"
_SIZES: Final = (40, 80, 160)
_AGES: Final = (0.75, 0.9)


def quick() -> dict[str, Any]:
    """The figures of the last line, within 50 seconds."""
    return {
        "us_per_item": measured.us_per_item(1),
        "admit_us": measured.admit_us(20_000),
        **measured.poison((301,)),
        **simulated.overshoot(range(2), 180),
        **simulated.straggler(240),
        **simulated.replay(1),
        **simulated.fixed(("bursts", "dump-and-quiet"), (80, 160), (0.75, 0.9)),
        **simulated.dump(20_000, (160,), (0.75, 0.9)),
        **simulated.lsst(8),
    }


def full(nights: int) -> dict[str, Any]:
    """Everything; what is simulated on two processes, the longest first."""
    found: dict[str, Any] = {
        "us_per_item": measured.us_per_item(10),
        "admit_us": measured.admit_us(200_000),
        **measured.poison((0, 63, 64, 301, 511)),
    }
    with get_context("spawn").Pool(2) as pool:
        night = pool.apply_async(simulated.lsst, (1000,))
        curve = pool.apply_async(simulated.curve, (60,))
        singles = [
            pool.apply_async(simulated.dump, (90_000, _SIZES, _AGES)),
            pool.apply_async(simulated.replay, (8,)),
            pool.apply_async(simulated.straggler, (1600,)),
        ]
        fixed = [pool.apply_async(simulated.fixed, ((name,), _SIZES, _AGES)) for name in PATTERNS]
        seeds = [range(first, nights, 8) for first in range(8)]
        over = [pool.apply_async(simulated.overshoot, (some, 300)) for some in seeds]
        found |= {**night.get(), "curve": curve.get()}
        for each in singles:
            found |= each.get()
        tables, parts = [each.get() for each in fixed], [each.get() for each in over]
    found |= {
        "vs_best_fixed_batch": max(each["vs_best_fixed_batch"] for each in tables),
        "patterns": [row for each in tables for row in each["patterns"]],
        "overshoot_worst": max(each["overshoot_worst"] for each in parts),
        "overshoot_calls": max(each["overshoot_calls"] for each in parts),
        "cap_used_least": min(each["cap_used_least"] for each in parts),
        "cap_used_most": max(each["cap_used_most"] for each in parts),
    }
    for name in ("overshoot_nights", "overshoot_nights_out_of_bound"):
        found[name] = sum(each[name] for each in parts)
    return found


def main() -> None:
    """Read the arguments, measure, report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments.add_argument("--nights", type=int, default=1000, help="for the overshoot")
    options = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    where = machine.describe()
    found = quick() if options.quick else full(options.nights)
    found["simulated"] = page.SIMULATED
    if not options.quick:
        PAGE.write_text(page.write(where, found))
    for name, value in found.items():
        if not isinstance(value, list):
            print(f"{name:40} {value:.4g}" if isinstance(value, float) else f"{name:40} {value}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
