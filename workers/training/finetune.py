"""Fine-tuning: everything behind the encoder, which stays as pre-training left it.

The label is a redshift bin, smoothed by a normal of a bin or two; the loss is the cross entropy
with the model's density over the bins. The encoder is frozen, so its output is computed once for
some orientations of each cutout, and an epoch costs a fifth of what it would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from workers.astromae import AstroMAE
from workers.density import Grid, density
from workers.photometry import complete, measure
from workers.training.cutouts import Cutouts
from workers.training.metrics import point_metrics
from workers.training.pretrain import rate_at
from workers.training.recipe import Recipe
from workers.training.state import keep, recall
from workers.transform import InputTransform

ORIENTATIONS: Final = (0, 1, 4, 5)
"""Orientations whose encoder output is kept: half of the eight, for half of the time."""

_CHUNK: Final = 256

Note = Callable[..., None]
Floats = NDArray[np.floating]


def turn(images: Tensor, orientation: int) -> Tensor:
    """One of the eight orientations of a square image."""
    turned = torch.rot90(images, orientation % 4, dims=(2, 3))
    return turned.flip(3) if orientation >= 4 else turned


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


def run(
    model: AstroMAE,
    transform: InputTransform,
    train: Cutouts,
    validation: Cutouts,
    recipe: Recipe,
    out: Path,
    note: Note,
) -> float:
    """Fine-tune `model` in place; returns the temperature that calibrates its density."""
    tuner = _Tuner(model, transform, train, validation, recipe, out, note)
    tuner.fit()
    return tuner.calibrate()


class _Tuner:
    def __init__(
        self,
        model: AstroMAE,
        transform: InputTransform,
        train: Cutouts,
        validation: Cutouts,
        recipe: Recipe,
        out: Path,
        note: Note,
    ) -> None:
        self.model, self.transform, self.recipe, self.out = model, transform, recipe, out
        self.note = note
        self.grid = Grid(recipe.bins, recipe.z_max)
        self.real = np.flatnonzero(~train.simulated)
        self.galaxies = np.flatnonzero(train.kind == "galaxy")
        self.quasars = np.flatnonzero((train.kind == "quasar") & train.simulated)
        self.quasar_weight = like(train.z[self.quasars], train.z[self.real])
        self.validation = validation
        self.images = torch.from_numpy(train.images)
        self.magnitudes = complete(torch.from_numpy(train.magnitudes), self.images)
        self.measured = measure(self.images)
        self.bins = self.grid.position(torch.from_numpy(train.z))
        self.features = self._features(train)
        self.validation_features = self._encode(torch.from_numpy(validation.images), 0)
        for parameter in (*model.blocks.parameters(), *model.patch_embed.parameters()):
            parameter.requires_grad_(False)
        model.cls_token.requires_grad_(False)
        self.average = torch.optim.swa_utils.AveragedModel(
            model,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.finetuning.average),
            use_buffers=True,
        )

    def fit(self) -> None:
        """All epochs, from where an earlier run stopped; the best of them is kept.

        The best is that under which the validation set is most likely.
        """
        settings = self.recipe.finetuning
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
            figures = self._epoch(optimizer, epoch)
            if figures["validation_loss"] < least or epoch == 0:
                least = figures["validation_loss"]
                keep(self.average.module.state_dict(), self.out / "best.pt")
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
            self.note(stage="finetuning", epoch=epoch + 1, **figures)
        self.model.load_state_dict(recall(self.out / "best.pt"))

    def calibrate(self) -> float:
        """The temperature under which the validation set is most likely."""
        views = self._validation_views(self.model)
        temperatures = torch.linspace(0.5, 3.0, 126).tolist()
        losses = [self._balanced_loss(density(views, each)) for each in temperatures]
        best = temperatures[int(np.argmin(losses))]
        self.note(stage="calibration", temperature=best, loss=min(losses))
        return best

    def _balanced_loss(self, p: Tensor) -> float:
        """Cross entropy of the validation set, galaxies and real quasars counting alike."""
        labels = self.grid.position(torch.from_numpy(self.validation.z)).long()
        each = -p.gather(1, labels[:, None]).clamp(min=1e-30).log()[:, 0].numpy()
        populations = (self.validation.kind == "galaxy", ~self.validation.simulated)
        return float(np.mean([each[which].mean() for which in populations]))

    def _epoch(self, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
        """Train one epoch; returns its figures."""
        settings, started, losses = self.recipe.finetuning, time.perf_counter(), []
        # By epoch: a run that was stopped goes on with the rows that were to come.
        rng = np.random.default_rng([self.recipe.seed, epoch])
        torch.manual_seed(self.recipe.seed + epoch)
        rows = self._draw(rng)
        batches = [rows[i : i + settings.batch] for i in range(0, len(rows) - 1, settings.batch)]
        self._training_mode()
        for i, batch in enumerate(batches):
            rate = rate_at(
                epoch * len(batches) + i, settings.epochs * len(batches), settings.rate, 0.03
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = self._loss(torch.from_numpy(batch), rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.average.update_parameters(self.model)
            losses.append(loss.item())
        seconds = time.perf_counter() - started
        return {"loss": float(np.mean(losses)), "seconds": seconds, **self._validate()}

    def _draw(self, rng: np.random.Generator) -> np.ndarray[Any, Any]:
        settings = self.recipe.finetuning
        simulated = 1 - settings.galaxy_share - settings.real_quasar_share
        shares = [
            (self.galaxies, settings.galaxy_share, None),
            (self.real, settings.real_quasar_share, None),
            (self.quasars, simulated, self.quasar_weight),
        ]
        parts = [
            rng.choice(rows, round(share * settings.epoch_rows), p=weight)
            for rows, share, weight in shares
        ]
        return rng.permutation(np.concatenate(parts))

    def _loss(self, rows: Tensor, rng: np.random.Generator) -> Tensor:
        settings = self.recipe.finetuning
        which = int(rng.integers(len(ORIENTATIONS)))
        images = turn(self.transform.images(self.images[rows]), ORIENTATIONS[which])
        hidden = torch.rand(len(rows), 1) < settings.hidden_magnitudes
        magnitudes = torch.where(hidden, self.measured[rows], self.magnitudes[rows])
        noise = settings.magnitude_noise * torch.randn(len(rows), 5)
        magnitudes = self.transform.magnitudes(magnitudes + noise)
        encoded = self.features[which, rows].float()
        logits = self._with_dropout(*self.model.branches(encoded, images, magnitudes))
        target = self.grid.smooth(self.bins[rows], settings.label_width)
        return -(target * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()

    def _with_dropout(self, tokens: Tensor, pixels: Tensor, magnitudes: Tensor) -> Tensor:
        """Fuse, with the image hidden from some rows and single features from all.

        A few thousand real images are soon known by heart; their colours are not. A model that
        must also answer without the image keeps to what is true of those it has not seen.
        """
        settings = self.recipe.finetuning
        shown = torch.rand(len(tokens), 1) >= settings.hidden_images
        image = torch.cat([tokens, pixels], dim=1) * shown
        image = functional.dropout(image, settings.dropout)
        return self.model.concat_block(torch.cat([image, magnitudes], dim=1))

    def _training_mode(self) -> None:
        """Batch norms of the frozen encoder keep their statistics."""
        self.model.train()
        self.model.blocks.eval()

    def _features(self, train: Cutouts) -> Tensor:
        """Encoder output [orientations, n, 192], float16, kept beside the run."""
        path = self.out / "features.pt"
        if not path.exists():
            images = torch.from_numpy(train.images)
            features = [self._encode(images, each).half() for each in ORIENTATIONS]
            keep(torch.stack(features), path)
        features_of_all: Tensor = recall(path)
        return features_of_all

    def _encode(self, images: Tensor, orientation: int) -> Tensor:
        self.model.eval()
        with torch.inference_mode():
            parts = [
                self.model.encode(turn(self.transform.images(part), orientation))
                for part in images.split(_CHUNK)
            ]
        return torch.cat(parts).clone()

    def _validation_views(self, model: AstroMAE) -> tuple[Tensor, Tensor]:
        """Logits of the validation set, of the whole model and with the image hidden."""
        model.eval()
        pixels = torch.from_numpy(self.validation.images)
        images = self.transform.images(pixels)
        magnitudes = self.transform.magnitudes(
            complete(torch.from_numpy(self.validation.magnitudes), pixels)
        )
        with torch.inference_mode():
            alone = model.fuse_magnitudes(magnitudes)
            parts = [
                model.fuse(self.validation_features[i : i + _CHUNK], *pair)
                for i, pair in zip(
                    range(0, len(images), _CHUNK),
                    zip(images.split(_CHUNK), magnitudes.split(_CHUNK), strict=True),
                    strict=True,
                )
            ]
        return torch.cat(parts), alone

    def _validate(self) -> dict[str, float]:
        """Loss, NMAD and outliers of the averaged model on the validation set."""
        p = density(self._validation_views(cast("AstroMAE", self.average.module)), 1.0)
        z = self.grid.quantiles(p, (0.5,))[:, 0].numpy()
        found = {"validation_loss": self._balanced_loss(p)}
        for name, which in {
            "galaxy": self.validation.kind == "galaxy",
            "real": ~self.validation.simulated & (self.validation.z >= 2.7),
        }.items():
            metrics = point_metrics(z[which], self.validation.z[which])
            found[f"{name}_nmad"], found[f"{name}_out"] = metrics["nmad"], metrics["outliers"]
        return found
