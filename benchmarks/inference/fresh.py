"""What a function costs besides its work: the time to start, memory, bytes on disk."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any, Final

import numpy as np

from workers.weights import find, identify
from workers.wire import Item, encode_items

_ITEMS: Final = 160  # what fits into one invocation
_ROOT: Final = Path(__file__).parents[2]

_PROGRAM: Final = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is not in the image")

sys.meta_path.insert(0, NoTorch())
import json, resource, time
from types import SimpleNamespace
from workers.handler import handler

context = SimpleNamespace(get_remaining_time_in_millis=lambda: 600_000)
first, second = (json.load(open(path)) for path in sys.argv[1:])
assert len(handler(first, context)["verdicts"]) == 1
print(time.process_time(), flush=True)
handler(second, context)
print(json.dumps({
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "modules": sorted({name.split(".")[0] for name in sys.modules}),
}))
"""

# Of the runtime's wheel, what a function does not need: other devices, other formats, headers.
_SPARE: Final = ("gpu_plugin", "npu_plugin", "frontend", "/include/", "cache.json", "/tools/")


def starts(times: int) -> dict[str, Any]:
    """Fresh processes, one after another: `cold_start_s`, `peak_mib`, and what they imported."""
    with tempfile.TemporaryDirectory() as folder:
        events = [Path(folder) / f"{n}.json" for n in (1, _ITEMS)]
        for path, n in zip(events, (1, _ITEMS), strict=True):
            path.write_text(json.dumps(_event(n)))
        # The first one warms the disk's cache, and writes what Python compiles.
        found = [_start(events) for _ in range(times + 1)][1:]
    seconds = [each["seconds"] for each in found]
    return {
        "cold_start_s": statistics.median(seconds),
        "cold_starts_s": seconds,
        "cold_start_core_s": statistics.median(each["core"] for each in found),
        "peak_mib": max(each["peak_mib"] for each in found),
        "modules": found[-1]["modules"],
    }


def _start(events: list[Path]) -> dict[str, Any]:
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *map(str, events)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        assert process.stdout
        on_core = float(process.stdout.readline())
        seconds = time.perf_counter() - started
        found: dict[str, Any] = json.loads(process.stdout.readline())
    return found | {"seconds": seconds, "core": on_core}


def _event(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    items = [
        Item(str(i), rng.normal(size=(5, 32, 32)).astype(np.float32), np.full(5, 20, np.float32))
        for i in range(n)
    ]
    return {"job": {"weights_sha256": identify().sha256}, "partition": encode_items(items)}


def image_bytes(modules: list[str]) -> dict[str, int]:
    """Bytes on disk of what a function imports: installed packages, our code, the weights."""
    found: dict[str, int] = {}
    owners = packages_distributions()
    for name in sorted({owner for each in modules for owner in owners.get(each, [])}):
        files = [path for path, _ in _files(name)]
        if name != "lookback" and files:
            found[name] = sum(path.stat().st_size for path in files)
    ours = [path for room in ("workers", "fmi") for path in (_ROOT / room).rglob("*.py")]
    found["workers and fmi"] = sum(path.stat().st_size for path in ours)
    found["weights"] = find(None).stat().st_size
    spare = [path for path, name in _files("openvino") if any(each in name for each in _SPARE)]
    found["of openvino, not needed"] = sum(path.stat().st_size for path in spare)
    return found


def _files(name: str) -> Iterator[tuple[Path, str]]:
    for each in distribution(name).files or []:
        path = Path(str(each.locate()))
        if path.is_file():
            yield path, f"/{each}"
