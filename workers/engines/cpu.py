"""The engine of a function: OpenVINO on the processor, without torch.

Figures and what else was tried: docs/benchmarks/inference.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.engines.fold import fold
from workers.engines.graph import build
from workers.engines.runtime import ov
from workers.errors import WorkerError

Floats = NDArray[np.float32]

CHUNK: Final = 32
"""Images at a time: larger batches are cut. More gains nothing and costs memory."""

_SINGLE: Final = "float32"
_HINTS: Final = {_SINGLE: "f32", "bfloat16": "bf16"}


class CpuEngine:
    """See `workers.engine.Engine`. Calls from several threads wait for each other.

    In float32 the numbers of an image do not depend on the batch it is in, not in one bit.
    """

    def __init__(
        self, tensors: Mapping[str, NDArray[Any]], *, threads: int = 1, precision: str = _SINGLE
    ) -> None:
        self._core = ov.Core()
        self._check(precision)
        model = build(fold(tensors))
        self.outputs = int(model.outputs[0].get_partial_shape()[1].get_length())
        self._lock = Lock()
        self._any = self._compiled(model, threads, precision)
        self._full = self._any
        if precision == _SINGLE:
            # For one size it is a twentieth faster. In bfloat16 it is not, and rounds elsewhere.
            model.reshape({"images": [CHUNK, 5, 32, 32], "magnitudes": [CHUNK, 5]})
            self._full = self._compiled(model, threads, precision)

    def __call__(self, images: Floats, magnitudes: Floats) -> Floats:
        """[n, 5, 32, 32] and [n, 5] (both transformed) -> [n, outputs]."""
        return self.both(images, magnitudes)[0]

    def both(self, images: Floats, magnitudes: Floats) -> tuple[Floats, Floats]:
        """What the whole model says, and what `AstroMAE.fuse_magnitudes` does [n, outputs]."""
        n = len(images)
        whole, alone = (np.empty((n, self.outputs), np.float32) for _ in range(2))
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            request = self._full if start + CHUNK <= n else self._any
            inputs = [np.ascontiguousarray(each[part], np.float32) for each in (images, magnitudes)]
            with self._lock:
                request.infer(inputs, share_inputs=True)
                # Copied, because the next call overwrites them.
                whole[part] = request.get_output_tensor(0).data
                alone[part] = request.get_output_tensor(1).data
        return whole, alone

    def _check(self, precision: str) -> None:
        if precision == _SINGLE:
            return
        if "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise WorkerError(
                f"this processor has no instructions for {precision}; leave precision at {_SINGLE}"
            )

    def _compiled(self, model: ov.Model, threads: int, precision: str) -> ov.InferRequest:
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Workers of one machine would all be pinned to its first core.
            "ENABLE_CPU_PINNING": False,
        }
        return self._core.compile_model(model, "CPU", settings).create_infer_request()
