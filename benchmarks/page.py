"""The status page: what it costs a run, and whether it stays smooth over 50,000 results.

    python -m benchmarks.page [--quick] [--json]

The page is opened in headless Chromium against a dispatcher of this process that remembers 50,000
results (`results_are`: made up, so that they need not be estimated first; their pages, requests and
rows are those of a night). The list is scrolled from its first to its last row in 240 steps, each
in a frame of its own. Then a simulated night is run twice as a process of its own, first without a
page, then with one that is asked four times a second, as by four open browsers.

frame_median_ms, frame_p95_ms, frame_most_ms   between two frames while scrolling (16.7 at 60 Hz)
rows_in_document                               of the list, at most
snapshot_ms, results_ms                        median of 50 requests: everything; 100 results
images_per_s_alone, images_per_s_watched       of the night, without and with the page
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from benchmarks import machine
from dispatcher.demo import render_night

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "page.md"
_STEPS = 240
_REQUESTS = 50
_PORT = 8099
_SCROLL = """async (steps) => {
  const list = document.querySelector("#list");
  const next = () => new Promise(requestAnimationFrame);
  const gaps = [];
  let rows = 0;
  let before = await next();
  for (let n = 0; n <= steps; n += 1) {
    list.scrollTop = (list.scrollHeight * n) / steps;
    const now = await next();
    gaps.push(now - before);
    before = now;
    rows = Math.max(rows, document.querySelectorAll("#list tr").length);
  }
  return { gaps, rows };
}"""


async def browse() -> dict[str, Any]:
    """Scroll through 50,000 results, and time what the page asks for."""
    for each in ("tests", "tests/status", "tests/dispatcher"):
        sys.path.insert(0, str(ROOT / each))
    from answering import Answering
    from staged import Stage
    from test_page_many import MANY, fill

    from dispatcher import service

    answering = Answering(service.identify_model("galaxies").weights_sha256)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage.of(Path(folder), lambda _: {"p": []}, recent=MANY, answering=answering)
        async with stage as night, async_playwright() as playwright:
            fill(night.run.recent, range(MANY))
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = await browser.new_page(viewport={"width": 1400, "height": 900})
            await page.goto(night.address)
            await page.wait_for_selector("#row-0")
            found = await page.evaluate(_SCROLL, _STEPS)
            await browser.close()
            asked = {
                "snapshot_ms": await _median_ms(night, "api/status"),
                "results_ms": await _median_ms(night, "api/results?offset=25000&limit=100"),
            }
    gaps = sorted(found["gaps"])
    return {
        "results": MANY,
        "results_are": "made up",
        "frame_median_ms": round(statistics.median(gaps), 1),
        "frame_p95_ms": round(gaps[int(0.95 * len(gaps))], 1),
        "frame_most_ms": round(gaps[-1], 1),
        "rows_in_document": found["rows"],
        **asked,
    }


async def _median_ms(night: Any, path: str) -> float:
    times = []
    for _ in range(_REQUESTS):
        began = time.perf_counter()
        await night.ask(path)
        times.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(times), 2)


def watch(galaxies: int) -> dict[str, Any]:
    """A night without a page, and with one that somebody looks at."""
    with tempfile.TemporaryDirectory() as folder:
        night = Path(folder) / "night.sqlite"
        render_night(night, galaxies, seed=1)
        alone = _run(night, Path(folder) / "alone", 0)
        over = threading.Event()
        watcher = threading.Thread(target=_look, args=(over,))
        watcher.start()
        watched = _run(night, Path(folder) / "watched", _PORT)
        over.set()
        watcher.join()
    return {"images_per_s_alone": alone, "images_per_s_watched": watched}


def _look(over: threading.Event) -> None:
    while not over.wait(0.25):
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/api/status", timeout=5).read()


def _run(night: Path, output: Path, port: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher", "run", str(night), "--to", str(output), "--json"],
        env={**os.environ, "LOOKBACK_STATUS__PORT": str(port)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["images_per_s"])


def main() -> None:
    """Measure, print, and write the page after a full run."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    where = machine.describe()
    figures = asyncio.run(browse()) | watch(1200 if options.quick else 12_000)
    if not options.quick:
        PAGE.write_text(machine.page("The status page", "page", __doc__ or "", figures, where))
    for name, value in figures.items():
        print(f"{name:<28} {value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
