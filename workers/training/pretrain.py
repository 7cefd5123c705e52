"""Masked pre-training of the encoder: three quarters of the patches are hidden and redrawn.

As in AstroMAE (arXiv 2409.01825): mask ratio 0.75, decoder of width 192 and depth 4, the loss is
the squared error of the hidden patches.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from workers.astromae import PATCH, TOKENS, WIDTH, AstroMAE, Block, sinusoids

DECODER_DEPTH: Final = 4
_PATCH_VALUES: Final = 5 * PATCH * PATCH


class MaskedAutoencoder(nn.Module):
    """The encoder of a model, and a decoder that is thrown away afterwards."""

    def __init__(self, model: AstroMAE, mask: float) -> None:
        super().__init__()
        self.model = model
        self.kept = TOKENS - round(mask * TOKENS)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.bridge = nn.Linear(WIDTH, WIDTH)
        self.decoder = nn.Sequential(*(Block() for _ in range(DECODER_DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.redraw = nn.Linear(WIDTH, _PATCH_VALUES)
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(1 + TOKENS, WIDTH), persistent=False)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Loss of a batch of transformed images [n, 5, 32, 32]."""
        n, model = len(images), self.model
        tokens = model.patch_embed(images) + model.pos_embed[:, 1:]
        order = torch.rand(n, TOKENS).argsort(dim=1)
        kept, hidden = order[:, : self.kept], order[:, self.kept :]
        first = (model.cls_token + model.pos_embed[:, :1]).expand(n, -1, -1)
        x = torch.cat([first, _pick(tokens, kept)], dim=1)
        for block in model.blocks:
            x = block(x)
        x = self.bridge(x)
        full = self.mask_token.expand(n, TOKENS, -1).clone()
        full = full.scatter(1, kept[..., None].expand(-1, -1, WIDTH), x[:, 1:])
        full = torch.cat([x[:, :1], full], dim=1) + self.positions
        redrawn = self.redraw(self.norm(self.decoder(full)))[:, 1:]
        return (_pick(redrawn, hidden) - _pick(_patches(images), hidden)).square().mean()


def rate_at(step: int, steps: int, peak: float, warm_up: float = 0.1) -> float:
    """Learning rate: linear warm-up, then half a cosine down to nothing."""
    done = step / max(1, steps)
    if done < warm_up:
        return peak * (step + 1) / (warm_up * steps + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def _pick(tokens: Tensor, which: Tensor) -> Tensor:
    return tokens.gather(1, which[..., None].expand(-1, -1, tokens.shape[-1]))


def _patches(images: Tensor) -> Tensor:
    """[n, 5, 32, 32] -> [n, 16, 320], in the order of the tokens."""
    n = len(images)
    grid = images.view(n, 5, 4, PATCH, 4, PATCH)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(n, TOKENS, _PATCH_VALUES)
