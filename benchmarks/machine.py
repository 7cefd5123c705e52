"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil


def describe() -> dict[str, str]:
    """Processor, cores, memory, system and the releases that decide the speed."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def page(
    title: str, module: str, method: str, figures: Mapping[str, Any], where: Mapping[str, str]
) -> str:
    """A result page in Markdown: the method as the module tells it, all figures, the machine."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    on = "\n".join(f"| {name} | {value} |" for name, value in where.items())
    return (
        f"# {title}\n\nWritten by `python -m benchmarks.{module}` on "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}; one run, nothing left out.\n\n"
        f"```\n{method.strip()}\n```\n\n"
        f"| figure | value |\n|---|---|\n{rows}\n\n| machine | |\n|---|---|\n{on}\n"
    )
