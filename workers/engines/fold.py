"""The model's tensors, folded for inference: the same numbers with less work.

- batch norms go into the convolutions in front of them;
- scale and shift of a layer norm go into the linear layer behind it;
- linear layers without an activation between them are one;
- the scale of attention goes into the queries;
- the position table, the bias of the patches and the class token are one table;
- the unused 5x5 branch of the last inception block is left out.

Products are made in float64 and rounded once, to lose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float32]

BANDS: Final = 5
WIDTH: Final = 192
DEPTH: Final = 12
HEADS: Final = 3
PATCH: Final = 8
SIDE: Final = 4  # patches along a side of the image
TOKENS: Final = SIDE * SIDE
FEATURES: Final = 1096

PCM_BLOCKS: Final = 12
"""The 48 groups of a PCM convolution are computed as 12 dense ones of four groups each.

Alone, a group (4 -> 16 channels) is too small for a processor's vectors; all 48 in one matrix are
48 times the work. Four at a time are the fastest.
"""

_GROUPS: Final = 48
_NORM_EPS: Final = 1e-5
_LAST_BLOCK: Final = 8


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer: `weight` [outputs, inputs], or [blocks, outputs, inputs]; `bias`."""

    weight: Floats
    bias: Floats

    def then(self, other: Dense) -> Dense:
        """Both layers as one, `other` last."""
        weight = other.weight.astype(np.float64)
        bias = weight @ self.bias.astype(np.float64) + other.bias
        return Dense(_single(weight @ self.weight.astype(np.float64)), _single(bias))


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution: `weight` [outputs, inputs, kernel, kernel], `bias` [outputs]."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer."""

    qkv: Dense
    proj: Dense
    pcm_in: Dense
    pcm_out: Dense
    fc1: Dense
    fc2: Dense


@dataclass(frozen=True, slots=True)
class Inception:
    """Branches in the order of their channels; each a chain of convolutions with ReLU."""

    branches: tuple[tuple[Conv, ...], ...]
    pooled: Conv


@dataclass(frozen=True, slots=True)
class Folded:
    """The whole model. `table` [17, 192] is added to the tokens, the class token's row first.

    None of the three branches (tokens, pixels, magnitudes) ends in an activation, so the last
    layer of each is one with its part of the fusion: `fusion`, with one bias for the image and
    one for the magnitudes.
    """

    patches: Floats
    table: Floats
    layers: tuple[Layer, ...]
    tokens: Dense
    first: Conv
    inceptions: tuple[Inception, ...]
    pixels: Dense
    magnitudes: tuple[Dense, ...]
    fusion: tuple[Dense, Dense, Dense]
    last: Dense


def fold(tensors: Tensors) -> Folded:
    """Fold the tensors of `AstroMAE`, by their published names.

    Raises:
        KeyError, ValueError: a tensor is missing, or has another shape.
    """
    vision, magnitude = "inception_model.vis_inception", "inception_model.magnitude_block"
    patch = _dense(tensors, "patch_embed.proj")
    positions = tensors["pos_embed"][0]
    fused = _dense(tensors, "concat_block.0")
    parts = np.split(fused.weight, (FEATURES, 2 * FEATURES), axis=1)
    nothing = np.zeros_like(fused.bias)
    tails = [
        _dense(tensors, name).then(Dense(part, bias))
        for name, part, bias in zip(
            ("vit_block.2", f"{vision}.12", f"{magnitude}.8"),
            parts,
            (nothing, nothing, fused.bias),
            strict=True,
        )
    ]
    normed = _after_norm(tensors, "fc_norm", _dense(tensors, "head"))
    return Folded(
        patches=patch.weight,
        table=np.concatenate(
            [tensors["cls_token"][0] + positions[:1], patch.bias + positions[1:]], dtype=np.float32
        ),
        layers=tuple(_layer(tensors, f"blocks.{i}") for i in range(DEPTH)),
        tokens=normed.then(_dense(tensors, "vit_block.0")),
        first=Conv(tensors[f"{vision}.0.weight"], tensors[f"{vision}.0.bias"]),
        inceptions=tuple(
            # The last block has a 5x5 branch in the checkpoint, but no use for it.
            _inception(tensors, f"{vision}.{i}", five=i != _LAST_BLOCK)
            for i in (2, 3, 5, 6, _LAST_BLOCK)
        ),
        pixels=_dense(tensors, f"{vision}.10"),
        magnitudes=tuple(_dense(tensors, f"{magnitude}.{i}") for i in (0, 2, 4, 6)),
        fusion=(tails[0], tails[1], tails[2]),
        last=_dense(tensors, "concat_block.2"),
    )


