"""The folded model as a graph of OpenVINO.

Beyond what is folded, the graph leaves out what nobody reads: the class token is read by the patch
tokens but by nothing behind the last layer, so that one computes patch tokens only, and takes
their mean before its last matrix instead of behind it. Pixels are averaged before the first
convolution, which is 1x1 without an activation, instead of behind it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from workers.engines.fold import (
    BANDS,
    HEADS,
    PATCH,
    PCM_BLOCKS,
    SIDE,
    TOKENS,
    WIDTH,
    Conv,
    Dense,
    Floats,
    Folded,
    Inception,
    Layer,
)
from workers.engines.runtime import ops, ov

_EPS: Final = 1e-6
_ANY: Final = -1
_HEAD: Final = WIDTH // HEADS
_POOLED_BEFORE: Final = (2, 4)  # inception blocks, from 0


def build(folded: Folded) -> ov.Model:
    """Images [n, 5, 32, 32] and magnitudes [n, 5] -> [n, outputs] twice, for any n.

    The first output is the model's, the second that of its fusion with the image hidden.
    """
    side = SIDE * PATCH
    images = ops.parameter([_ANY, BANDS, side, side], np.float32, name="images")
    magnitudes = ops.parameter([_ANY, BANDS], np.float32, name="magnitudes")
    alone: ov.Node = magnitudes
    for layer in folded.magnitudes:
        alone = ops.relu(_linear(alone, layer))
    of_tokens, of_pixels, of_magnitudes = folded.fusion
    alone = _linear(alone, of_magnitudes)
    whole = ops.add(alone, _linear(_tokens(images, folded), of_tokens))
    whole = ops.add(whole, _linear(_pixels(images, folded), of_pixels))
    said = [_linear(ops.relu(each), folded.last) for each in (whole, alone)]
    return ov.Model(said, [images, magnitudes], "AstroMAE")


def _tokens(images: ov.Node, folded: Folded) -> ov.Node:
    """The encoder and its head: [n, 5, 32, 32] -> [n, 1096]."""
    cut = _reshape(images, _ANY, BANDS, SIDE, PATCH, SIDE, PATCH)
    patches = _reshape(_transpose(cut, 0, 2, 4, 1, 3, 5), _ANY, TOKENS, BANDS * PATCH * PATCH)
    projected = _below_class_token(_times(patches, folded.patches))
    x = ops.add(projected, _constant(folded.table))
    for layer in folded.layers[:-1]:
        x = _layer(x, layer)
    return ops.relu(_linear(_norm(_last_layer(x, folded.layers[-1])), folded.tokens))


def _layer(x: ov.Node, layer: Layer) -> ov.Node:
    """[n, 17, 192] -> [n, 17, 192]."""
    local = _below_class_token(_local(_patch_tokens(x, 1), layer))
    x = ops.add(ops.add(x, _attention(x, layer)), local)
    return ops.add(x, _linear(_hidden(x, layer), layer.fc2))


def _last_layer(x: ov.Node, layer: Layer) -> ov.Node:
    """[n, 17, 192] -> mean of the patch tokens [n, 192]."""
    patches = _patch_tokens(x, 1)
    attended = _attention(x, layer, patches_only=True)
    x = ops.add(ops.add(patches, attended), _local(patches, layer))
    return ops.add(_mean(x), _linear(_mean(_hidden(x, layer)), layer.fc2))


def _attention(x: ov.Node, layer: Layer, *, patches_only: bool = False) -> ov.Node:
    qkv = _reshape(_linear(_norm(x), layer.qkv), _ANY, 1 + TOKENS, 3, HEADS, _HEAD)
    # One copy for all three: along the first axis they are parted without another.
    parts = ops.split(_transpose(qkv, 2, 0, 3, 1, 4), 0, 3).outputs()
    q, k, v = (ops.squeeze(each, np.array([0])) for each in parts)
    if patches_only:
        q = _patch_tokens(q, 2)
    weights = ops.softmax(ops.matmul(q, k, False, True), -1)
    mixed = _transpose(ops.matmul(weights, v, False, False), 0, 2, 1, 3)
    return _linear(_reshape(mixed, _ANY, TOKENS + (not patches_only), WIDTH), layer.proj)


def _local(patches: ov.Node, layer: Layer) -> ov.Node:
    """PCM: [n, 16, 192] -> the same."""
    blocks = _transpose(_reshape(patches, _ANY, PCM_BLOCKS, WIDTH // PCM_BLOCKS), 1, 0, 2)
    hidden = ops.swish(_linear(blocks, layer.pcm_in))
    return _reshape(_transpose(_linear(hidden, layer.pcm_out), 1, 0, 2), _ANY, TOKENS, WIDTH)


def _hidden(x: ov.Node, layer: Layer) -> ov.Node:
    return ops.gelu(_linear(_norm(x), layer.fc1), "erf")


def _pixels(images: ov.Node, folded: Folded) -> ov.Node:
    """The inception branch: [n, 5, 32, 32] -> [n, 1096]."""
    x = _convolved(_halved(images), folded.first)
    for i, block in enumerate(folded.inceptions):
        x = _inception(_halved(x) if i in _POOLED_BEFORE else x, block)
    return ops.relu(_linear(_reshape(x, _ANY, folded.pixels.weight.shape[1]), folded.pixels))


def _inception(x: ov.Node, block: Inception) -> ov.Node:
    parts = []
    for chain in block.branches:
        part = x
        for each in chain:
            part = ops.relu(_convolved(part, each))
        parts.append(part)
    pooled = ops.max_pool(x, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    parts.append(ops.relu(_convolved(pooled, block.pooled)))
    return ops.concat(parts, 1)


def _convolved(x: ov.Node, conv: Conv) -> ov.Node:
    margin = [conv.weight.shape[-1] // 2] * 2
    out = ops.convolution(x, _constant(conv.weight), [1, 1], margin, margin, [1, 1])
    return ops.add(out, _constant(conv.bias[:, None, None]))


def _halved(x: ov.Node) -> ov.Node:
    return ops.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)


def _linear(x: ov.Node, layer: Dense) -> ov.Node:
    return ops.add(_times(x, layer.weight), _constant(layer.bias))


def _times(x: ov.Node, weight: Floats) -> ov.Node:
    return ops.matmul(x, _constant(weight), False, True)


def _norm(x: ov.Node) -> ov.Node:
    """Layer norm without scale and shift."""
    return ops.mvn(x, np.array([-1]), True, _EPS, "inside_sqrt")


def _mean(x: ov.Node) -> ov.Node:
    return ops.reduce_mean(x, np.array([1]), False)


def _patch_tokens(x: ov.Node, axis: int) -> ov.Node:
    return ops.slice(x, [1], [1 + TOKENS], [1], [axis])


def _below_class_token(patches: ov.Node) -> ov.Node:
    """[n, 16, 192] -> [n, 17, 192] with nothing in the class token's place."""
    nothing = _constant(np.zeros((), np.float32))
    return ops.pad(patches, np.array([0, 1, 0]), np.array([0, 0, 0]), "constant", nothing)


def _reshape(x: ov.Node, *shape: int) -> ov.Node:
    return ops.reshape(x, np.array(shape), False)


def _transpose(x: ov.Node, *axes: int) -> ov.Node:
    return ops.transpose(x, np.array(axes))


def _constant(array: Floats) -> ov.Node:
    return ops.constant(array, np.float32)
