"""End to end on this machine: events in, stored redshifts out, with the full model.

    python -m benchmarks.first_light [--quick] [--json]

A simulated night is rendered once (not measured). Then `lookback run` is started as a user
would, as a process of its own, and measured from outside and by its own summary; afterwards
`lookback reconcile` proves the books. Beside it, in the same run and on one core each, the bare
loop of CAI (eager float32, batches of 512 from a DataLoader, torch's profiler with memory
tracking, `gc.collect()` after every batch, results thrown away), so that the machine's own speed
can be divided out.

images_per_s   estimates written, from the start of the lane to the last stored row
p50_s, p98_s   from an event's being taken to its row being stored in every sink
cold_start_s   from the start of the process until all workers have loaded the model
peak_mib       largest resident memory of the dispatcher and its workers together
lost, doubled  events that reconcile finds missing, and keys it finds more than once
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from dispatcher.demo import render_night

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "first-light.md"


def measure(galaxies: int) -> dict[str, Any]:
    """Run a night of `galaxies` and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        night, output = Path(folder) / "night.sqlite", Path(folder) / "results"
        render_night(night, galaxies, seed=1)
        summary = _lookback("run", night, output)
        proof = _lookback("reconcile", night, output)
    findings = [each["what"] for each in proof["findings"]]
    return {
        "images_per_s": summary["images_per_s"],
        "books_balanced": int(bool(summary["books"]["balanced"] and not findings)),
        "lost": findings.count("missing"),
        "doubled": findings.count("doubled"),
        "p50_s": summary["p50_s"],
        "p98_s": summary["p98_s"],
        "peak_mib": summary["peak_mib"],
        "cold_start_s": summary["cold_start_s"],
        "estimates": summary["estimates"],
    }


def _lookback(command: str, night: Path, output: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher", command, str(night), "--to", str(output), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout.strip():
        raise SystemExit(f"lookback {command} gave no figures: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def cai_loop(images: int) -> float:
    """Images per second of a loop like CAI's on one core, with the same architecture."""
    import torch

    from benchmarks import cai
    from workers.astromae import AstroMAE

    torch.set_num_threads(1)
    model = AstroMAE().eval()
    stamps, magnitudes = torch.randn(images, 5, 32, 32), 20 + torch.randn(images, 5)
    started = time.perf_counter()
    cai.loop(model, stamps, magnitudes)
    return images / (time.perf_counter() - started)


def main() -> None:
    """Measure, print, and write the page after a full run."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--quick", action="store_true", help="end within 50 seconds")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    where = machine.describe()
    figures = measure(1200 if options.quick else 12_000)
    figures["cai_loop_images_per_s_core"] = round(cai_loop(512 if options.quick else 4096), 1)
    if not options.quick:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(machine.page("First light", "first_light", __doc__ or "", figures, where))
    for name, value in figures.items():
        print(f"{name:<28} {value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
