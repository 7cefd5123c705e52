"""Fine-tuning: everything behind the encoder, which stays as pre-training left it.

The label is a redshift bin, smoothed by a normal of a bin or two; the loss is the cross entropy
with the model's density over the bins. The encoder is frozen, so its output is computed once for
some orientations of each cutout, and an epoch costs a fifth of what it would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from workers.astromae import AstroMAE
from workers.density import Grid, density
from workers.evaluation.metrics import point_metrics
from workers.photometry import complete, measure
from workers.training.cutouts import Cutouts
from workers.training.machine import Machine
from workers.training.pretrain import rate_at, turn
from workers.training.progress import Journal
from workers.training.recipe import FineTuning
from workers.training.state import keep, recall
from workers.transform import InputTransform

ORIENTATIONS: Final = (0, 5)
"""Orientations whose encoder output is kept: as it is, and turned and mirrored."""

_CHUNK: Final = 256

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one source, as fine-tuning needs them. Pixels and magnitudes are transformed."""

    images: Tensor  # float16 [n, 5, 32, 32]
    given: Tensor  # magnitudes [n, 5], not transformed, what is unknown measured in the image
    measured: Tensor  # magnitudes [n, 5], all measured in the image
    z: Tensor
    encoded: Tensor  # [orientations, n, 192]

    def __len__(self) -> int:
        return len(self.z)


def like(z: Floats, wanted: Floats) -> Floats:
    """Weights [len(z)] under which `z` is distributed as `wanted` (bins of 0.1).

    A class that is drawn with another redshift distribution than it has teaches a wrong prior.
    """
    edges = np.linspace(0, 6, 61)
    there, asked = np.histogram(z, edges)[0], np.histogram(wanted, edges)[0]
    # A little of everything: a redshift that the wanted ones happen to lack is not impossible.
    ratio = (asked + 0.3) / np.maximum(there, 1)
    weight = ratio[np.clip(np.digitize(z, edges) - 1, 0, len(ratio) - 1)]
    return weight / weight.sum()


