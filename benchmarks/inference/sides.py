"""The sides of the comparison, in one process that computes nothing else."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from benchmarks import cai
from benchmarks.inference import others
from benchmarks.inference.names import ENGINE, ESTIMATE, LOOP
from workers.astromae import AstroMAE
from workers.engines.cpu import CpuEngine
from workers.estimator import Estimator
from workers.weights import load

BATCHES: Final = (1, 8, 32, 128, 512)
_SIZES: Final = ((1024, 1024, 1024), (544, 192, 768), (544, 768, 192), (2048, 1024, 1024))
_LEAST_IMAGES: Final = 96  # a round of a small batch has several

Run = Callable[[], None]
Compute = Callable[[np.ndarray, np.ndarray], object]


@dataclass
class Side:
    """Something that does `amount` (images, or GFLOP) a call; `rates` are per processor second."""

    name: str
    amount: float
    run: Run
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Call it once, and note how long that took: on the processor, and by the clock."""
        wall, core = time.perf_counter(), time.process_time()
        self.run()
        self.rates.append(self.amount / (time.process_time() - core))
        self.seconds.append(time.perf_counter() - wall)


def sides(*, full: bool) -> list[Side]:
    """All of them, warm; the first is the loop of CAI, with its first batch measured."""
    tensors, _ = load()
    rng = np.random.default_rng(1)
    images = rng.normal(size=(max(BATCHES), 5, 32, 32)).astype(np.float32)
    magnitudes = rng.normal(20, 1, (max(BATCHES), 5)).astype(np.float32)
    model = AstroMAE.of(tensors)
    loop = Side(LOOP, cai.BATCH, cai_loop(model, images, magnitudes))
    loop.measure()
    plan: list[tuple[str, Compute, tuple[int, ...]]] = [
        (ESTIMATE, Estimator.load().estimate, BATCHES),
        (ENGINE, CpuEngine(tensors), BATCHES if full else (128,)),
        ("eager", _eager(model), (32, 512) if full else (32,)),
        *((name, run, (1, 32, 512) if full else (128,)) for name, run in others.half(tensors)),
        *((name, run, (1, 32, 512)) for name, run in others.engines(tensors, model) if full),
    ]
    made = [_matrix(*size, library) for size in _SIZES for library in ("numpy", "torch")]
    for name, run, batches in plan:
        for n in batches:
            run(images[:n], magnitudes[:n])
            made.append(_repeated(name, n, run, images, magnitudes))
    return [loop, *made]


def _repeated(
    name: str,
    n: int,
    run: Compute,
    images: np.ndarray,
    magnitudes: np.ndarray,
) -> Side:
    times = max(1, _LEAST_IMAGES // n)

    def several() -> None:
        for _ in range(times):
            run(images[:n], magnitudes[:n])

    return Side(f"{name} {n}", n * times, several)


def _eager(model: AstroMAE) -> Compute:
    @torch.inference_mode()
    def run(images: np.ndarray, magnitudes: np.ndarray) -> object:
        return model(torch.from_numpy(images), torch.from_numpy(magnitudes))

    return run


def cai_loop(model: AstroMAE, images: np.ndarray, magnitudes: np.ndarray) -> Run:
    """One batch of a loop like CAI's, from the data set to the end of its profiler."""
    one = [torch.from_numpy(each[: cai.BATCH]) for each in (images, magnitudes)]
    return lambda: cai.loop(model, *one)


def _matrix(rows: int, inner: int, columns: int, library: str) -> Side:
    rng = np.random.default_rng(1)
    left, right = (rng.random(size, np.float32) for size in ((rows, inner), (inner, columns)))
    out = np.empty((rows, columns), np.float32)
    gflop = 2e-9 * rows * inner * columns
    times = max(1, round(10 / gflop))  # a tenth of a second
    tensors = [torch.from_numpy(each) for each in (left, right, out)]

    def run() -> None:
        for _ in range(times):
            if library == "numpy":
                np.matmul(left, right, out=out)
            else:
                torch.mm(tensors[0], tensors[1], out=tensors[2])

    return Side(f"matrix {library} {rows}x{inner}x{columns}", gflop * times, run)


def main() -> None:
    """Rounds, at most the given number and until the given seconds are over; JSON at the end."""
    rounds, limit_s, full = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "full"
    until = time.perf_counter() + limit_s
    torch.set_num_threads(1)
    made = sides(full=full)
    first = made[0].rates.pop(), made[0].seconds.pop()
    for k in range(rounds):
        began = time.perf_counter()
        for side in made[:: -1 if k % 2 else 1]:
            side.measure()
        if 2 * time.perf_counter() - began > until:
            break  # another one like this would end too late
    found = {each.name: {"rates": each.rates, "seconds": each.seconds} for each in made}
    found[f"{LOOP}, first batch"] = {"rates": [first[0]], "seconds": [first[1]]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
