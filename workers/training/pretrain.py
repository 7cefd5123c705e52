"""Masked pre-training of the encoder: three quarters of the patches are hidden and redrawn.

As in AstroMAE (arXiv 2409.01825): mask ratio 0.75, decoder of width 192 and depth 4, the loss is
the squared error of the hidden patches.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from workers.astromae import PATCH, TOKENS, WIDTH, AstroMAE, Block, sinusoids
from workers.training.machine import Machine
from workers.training.progress import Journal
from workers.training.recipe import Pretraining
from workers.training.state import keep, recall

DECODER_DEPTH: Final = 4
_PATCH_VALUES: Final = 5 * PATCH * PATCH
_ENCODER: Final = ("patch_embed.", "cls_token", "pos_embed", "blocks.")


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
        order = torch.rand(n, TOKENS, device=images.device).argsort(dim=1)
        kept, hidden = order[:, : self.kept], order[:, self.kept :]
        first = (model.cls_token + model.pos_embed[:, :1]).expand(n, -1, -1)
        x = torch.cat([first, _pick(tokens, kept)], dim=1)
        for block in model.blocks:
            x = block(x)
        x = self.bridge(x)
        full = self.mask_token.expand(n, TOKENS, -1).to(x.dtype)
        full = full.scatter(1, kept[..., None].expand(-1, -1, WIDTH), x[:, 1:])
        full = torch.cat([x[:, :1], full], dim=1) + self.positions
        redrawn = self.redraw(self.norm(self.decoder(full)))[:, 1:]
        missed = _pick(redrawn, hidden).float() - _pick(_patches(images), hidden)
        return missed.square().mean()


def run(
    model: AstroMAE,
    images: Tensor,
    settings: Pretraining,
    seed: int,
    out: Path,
    machine: Machine,
    journal: Journal,
) -> None:
    """Pre-train the encoder of `model` in place on transformed `images` [n, 5, 32, 32].

    A run that was stopped goes on behind its last full epoch.
    """
    masked = MaskedAutoencoder(model, settings.mask)
    loss_of = machine.ready(masked)
    optimizer = torch.optim.AdamW(_groups(masked, settings.decay), betas=(0.9, 0.95))
    state, start = out / "pretraining.pt", 0
    if state.exists():
        stored = recall(state)
        masked.load_state_dict(stored["model"])
        optimizer.load_state_dict(stored["optimizer"])
        start = stored["epoch"]
    per_epoch = len(images) // settings.batch
    for epoch in range(start, settings.epochs):
        started, losses = time.perf_counter(), []
        torch.manual_seed(seed + epoch)
        order = torch.randperm(len(images))
        masked.train()
        for i in journal.track(range(per_epoch), f"pre-training, epoch {epoch + 1}"):
            _set_rate(optimizer, epoch * per_epoch + i, settings, per_epoch)
            rows = order[i * settings.batch :][: settings.batch]
            loss = loss_of(machine.put(turn(images[rows].float(), i % 8)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        keep(
            {
                "model": masked.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch + 1,
            },
            state,
        )
        seconds = time.perf_counter() - started
        journal.note(
            stage="pretraining", epoch=epoch + 1, loss=float(np.mean(losses)), seconds=seconds
        )


def encoder_of(model: AstroMAE) -> dict[str, Tensor]:
    """The tensors that pre-training makes."""
    return {k: v for k, v in model.state_dict().items() if k.startswith(_ENCODER)}


def rate_at(step: int, steps: int, peak: float, warm_up: float = 0.1) -> float:
    """Learning rate: linear warm-up, then half a cosine down to nothing."""
    done = step / max(1, steps)
    if done < warm_up:
        return peak * (step + 1) / (warm_up * steps + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def turn(images: Tensor, orientation: int) -> Tensor:
    """One of the eight orientations of square images [n, bands, s, s]."""
    turned = torch.rot90(images, orientation % 4, dims=(2, 3))
    return turned.flip(3) if orientation >= 4 else turned


def _set_rate(
    optimizer: torch.optim.Optimizer, step: int, settings: Pretraining, per_epoch: int
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step, settings.epochs * per_epoch, settings.rate)


def _groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases, norms and tokens do not."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _pick(tokens: Tensor, which: Tensor) -> Tensor:
    return tokens.gather(1, which[..., None].expand(-1, -1, tokens.shape[-1]))


def _patches(images: Tensor) -> Tensor:
    """[n, 5, 32, 32] -> [n, 16, 320], in the order of the tokens."""
    n = len(images)
    grid = images.view(n, 5, 4, PATCH, 4, PATCH)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(n, TOKENS, _PATCH_VALUES)