def _layer(tensors: Tensors, name: str) -> Layer:
    q_bias, v_bias = tensors[f"{name}.attn.q_bias"], tensors[f"{name}.attn.v_bias"]
    bias = np.concatenate([q_bias, np.zeros_like(q_bias), v_bias])
    qkv = _after_norm(tensors, f"{name}.norm1", Dense(tensors[f"{name}.attn.qkv.weight"], bias))
    scale = np.ones(3 * WIDTH, np.float32)
    scale[:WIDTH] = (WIDTH // HEADS) ** -0.5
    return Layer(
        qkv=Dense(qkv.weight * scale[:, None], qkv.bias * scale),
        proj=_dense(tensors, f"{name}.attn.proj"),
        pcm_in=_grouped(*_with_norm(tensors, f"{name}.PCM.0", f"{name}.PCM.1")),
        pcm_out=_grouped(tensors[f"{name}.PCM.3.weight"], tensors[f"{name}.PCM.3.bias"]),
        fc1=_after_norm(tensors, f"{name}.norm2", _dense(tensors, f"{name}.mlp.fc1")),
        fc2=_dense(tensors, f"{name}.mlp.fc2"),
    )


def _grouped(weight: Floats, bias: Floats) -> Dense:
    """A 1x1 convolution in 48 groups as dense blocks, with zeros between the groups of a block."""
    together = _GROUPS // PCM_BLOCKS
    groups = weight.reshape(PCM_BLOCKS, together, len(bias) // _GROUPS, -1)
    dense = np.einsum("bgoi,gh->bgohi", groups, np.eye(together, dtype=np.float32))
    outputs, inputs = groups.shape[2:]
    return Dense(
        np.ascontiguousarray(dense.reshape(PCM_BLOCKS, together * outputs, together * inputs)),
        bias.reshape(PCM_BLOCKS, 1, -1),
    )


def _inception(tensors: Tensors, name: str, *, five: bool) -> Inception:
    chains = [["branch1"], ["branch2.0", "branch2.1"]]
    if five:
        chains.append(["branch3.0", "branch3.1"])
    branches = tuple(tuple(_conv(tensors, f"{name}.{part}") for part in each) for each in chains)
    return Inception(branches, _conv(tensors, f"{name}.branch4.1"))


def _conv(tensors: Tensors, name: str) -> Conv:
    return Conv(*_with_norm(tensors, f"{name}.conv", f"{name}.bn"))


def _with_norm(tensors: Tensors, name: str, norm: str) -> tuple[Floats, Floats]:
    """Weight and bias of a convolution that does its batch norm, too."""
    variance = tensors[f"{norm}.running_var"].astype(np.float64) + _NORM_EPS
    scale = tensors[f"{norm}.weight"] / np.sqrt(variance)
    shift = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
    weight = tensors[f"{name}.weight"] * scale[:, None, None, None]
    return _single(weight), _single(tensors[f"{name}.bias"] * scale + shift)


def _after_norm(tensors: Tensors, norm: str, layer: Dense) -> Dense:
    """`layer` behind a layer norm: takes what is normalised but not scaled and shifted."""
    weight = layer.weight.astype(np.float64)
    bias = layer.bias + weight @ tensors[f"{norm}.bias"]
    return Dense(_single(weight * tensors[f"{norm}.weight"]), _single(bias))


def _dense(tensors: Tensors, name: str) -> Dense:
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    return Dense(weight.reshape(len(bias), -1), bias)


def _single(array: NDArray[Any]) -> Floats:
    return np.ascontiguousarray(array, np.float32)
