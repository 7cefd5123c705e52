"""The folded model as a graph of ONNX, for ONNX Runtime: the same sums in the same places."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from workers.engines.cpu import CHUNK
from workers.engines.fold import PCM_BLOCKS, Conv, Dense, Folded, Inception, Layer

_POOLED_BEFORE: Final = (2, 4)


class _Graph:
    """Nodes and constants, one after another."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any, kind: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array, kind), name))
        return name

    def add(self, kind: str, *inputs: str, **how: Any) -> str:
        return self.parts(kind, 1, *inputs, **how)[0]

    def parts(self, kind: str, outputs: int, *inputs: str, **how: Any) -> list[str]:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **how))
        return names

    def linear(self, x: str, layer: Dense) -> str:
        weight = self.constant(np.swapaxes(layer.weight, -1, -2))
        return self.add("Add", self.add("MatMul", x, weight), self.constant(layer.bias))

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("Reshape", x, self.constant(shape, np.int64))

    def transpose(self, x: str, *axes: int) -> str:
        return self.add("Transpose", x, perm=axes)

    def norm(self, x: str) -> str:
        return self.add("LayerNormalization", x, self.constant(np.ones(192)), epsilon=1e-6)

    def parted(self, x: str) -> list[str]:
        return self.parts("Split", 2, x, self.constant([1, 16], np.int64), axis=1)

    def mean(self, x: str) -> str:
        return self.add("ReduceMean", x, self.constant([1], np.int64), keepdims=0)

    def conv(self, x: str, conv: Conv) -> str:
        size = conv.weight.shape[-1]
        weight, bias = self.constant(conv.weight), self.constant(conv.bias)
        margin = [size // 2] * 4
        return self.add("Conv", x, weight, bias, kernel_shape=[size] * 2, pads=margin)

    def halved(self, x: str) -> str:
        return self.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])


def engine(folded: Folded) -> Any:
    """Runs a session with one thread and any batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        _model(folded), options, providers=["CPUExecutionProvider"]
    )

    def run(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        parts = [slice(start, start + CHUNK) for start in range(0, len(images), CHUNK)]
        return np.concatenate(
            [
                session.run(None, {"images": images[p], "magnitudes": magnitudes[p]})[0]
                for p in parts
            ]
        )

    return run


def _model(folded: Folded) -> bytes:
    graph, magnitudes = _Graph(), "magnitudes"
    for layer in folded.magnitudes:
        magnitudes = graph.add("Relu", graph.linear(magnitudes, layer))
    whole = graph.linear(magnitudes, folded.fusion[2])
    branches = _tokens(graph, folded), _pixels(graph, folded)
    for branch, layer in zip(branches, folded.fusion[:2], strict=True):
        whole = graph.add("Add", whole, graph.linear(branch, layer))
    said = graph.linear(graph.add("Relu", whole), folded.last)
    shapes: dict[str, list[str | int | None]] = {
        "images": ["n", 5, 32, 32],
        "magnitudes": ["n", 5],
    }
    made = helper.make_graph(
        graph.nodes,
        "AstroMAE",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shapes.items()],
        [helper.make_tensor_value_info(said, TensorProto.FLOAT, None)],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(model.SerializeToString())


def _tokens(graph: _Graph, folded: Folded) -> str:
    cut = graph.transpose(graph.reshape("images", -1, 5, 4, 8, 4, 8), 0, 2, 4, 1, 3, 5)
    patches = graph.reshape(cut, -1, 16, 320)
    x = graph.add("MatMul", patches, graph.constant(folded.patches.T))
    x = graph.add("Add", _below_class_token(graph, x), graph.constant(folded.table))
    *layers, last = folded.layers
    for layer in layers:
        local = _below_class_token(graph, _local(graph, graph.parted(x)[1], layer))
        x = graph.add("Add", graph.add("Add", x, _attention(graph, x, layer)), local)
        x = graph.add("Add", x, graph.linear(_hidden(graph, x, layer), layer.fc2))
    x = graph.add("Add", x, _attention(graph, x, last))
    before = graph.nodes[-1].input[0]
    x = graph.add("Add", graph.parted(x)[1], _local(graph, graph.parted(before)[1], last))
    hidden = graph.linear(graph.mean(_hidden(graph, x, last)), last.fc2)
    x = graph.add("Add", graph.mean(x), hidden)
    return graph.add("Relu", graph.linear(graph.norm(x), folded.tokens))


def _below_class_token(graph: _Graph, x: str) -> str:
    return graph.add("Pad", x, graph.constant([0, 1, 0, 0, 0, 0], np.int64))


def _attention(graph: _Graph, x: str, layer: Layer) -> str:
    qkv = graph.reshape(graph.linear(graph.norm(x), layer.qkv), -1, 17, 3, 3, 64)
    parts = graph.parts("Split", 3, graph.transpose(qkv, 2, 0, 3, 1, 4), num_outputs=3)
    first = graph.constant([0], np.int64)
    q, k, v = (graph.add("Squeeze", each, first) for each in parts)
    scores = graph.add("MatMul", q, graph.transpose(k, 0, 1, 3, 2))
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), v)
    joined = graph.reshape(graph.transpose(mixed, 0, 2, 1, 3), -1, 17, 192)
    return graph.linear(joined, layer.proj)


def _local(graph: _Graph, patches: str, layer: Layer) -> str:
    blocks = graph.transpose(graph.reshape(patches, -1, PCM_BLOCKS, 192 // PCM_BLOCKS), 1, 0, 2)
    x = graph.linear(blocks, layer.pcm_in)
    x = graph.linear(graph.add("Mul", x, graph.add("Sigmoid", x)), layer.pcm_out)
    return graph.reshape(graph.transpose(x, 1, 0, 2), -1, 16, 192)


def _hidden(graph: _Graph, x: str, layer: Layer) -> str:
    return graph.add("Gelu", graph.linear(graph.norm(x), layer.fc1))


def _pixels(graph: _Graph, folded: Folded) -> str:
    x = graph.conv(graph.halved("images"), folded.first)
    for i, block in enumerate(folded.inceptions):
        x = _inception(graph, graph.halved(x) if i in _POOLED_BEFORE else x, block)
    return graph.add("Relu", graph.linear(graph.reshape(x, -1, 192), folded.pixels))


def _inception(graph: _Graph, x: str, block: Inception) -> str:
    parts = []
    for chain in block.branches:
        part = x
        for each in chain:
            part = graph.add("Relu", graph.conv(part, each))
        parts.append(part)
    pooled = graph.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    parts.append(graph.add("Relu", graph.conv(pooled, block.pooled)))
    return graph.add("Concat", *parts, axis=1)
