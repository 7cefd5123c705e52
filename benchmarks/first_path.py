"""A first user's path: from a clone to a redshift on the page, then from settings to Kafka.

    python -m benchmarks.first_path [--quick] [--json]

The commands are those of docs/quick-start.md, run as they stand there in a clone of this repository
with an empty home; only the address of the broker (noida-db, started here) is put in. While the
demo runs, its status page is asked twenty times a second for a redshift. `--quick` takes the
environment that it is run in, instead of making and filling a new one (`installed` is 0 then).

commands_to_redshift       commands that a person types until the page shows a redshift
s_to_redshift              from the first of them to that
s_to_kafka                 from `lookback init` until the books of the run from Kafka are proved
commands_to_kafka          commands for that
step_N_s                   each of them
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks import machine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "first-path.md"
_PORT = 8098
_MARKED = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.DOTALL)


def measure(*, install: bool) -> dict[str, Any]:
    """Walk the path; returns the figures."""
    with tempfile.TemporaryDirectory() as folder, _broker(Path(folder) / "broker") as address:
        clone = Path(folder) / "lookback"
        began = time.monotonic()
        _sh(f"git clone -q {ROOT} {clone}", Path(folder))
        first, _, *kafka = _MARKED.findall((clone / "docs" / "quick-start.md").read_text())
        if not install:
            (clone / ".venv").symlink_to(Path(sys.prefix))
            first = first[first.rindex("&&") + 2 :]
        with _watching() as seen:
            _sh(first, clone)
        figures: dict[str, Any] = {
            "installed": int(install),
            "commands_to_redshift": 2,
            "s_to_redshift": round(seen[0] - began, 2),
            "commands_to_kafka": len(kafka),
        }
        steps = [_timed(each.replace("broker:9092", address), clone) for each in kafka]
        figures["s_to_kafka"] = round(sum(steps), 2)
        return figures | {f"step_{n}_s": round(each, 2) for n, each in enumerate(steps, 1)}


def _timed(command: str, clone: Path) -> float:
    began = time.monotonic()
    _sh(command, clone)
    return time.monotonic() - began


def _sh(command: str, where: Path) -> None:
    path = f"{where / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "LOOKBACK_STATUS__PORT": str(_PORT)}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=where, env=environment, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command}\nended with {done.returncode}: {done.stderr.decode()[-2000:]}")


@contextmanager
def _watching() -> Iterator[list[float]]:
    """When (monotonic s) the page showed a redshift first."""
    seen: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not (over.is_set() or seen):
            with suppress(OSError):
                url = f"http://127.0.0.1:{_PORT}/api/results?limit=1&status=ok"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if json.load(answer)["results"]:
                        seen.append(time.monotonic())
            time.sleep(0.05)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    if not seen:
        raise SystemExit("the page never showed a redshift")


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    sys.path.insert(0, str(ROOT / "tests"))
    from parts.kafka import noida

    folder.mkdir()
    with noida(folder) as server:
        yield server.address


def main() -> None:
    """Measure, print, and write the page after a full run."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    where = machine.describe()
    figures = measure(install=not options.quick)
    if not options.quick:
        PAGE.write_text(
            machine.page("A first user's path", "first_path", __doc__ or "", figures, where)
        )
    for name, value in figures.items():
        print(f"{name:<24} {value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
