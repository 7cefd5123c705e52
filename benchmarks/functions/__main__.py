"""Measure, print, and write the page after a full run."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from pathlib import Path
from typing import Any, Final

import structlog

from benchmarks import machine
from benchmarks.functions import measured, page

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks" / "functions.md"
_ITEMS: Final = 160


async def quick() -> dict[str, Any]:
    """The figures of the last line, within 50 seconds."""
    return {
        **await measured.rate(15, _ITEMS),
        **await measured.one_by_one(60),
        **await measured.as_cai(),
        **await measured.books(150, (2,)),
    }


async def full() -> dict[str, Any]:
    """Everything, one after the other: each has the machine to itself."""
    half = await measured.rate(40, _ITEMS, "bfloat16")
    groups = [
        await measured.together(ranks, _ITEMS, cold=cold, grouped=grouped)
        for ranks in (2, 4)
        for cold in (True, False)
        for grouped in (True, False)
    ]
    return {
        **await measured.rate(60, _ITEMS),
        **{f"{name}_bfloat16": value for name, value in half.items()},
        **await measured.one_by_one(200),
        **await measured.as_cai(),
        **await measured.books(5000, (1, 2, 4)),
        "groups": groups,
    }


def main() -> None:
    """Read the arguments, measure, report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    where = machine.describe()
    found = asyncio.run(quick() if options.quick else full())
    found["simulated"] = page.SIMULATED
    if not options.quick:
        PAGE.write_text(page.write(where, found))
    for name, value in found.items():
        if not isinstance(value, list):
            print(f"{name:44} {value:.4g}" if isinstance(value, float) else f"{name:44} {value}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
