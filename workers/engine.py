"""What computes the model: on a processor without torch, or torch on a processor or a GPU.

| name | what it is |
|---|---|
| `auto`, `cpu` | `workers.engines.cpu`: folded, OpenVINO; the fastest on a core, without torch |
| `torch` | `workers.engines.eager`: the plain model on the processor |
| `cuda` | the same on a GPU |

All give the same redshifts: one contract suite runs on each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Name = Literal["auto", "cpu", "torch", "cuda"]
Precision = Literal["float32", "bfloat16"]


class Engine(Protocol):
    """A model that is ready to run. Inputs are transformed, of any layout in memory."""

    outputs: int

    def __call__(self, images: Floats, magnitudes: Floats) -> Floats:
        """[n, 5, 32, 32] and [n, 5] -> [n, outputs]."""

    def both(self, images: Floats, magnitudes: Floats) -> tuple[Floats, Floats]:
        """What the whole model says, and what it does with the image hidden [n, outputs]."""


def create(
    tensors: Mapping[str, NDArray[Any]],
    name: Name = "auto",
    *,
    threads: int = 1,
    precision: Precision = "float32",
) -> Engine:
    """The engine of that name with the tensors of `AstroMAE`, on `threads` cores.

    `bfloat16` takes half the time where the processor has instructions for it, and costs three
    digits (docs/benchmarks/inference.md). Imports are late: a function has only its own engine.

    Raises:
        KeyError, ValueError, RuntimeError: a tensor is missing, or has another shape.
        WorkerError: this machine cannot run it. The message says what to do.
    """
    if name in ("auto", "cpu"):
        from workers.engines.cpu import CpuEngine

        return CpuEngine(tensors, threads=threads, precision=precision)
    from workers.engines.eager import TorchEngine

    device = "cuda" if name == "cuda" else "cpu"
    return TorchEngine(tensors, device=device, threads=threads, precision=precision)
