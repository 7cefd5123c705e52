"""Other ways to compute the model, each as a function of images [n, 5, 32, 32] and magnitudes.

The first three are `workers.engines.cpu` in other settings; 8-bit weights are rounded per output
channel, without calibration, and activations as they come.
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from workers.astromae import AstroMAE
from workers.engines.cpu import CHUNK, CpuEngine
from workers.engines.fold import fold
from workers.engines.graph import build
from workers.engines.runtime import ops, ov

Engine = Callable[[np.ndarray, np.ndarray], Any]
Tensors = Mapping[str, np.ndarray]


def half(tensors: Tensors) -> Iterator[tuple[str, Engine]]:
    """Ours in bfloat16, where the processor has it."""
    if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        yield "bfloat16", CpuEngine(tensors, precision="bfloat16")


def engines(tensors: Tensors, model: AstroMAE) -> Iterator[tuple[str, Engine]]:
    """The others that this machine has, by name."""
    yield "any size only", _one_graph(build(fold(tensors)))
    yield "8-bit weights", _one_graph(_rounded(build(fold(tensors))), grouped=64)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        from benchmarks.inference import onnx_graph

        yield "ONNX Runtime", onnx_graph.engine(fold(tensors))
    if shutil.which("gcc") or shutil.which("clang"):
        yield "torch.compile", _compiled(model)


def _one_graph(model: ov.Model, *, grouped: int = 0) -> Engine:
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": grouped,
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        said = []
        for start in range(0, len(images), CHUNK):
            part = slice(start, start + CHUNK)
            request.infer([images[part], magnitudes[part]], share_inputs=True)
            said.append(request.get_output_tensor(0).data.copy())
        return np.concatenate(said)

    return run


def _rounded(model: ov.Model) -> ov.Model:
    """The large matrices of a graph as 8-bit integers with a scale for each output channel."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        source = node.input_value(1).get_node()
        if source.get_type_name() != "Constant" or len(source.data.shape) != 2:
            continue
        weight = source.data.copy()
        scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, 1e-12)
        integers = ops.constant(np.round(weight / scale).astype(np.int8))
        widened = ops.multiply(ops.convert(integers, "f32"), ops.constant(scale))
        node.input(1).replace_source_output(widened.output(0))
    return model


def _compiled(model: AstroMAE) -> Engine:
    compiled = torch.compile(model)

    @torch.inference_mode()
    def run(images: np.ndarray, magnitudes: np.ndarray) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compiled(torch.from_numpy(images), torch.from_numpy(magnitudes))

    return run
