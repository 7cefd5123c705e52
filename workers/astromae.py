"""AstroMAE (pcm-AstroMAE): a masked-autoencoder encoder, an inception branch and magnitudes.

Architecture of Fathkouhi et al., arXiv 2409.01825, in the variant that CAI runs: 15,902,889
parameters, one redshift out. The names of the tensors are those of the published checkpoint, so
its weights load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

BANDS: Final = 5
WIDTH: Final = 192
DEPTH: Final = 12
HEADS: Final = 3
PATCH: Final = 8
TOKENS: Final = 16
FEATURES: Final = 1096
PCM_WIDTH: Final = 768
PCM_GROUPS: Final = 48
FUSED: Final = 1024


def sinusoids(positions: int, width: int) -> Tensor:
    """Fixed position table [1, positions, width]: sin at even, cos at odd columns."""
    column = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] / torch.pow(
        torch.tensor(10000.0, dtype=torch.float64), 2 * (column // 2) / width
    )
    table = torch.where(column % 2 == 0, torch.sin(angle), torch.cos(angle))
    return table[None].to(torch.float32)


class Attention(nn.Module):
    """Multi-head self-attention with biases on q and v only."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(WIDTH))
        self.v_bias = nn.Parameter(torch.zeros(WIDTH))
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, 192] -> the same."""
        n, tokens, _ = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = functional.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.view(n, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(n, tokens, WIDTH))


class Mlp(nn.Module):
    """Two layers with exact GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[..., 192] -> the same."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """One encoder layer: attention, a parallel convolution (PCM) on the patch tokens, an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = Mlp()
        self.PCM = nn.Sequential(
            nn.Conv2d(WIDTH, PCM_WIDTH, 1, groups=PCM_GROUPS),
            nn.BatchNorm2d(PCM_WIDTH),
            nn.SiLU(),
            nn.Conv2d(PCM_WIDTH, WIDTH, 1, groups=PCM_GROUPS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1 + patches, 192] -> the same; the first token is the class token."""
        patches = x[:, 1:].transpose(1, 2).unsqueeze(-1)
        local = self.PCM(patches).squeeze(-1).transpose(1, 2)
        x = x + self.attn(self.norm1(x))
        x = torch.cat([x[:, :1], x[:, 1:] + local], dim=1)
        return x + self.mlp(self.norm2(x))


class ConvBnRelu(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, y, x] -> [n, outputs, y, x]."""
        return functional.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side, each a quarter of the channels; the last block has no 5x5."""

    def __init__(self, inputs: int, quarter: int, *, five: bool = True) -> None:
        super().__init__()
        self.branch1 = ConvBnRelu(inputs, quarter, 1)
        self.branch2 = nn.Sequential(
            ConvBnRelu(inputs, quarter, 1), ConvBnRelu(quarter, quarter, 3)
        )
        self.branch3 = nn.Sequential(
            ConvBnRelu(inputs, quarter, 1), ConvBnRelu(quarter, quarter, 5)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvBnRelu(inputs, quarter, 1))
        self.five = five

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, y, x] -> [n, 4 (or 3) quarters, y, x]."""
        parts = [self.branch1(x), self.branch2(x)]
        if self.five:
            parts.append(self.branch3(x))
        return torch.cat([*parts, self.branch4(x)], dim=1)


class InceptionBranch(nn.Module):
    """Image to 1096 features (`vis_inception`), magnitudes to 1024 (`magnitude_block`).

    `conv2d_init` is the first layer of `vis_inception` under a second name, as the published
    checkpoint has it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_init = nn.Conv2d(BANDS, 32, 1)
        self.vis_inception = nn.Sequential(
            self.conv2d_init,
            nn.AvgPool2d(2),
            Inception(32, 16),
            Inception(64, 16),
            nn.AvgPool2d(2),
            Inception(64, 8),
            Inception(32, 8),
            nn.AvgPool2d(2),
            Inception(32, 4, five=False),
            nn.Flatten(),
            nn.Linear(WIDTH, FEATURES),
            nn.ReLU(),
            nn.Linear(FEATURES, FEATURES),
        )
        layers: list[nn.Module] = [nn.Linear(BANDS, FUSED)]
        for _ in range(4):
            layers += [nn.ReLU(), nn.Linear(FUSED, FUSED)]
        self.magnitude_block = nn.Sequential(*layers)


class PatchEmbed(nn.Module):
    """8x8 patches to tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(BANDS, WIDTH, PATCH, PATCH)

    def forward(self, image: Tensor) -> Tensor:
        """[n, 5, 32, 32] -> [n, 16, 192]."""
        return self.proj(image).flatten(2).transpose(1, 2)


class AstroMAE(nn.Module):
    """The whole model. `outputs` = 1 is the published one; more is a density head."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", sinusoids(1 + TOKENS, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.fc_norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, WIDTH)
        self.vit_block = nn.Sequential(
            nn.Linear(WIDTH, FEATURES), nn.ReLU(), nn.Linear(FEATURES, FEATURES)
        )
        self.inception_model = InceptionBranch()
        self.concat_block = nn.Sequential(
            nn.Linear(2 * FEATURES + FUSED, FUSED), nn.ReLU(), nn.Linear(FUSED, outputs)
        )

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> AstroMAE:
        """The model with these tensors, in evaluation mode; what is not its own is left out.

        Raises:
            KeyError, RuntimeError: a tensor is missing, or has another shape.
        """
        model = cls(outputs=tensors["concat_block.2.weight"].shape[0])
        own = {name: torch.tensor(tensors[name]) for name in model.state_dict()}
        model.load_state_dict(own)
        return model.eval()

    def encode(self, image: Tensor) -> Tensor:
        """The encoder alone: [n, 5, 32, 32] -> mean of the patch tokens [n, 192]."""
        x = self.patch_embed(image)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x[:, 1:].mean(dim=1)

    def branches(
        self, encoded: Tensor, image: Tensor, magnitudes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is fused: tokens [n, 1096], pixels [n, 1096] and magnitudes [n, 1024]."""
        return (
            self.vit_block(self.head(self.fc_norm(encoded))),
            self.inception_model.vis_inception(image),
            self.inception_model.magnitude_block(magnitudes),
        )

    def fuse(self, encoded: Tensor, image: Tensor, magnitudes: Tensor) -> Tensor:
        """Everything behind the encoder: `encoded` [n, 192] -> [n, outputs]."""
        return self.concat_block(torch.cat(self.branches(encoded, image, magnitudes), dim=1))

    def fuse_magnitudes(self, magnitudes: Tensor) -> Tensor:
        """The fusion with the image hidden: what the magnitudes [n, 5] alone say [n, outputs]."""
        features = self.inception_model.magnitude_block(magnitudes)
        image = features.new_zeros(len(features), 2 * FEATURES)
        return self.concat_block(torch.cat([image, features], dim=1))

    def forward(self, image: Tensor, magnitudes: Tensor) -> Tensor:
        """[n, 5, 32, 32] and [n, 5] -> [n, outputs]."""
        return self.fuse(self.encode(image), image, magnitudes)
