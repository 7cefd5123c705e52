"""The model, folded for inference on one core.

The same numbers as `AstroMAE` in evaluation mode, with less work:

- batch norms go into the convolutions in front of them;
- scale and shift of a layer norm go into the linear layer behind it;
- linear layers without an activation between them are one;
- the class token is read by the patch tokens but by nobody behind the last layer, so the last
  layer computes patch tokens only;
- the unused 5x5 branch of the last inception block is left out;
- the 1x1 convolutions of an inception block that read the same pixels are one convolution;
- the 1x1 convolutions of PCM in 48 groups are batched matrix products over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.astromae import (
    FEATURES,
    HEADS,
    PCM_GROUPS,
    TOKENS,
    WIDTH,
    AstroMAE,
    Block,
    ConvBnRelu,
    Inception,
)

_EPS: Final = 1e-6


class Engine:
    """A folded copy of `model`: `Engine(model)(images, magnitudes)` equals `model(...)`."""

    def __init__(self, model: AstroMAE) -> None:
        branch = model.inception_model
        vision = branch.vis_inception
        self._patch = _weight(model.patch_embed.proj).flatten(1).t().contiguous()
        positions = model.get_buffer("pos_embed")
        self._patch_bias = _bias(model.patch_embed.proj) + positions[0, 1:]
        self._class = model.cls_token.detach() + positions[:, :1]
        self._layers = [_Layer.fold(_block(each)) for each in model.blocks]
        self._first = _Conv(_weight(vision[0]), _bias(vision[0]), 0)
        self._inceptions = [_Inception.fold(_inception(vision[i])) for i in (2, 3, 5, 6, 8)]
        self._image_tail = _linear(vision[10])
        fused = _linear(model.concat_block[0])
        parts = torch.tensor_split(fused.weight, (FEATURES, 2 * FEATURES), dim=1)
        normed = _Linear.after_norm(model.fc_norm, _linear(model.head))
        self._token_tail = normed.then(_linear(model.vit_block[0]))
        self._magnitude = [_linear(branch.magnitude_block[i]) for i in (0, 2, 4, 6)]
        # None of the three branches ends in an activation, so each one's last layer is one
        # with its part of the fusion.
        tails = [
            _linear(each).then(_Linear(part, torch.zeros_like(fused.bias)))
            for each, part in zip(
                (model.vit_block[2], vision[12], branch.magnitude_block[8]), parts, strict=True
            )
        ]
        self._fusion = [tail.weight.t().contiguous() for tail in tails]
        self._image_bias = tails[0].bias + tails[1].bias
        self._magnitude_bias = fused.bias + tails[2].bias
        self._last = _linear(model.concat_block[2])

    @torch.inference_mode()
    def __call__(self, images: Tensor, magnitudes: Tensor) -> Tensor:
        """[n, 5, 32, 32] and [n, 5] (both transformed) -> [n, outputs]."""
        return self._last(self._with_image(images, self._alone(magnitudes)).relu_())

    @torch.inference_mode()
    def both(self, images: Tensor, magnitudes: Tensor) -> tuple[Tensor, Tensor]:
        """What the whole model says, and what `AstroMAE.fuse_magnitudes` does [n, outputs]."""
        alone = self._alone(magnitudes)
        whole = self._with_image(images, alone)
        return self._last(whole.relu_()), self._last(alone.relu_())

    def _alone(self, magnitudes: Tensor) -> Tensor:
        return torch.addmm(self._magnitude_bias, self._magnitudes(magnitudes), self._fusion[2])

    def _with_image(self, images: Tensor, alone: Tensor) -> Tensor:
        fused = torch.addmm(alone + self._image_bias, self._tokens(images), self._fusion[0])
        return fused.addmm_(self._pixels(images), self._fusion[1])

    def _tokens(self, images: Tensor) -> Tensor:
        n = len(images)
        patches = images.view(n, 5, 4, 8, 4, 8).permute(0, 2, 4, 1, 3, 5).reshape(n, TOKENS, -1)
        tokens = patches @ self._patch + self._patch_bias
        x = torch.cat([self._class.expand(n, -1, -1), tokens], dim=1)
        for layer in self._layers[:-1]:
            x = layer(x)
        x = self._layers[-1].patches_only(x)
        normed = functional.layer_norm(x.mean(dim=1), (WIDTH,), eps=_EPS)
        return self._token_tail(normed).relu_()

    def _pixels(self, images: Tensor) -> Tensor:
        # The first layer is 1x1 without an activation: averaging before it is the same and
        # leaves it a quarter of the pixels.
        small = functional.avg_pool2d(images.contiguous(memory_format=torch.channels_last), 2)
        x = self._first(small)
        x = self._inceptions[1](self._inceptions[0](x))
        x = self._inceptions[3](self._inceptions[2](functional.avg_pool2d(x, 2)))
        x = self._inceptions[4](functional.avg_pool2d(x, 2))
        return self._image_tail(x.flatten(1)).relu_()

    def _magnitudes(self, x: Tensor) -> Tensor:
        for layer in self._magnitude:
            x = layer(x).relu_()
        return x


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def then(self, other: _Linear) -> _Linear:
        """Both layers as one, `other` last. Multiplied in float64, to lose nothing."""
        weight = other.weight.double() @ self.weight.double()
        bias = other.weight.double() @ self.bias.double() + other.bias.double()
        return _Linear(weight.float(), bias.float())

    @classmethod
    def after_norm(cls, norm: nn.LayerNorm, layer: _Linear) -> _Linear:
        """`layer` behind a layer norm: takes what is normalised but not scaled and shifted."""
        bias = layer.bias + layer.weight @ norm.bias.detach()
        return cls((layer.weight * norm.weight.detach()).contiguous(), bias)


@dataclass(frozen=True, slots=True)
class _Conv:
    weight: Tensor
    bias: Tensor
    padding: int

    def __call__(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, padding=self.padding)

    @classmethod
    def fold(cls, part: ConvBnRelu) -> _Conv:
        """Convolution and batch norm as one convolution, for channels-last pixels."""
        scale, shift = _affine(part.bn)
        weight = _weight(part.conv) * scale[:, None, None, None]
        bias = _bias(part.conv) * scale + shift
        kernel = weight.shape[-1]
        return cls(weight.contiguous(memory_format=torch.channels_last), bias, kernel // 2)


@dataclass(frozen=True, slots=True)
class _Inception:
    """`entry`: all 1x1 convolutions that read the block's input, in one."""

    entry: _Conv
    three: _Conv
    five: _Conv | None
    pooled: _Conv
    quarter: int

    @classmethod
    def fold(cls, block: Inception) -> _Inception:
        entries = [_Conv.fold(block.branch1), _Conv.fold(_part(block.branch2[0]))]
        if block.five:
            entries.append(_Conv.fold(_part(block.branch3[0])))
        weight = torch.cat([each.weight for each in entries])
        return cls(
            _Conv(
                weight.contiguous(memory_format=torch.channels_last),
                torch.cat([each.bias for each in entries]),
                0,
            ),
            _Conv.fold(_part(block.branch2[1])),
            _Conv.fold(_part(block.branch3[1])) if block.five else None,
            _Conv.fold(_part(block.branch4[1])),
            block.branch1.conv.out_channels,
        )

    def __call__(self, x: Tensor) -> Tensor:
        entered = torch.split(self.entry(x).relu_(), self.quarter, dim=1)
        parts = [entered[0], self.three(entered[1])]
        if self.five:
            parts.append(self.five(entered[2]))
        parts.append(self.pooled(functional.max_pool2d(x, 3, 1, 1)))
        return torch.cat(parts, dim=1).relu_()


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: _Linear
    proj: _Linear
    pcm_in: Tensor  # [48, 4, 16]
    pcm_in_bias: Tensor  # [48, 1, 16]
    pcm_out: Tensor  # [48, 16, 4]
    pcm_out_bias: Tensor  # [192]
    fc1: _Linear
    fc2: _Linear

    @classmethod
    def fold(cls, block: Block) -> _Layer:
        attention = block.attn
        bias = torch.cat(
            [attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias]
        ).detach()
        first, norm, _, second = block.PCM
        scale, shift = _affine(norm)
        inward = (_weight(first).flatten(1) * scale[:, None]).view(PCM_GROUPS, 16, 4)
        inward_bias = (_bias(first) * scale + shift).view(PCM_GROUPS, 1, 16)
        outward = _weight(second).flatten(1).view(PCM_GROUPS, 4, 16)
        return cls(
            _Linear.after_norm(block.norm1, _Linear(attention.qkv.weight.detach(), bias)),
            _linear(attention.proj),
            inward.transpose(1, 2).contiguous(),
            inward_bias.contiguous(),
            outward.transpose(1, 2).contiguous(),
            _bias(second),
            _Linear.after_norm(block.norm2, _linear(block.mlp.fc1)),
            _linear(block.mlp.fc2),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """[n, 17, 192] -> [n, 17, 192]."""
        local = self._local(x[:, 1:])
        x = x + self._attend(x, skip=0)
        x[:, 1:] += local
        return x.add_(self._mlp(x))

    def patches_only(self, x: Tensor) -> Tensor:
        """[n, 17, 192] -> the patch tokens [n, 16, 192]."""
        patches = x[:, 1:] + self._local(x[:, 1:]) + self._attend(x, skip=1)
        return patches.add_(self._mlp(patches))

    def _attend(self, x: Tensor, skip: int) -> Tensor:
        n, tokens, _ = x.shape
        normed = functional.layer_norm(x, (WIDTH,), eps=_EPS)
        q, k, v = self.qkv(normed).view(n, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q[:, :, skip:], k, v)
        return self.proj(mixed.transpose(1, 2).reshape(n, tokens - skip, WIDTH))

    def _local(self, patches: Tensor) -> Tensor:
        n = len(patches)
        grouped = patches.reshape(n * TOKENS, PCM_GROUPS, 4).transpose(0, 1)
        hidden = functional.silu(
            torch.baddbmm(self.pcm_in_bias, grouped, self.pcm_in), inplace=True
        )
        out = torch.bmm(hidden, self.pcm_out).transpose(0, 1).reshape(n, TOKENS, WIDTH)
        return out.add_(self.pcm_out_bias)

    def _mlp(self, x: Tensor) -> Tensor:
        normed = functional.layer_norm(x, (WIDTH,), eps=_EPS)
        return self.fc2(functional.gelu(self.fc1(normed)))


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in evaluation mode."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
        raise TypeError(f"{norm} is not a batch norm with running statistics")
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    mean = norm.running_mean if norm.running_mean is not None else torch.zeros_like(scale)
    return scale, norm.bias.detach() - mean * scale


def _weight(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight").detach()


def _bias(layer: nn.Module) -> Tensor:
    return layer.get_parameter("bias").detach()


def _linear(layer: nn.Module) -> _Linear:
    return _Linear(_weight(layer), _bias(layer))


def _part(layer: nn.Module) -> ConvBnRelu:
    if not isinstance(layer, ConvBnRelu):
        raise TypeError(f"{layer} is not a convolution with batch norm")
    return layer


def _inception(layer: nn.Module) -> Inception:
    if not isinstance(layer, Inception):
        raise TypeError(f"{layer} is not an inception block")
    return layer


def _block(layer: nn.Module) -> Block:
    if not isinstance(layer, Block):
        raise TypeError(f"{layer} is not an encoder layer")
    return layer