class Tuner:
    """Fine-tunes `model` in place."""

    def __init__(
        self,
        model: AstroMAE,
        transform: InputTransform,
        settings: FineTuning,
        seed: int,
        out: Path,
        machine: Machine,
        journal: Journal,
    ) -> None:
        self.model, self.transform, self.settings = model, transform, settings
        self.seed, self.out, self.machine, self.journal = seed, out, machine, journal
        self.grid = Grid(settings.bins, settings.z_max)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(("blocks.", "patch_embed.", "cls_token")))
        model.to(machine.device)
        self.average = torch.optim.swa_utils.AveragedModel(
            model,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average),
            use_buffers=True,
        )

    def rows(self, cutouts: Cutouts, orientations: Sequence[int] = ORIENTATIONS) -> Rows:
        """What the loop needs of a dataset."""
        stamps = cutouts.stamps
        given = complete(cutouts.magnitudes.astype(np.float32), stamps)
        pixels = torch.from_numpy(self.transform.images(stamps)).half()
        return Rows(
            pixels,
            torch.from_numpy(given),
            torch.from_numpy(measure(stamps)),
            torch.from_numpy(cutouts.z.astype(np.float32)),
            torch.stack([self._encode(pixels, each) for each in orientations]),
        )

    def fit(self, train: Sequence[Rows], judges: Sequence[Rows]) -> None:
        """All epochs, from where an earlier run stopped; the best of them is kept.

        The best is that under which the `judges` (validation rows) are most likely.
        """
        settings, best = self.settings, self.out / "best.pt"
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, weight_decay=settings.decay)
        state, start, least = self.out / "finetuning.pt", 0, math.inf
        if state.exists():
            stored = recall(state)
            self.model.load_state_dict(stored["model"])
            self.average.load_state_dict(stored["average"])
            optimizer.load_state_dict(stored["optimizer"])
            start, least = stored["epoch"], stored["least"]
        for epoch in range(start, settings.epochs):
            figures = self._epoch(optimizer, train, epoch) | self._validate(judges)
            if figures["validation_loss"] < least or epoch == 0:
                least = figures["validation_loss"]
                keep(self.average.module.state_dict(), best)
            keep(
                {
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "epoch": epoch + 1,
                    "least": least,
                },
                state,
            )
            self.journal.note(stage="finetuning", epoch=epoch + 1, **figures)
        self.model.load_state_dict(recall(best))

    def views(self, rows: Rows, model: AstroMAE | None = None) -> tuple[Floats, Floats]:
        """Logits [n, bins] of the whole model, and of the fusion with the image hidden."""
        model = (model or self.model).eval()
        magnitudes = torch.from_numpy(self.transform.magnitudes(rows.given.numpy()))
        whole, alone = [], []
        with torch.inference_mode():
            for part in torch.arange(len(rows)).split(_CHUNK):
                at, shown = self.machine.put(magnitudes[part]), rows.images[part].float()
                encoded = self.machine.put(rows.encoded[0, part].float())
                whole.append(model.fuse(encoded, self.machine.put(shown), at).cpu().numpy())
                alone.append(model.fuse_magnitudes(at).cpu().numpy())
        return np.concatenate(whole), np.concatenate(alone)

    def _epoch(
        self, optimizer: torch.optim.Optimizer, train: Sequence[Rows], epoch: int
    ) -> dict[str, float]:
        """Train one epoch; returns its figures."""
        settings, started, losses = self.settings, time.perf_counter(), []
        # By epoch: a run that was stopped goes on with the rows that were to come.
        rng = np.random.default_rng([self.seed, epoch])
        torch.manual_seed(self.seed + epoch)
        batches = self._batches(train, rng)
        self.model.train()
        self.model.blocks.eval()  # batch norms of the frozen encoder keep their statistics
        for i, batch in enumerate(
            self.journal.track(batches, f"fine-tuning, epoch {epoch + 1} of {settings.epochs}")
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(
                    epoch * len(batches) + i, settings.epochs * len(batches), settings.rate, 0.03
                )
            loss = self._loss(train, batch, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.average.update_parameters(self.model)
            losses.append(loss.item())
        return {"loss": float(np.mean(losses)), "seconds": time.perf_counter() - started}

    def _batches(
        self, train: Sequence[Rows], rng: np.random.Generator
    ) -> list[list[NDArray[np.int64]]]:
        """Rows of an epoch: for each batch, which rows of each source."""
        settings = self.settings
        count = max(1, settings.epoch_rows // settings.batch)
        drawn = []
        for source, rows, weight in zip(settings.sources, train, self._weights(train), strict=True):
            n = round(source.share * settings.batch) * count
            if weight is None:
                turns = -(-n // len(rows))
                picked = np.concatenate([rng.permutation(len(rows)) for _ in range(turns)])[:n]
            else:
                picked = rng.choice(len(rows), n, p=weight)
            drawn.append(np.split(picked, count))
        return [list(parts) for parts in zip(*drawn, strict=True)]

    def _weights(self, train: Sequence[Rows]) -> list[Floats | None]:
        z = {s.data: rows.z.numpy() for s, rows in zip(self.settings.sources, train, strict=True)}
        return [like(z[s.data], z[s.like]) if s.like else None for s in self.settings.sources]

    def _loss(
        self,
        train: Sequence[Rows],
        batch: Sequence[NDArray[np.int64]],
        rng: np.random.Generator,
    ) -> Tensor:
        settings = self.settings
        which = int(rng.integers(len(ORIENTATIONS)))
        pairs = list(zip(train, map(torch.from_numpy, batch), strict=True))
        images = torch.cat([rows.images[at] for rows, at in pairs]).float()
        encoded = torch.cat([rows.encoded[which, at] for rows, at in pairs]).float()
        given = torch.cat([rows.given[at] for rows, at in pairs])
        measured = torch.cat([rows.measured[at] for rows, at in pairs])
        z = torch.cat([rows.z[at] for rows, at in pairs])
        hidden = torch.rand(len(z), 1) < settings.hidden_magnitudes
        magnitudes = torch.where(hidden, measured, given)
        magnitudes = magnitudes + settings.magnitude_noise * torch.randn(len(z), 5)
        seen = torch.from_numpy(self.transform.magnitudes(magnitudes.numpy()))
        put = self.machine.put
        with torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.half):
            parts = self.model.branches(
                put(encoded), put(turn(images, ORIENTATIONS[which])), put(seen)
            )
            logits = self._with_dropout(*parts).float()
        target = put(self._labels(z))
        return -(target * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()

    def _labels(self, z: Tensor) -> Tensor:
        """Normals [n, bins] of `label_width` bins around the redshifts."""
        middles = torch.arange(self.grid.bins, dtype=torch.float32) + 0.5
        places = torch.from_numpy(self.grid.position(z.numpy())).float()
        distance = (middles - places[:, None]) / self.settings.label_width
        return torch.softmax(-0.5 * distance.square(), dim=1)

    def _with_dropout(self, tokens: Tensor, pixels: Tensor, magnitudes: Tensor) -> Tensor:
        """Fuse, with the image hidden from some rows and single features from all.

        A few thousand real images are soon known by heart; their colours are not. A model that
        must also answer without the image keeps to what is true of those it has not seen.
        """
        settings = self.settings
        shown = torch.rand(len(tokens), 1, device=tokens.device) >= settings.hidden_images
        image = torch.cat([tokens, pixels], dim=1) * shown
        image = functional.dropout(image, settings.dropout)
        return self.model.concat_block(torch.cat([image, magnitudes], dim=1))

    def _encode(self, pixels: Tensor, orientation: int) -> Tensor:
        """Encoder output [n, 192], float16."""
        self.model.eval()
        parts = []
        with torch.inference_mode():
            for part in pixels.split(_CHUNK):
                turned = self.machine.put(turn(part.float(), orientation))
                with torch.autocast(
                    self.machine.device.type, torch.bfloat16, enabled=self.machine.half
                ):
                    parts.append(self.model.encode(turned).half().cpu())
        return torch.cat(parts).clone()

    def _validate(self, judges: Sequence[Rows]) -> dict[str, Any]:
        """Loss, NMAD and outliers of the averaged model; every judge counts alike."""
        losses: list[float] = []
        found: dict[str, float] = {}
        names = [
            source.data.removesuffix(".npz") for source in self.settings.sources if source.judge
        ]
        for name, rows in zip(names, judges, strict=True):
            p = density(self.views(rows, cast("AstroMAE", self.average.module)), 1.0)
            z = rows.z.numpy()
            losses.append(surprise(p, self.grid, z))
            metrics = point_metrics(self.grid.quantiles(p, (0.5,))[:, 0], z)
            found |= {f"{name} nmad": metrics["nmad"], f"{name} outliers": metrics["outliers"]}
        return {"validation_loss": float(np.mean(losses)), **found}


def surprise(p: Floats, grid: Grid, z: Floats) -> float:
    """Cross entropy of redshifts `z` [n] with the densities `p` [n, bins]."""
    at = grid.position(z).astype(np.int64)
    return float(-np.log(np.maximum(p[np.arange(len(z)), at], 1e-30)).mean())
