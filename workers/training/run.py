"""One training run: data, masked pre-training, fine-tuning, recalibration, weights.

Every stage leaves a file in the output folder and is passed over when the file is there;
within a stage the state of the last full epoch is kept. So a run that was stopped goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.astromae import AstroMAE
from workers.photometry import complete
from workers.training import finetune
from workers.training import recipe as recipes
from workers.training.cutouts import (
    Cutouts,
    real_quasars,
    rendered_galaxies,
    rendered_quasars,
    split,
    unlabelled,
)
from workers.training.pretrain import MaskedAutoencoder, rate_at
from workers.training.recipe import Recipe
from workers.training.state import keep, recall
from workers.transform import InputTransform, colors
from workers.weights import Config, save

Progress = Callable[[str], None]


def train(recipe: Path | str, data: Path, out: Path, *, on_progress: Progress = print) -> Path:
    """Run a recipe on the SDSS files in `data`; returns the path of the weights.

    Raises:
        RecipeError: the recipe does not exist or is wrong.
    """
    chosen = recipes.load(recipe)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    run = _Run(chosen, data, out, on_progress)
    sets = run.sets()
    transform = input_transform(sets["train"])
    model = AstroMAE(outputs=chosen.bins)
    run.pretrain(model, transform, sets["train"])
    temperature = finetune.run(
        model, transform, sets["train"], sets["validation"], chosen, out, run.note
    )
    config = Config(
        name=chosen.name,
        version=chosen.version,
        bins=chosen.bins,
        z_max=chosen.z_max,
        temperature=temperature,
        magnitudes_alone=True,
        transform=transform,
        magnitude_range=_magnitude_range(sets["train"]),
        recipe=chosen.model_dump(mode="json"),
    )
    path = out / f"{chosen.name}.safetensors"
    save(path, model, config)
    on_progress(f"weights written to {path}")
    return path


def input_transform(train: Cutouts) -> InputTransform:
    """Softening at three times the sky noise; colours and r standardised (median, 16 to 84 %)."""
    noise = np.median(train.images[:2000, :, :6, :6].std(axis=(2, 3)), axis=0)
    low, middle, high = np.percentile(colors(_completed(train)).numpy(), [16, 50, 84], axis=0)
    return InputTransform(
        tuple(float(each) for each in 3 * noise),
        tuple(float(each) for each in middle),
        tuple(float(each) for each in (high - low) / 2),
    )


def _magnitude_range(train: Cutouts) -> tuple[tuple[float, float], ...]:
    low, high = np.percentile(_completed(train).numpy(), [0.1, 99.9], axis=0)
    return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))


def _completed(cutouts: Cutouts) -> Tensor:
    return complete(torch.from_numpy(cutouts.magnitudes), torch.from_numpy(cutouts.images))


@dataclass(frozen=True, slots=True)
class _Run:
    recipe: Recipe
    data: Path
    out: Path
    on_progress: Progress

    def note(self, **figures: Any) -> None:
        """One line of progress, also kept in `metrics.jsonl`."""
        with (self.out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(figures) + "\n")
        self.on_progress("  ".join(f"{k} {_short(v)}" for k, v in figures.items()))

    def sets(self) -> dict[str, Cutouts]:
        """Train, validation and test rows, made once."""
        names = ("train", "validation", "test")
        paths = {name: self.out / f"{name}.npz" for name in names}
        if not all(path.exists() for path in paths.values()):
            self.on_progress("making the data sets (rendering) ...")
            seed, sizes = self.recipe.seed, self.recipe.data
            parts = [
                split(real_quasars(self.data), seed),
                split(rendered_galaxies(self.data, sizes.galaxies, seed), seed),
                split(rendered_quasars(self.data, sizes.quasars, seed), seed),
            ]
            for name, path in paths.items():
                Cutouts.join([getattr(part, name) for part in parts]).save(path)
        return {name: Cutouts.load(path) for name, path in paths.items()}

    def pretrain(self, model: AstroMAE, transform: InputTransform, train: Cutouts) -> None:
        """Pre-train the encoder of `model` in place, or load what an earlier run left."""
        done = self.out / "encoder.pt"
        settings = self.recipe.pretraining
        masked = MaskedAutoencoder(model, settings.mask)
        if done.exists():
            model.load_state_dict(recall(done))
            return
        decayed = [p for p in masked.parameters() if p.ndim > 1]
        others = [p for p in masked.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.decay},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.95),
        )
        state, start = self.out / "pretraining.pt", 0
        if state.exists():
            stored = recall(state)
            masked.load_state_dict(stored["model"])
            optimizer.load_state_dict(stored["optimizer"])
            start = stored["epoch"]
        images = torch.from_numpy(np.concatenate([train.images, unlabelled(self.data)]))
        steps = settings.epochs * (len(images) // settings.batch)
        for epoch in range(start, settings.epochs):
            figures = self._pretrain_epoch(masked, optimizer, transform, images, epoch, steps)
            keep(
                {
                    "model": masked.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "epoch": epoch + 1,
                },
                state,
            )
            self.note(stage="pretraining", epoch=epoch + 1, **figures)
        keep(model.state_dict(), done)
        state.unlink(missing_ok=True)

    def _pretrain_epoch(
        self,
        masked: MaskedAutoencoder,
        optimizer: torch.optim.Optimizer,
        transform: InputTransform,
        images: Tensor,
        epoch: int,
        steps: int,
    ) -> dict[str, float]:
        settings, started, losses = self.recipe.pretraining, time.perf_counter(), []
        generator = torch.Generator().manual_seed(1000 + epoch)
        torch.manual_seed(self.recipe.seed + epoch)
        order = torch.randperm(len(images), generator=generator)
        per_epoch = len(images) // settings.batch
        masked.train()
        for i in range(per_epoch):
            rate = rate_at(epoch * per_epoch + i, steps, settings.rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = finetune.turn(images[order[i * settings.batch :][: settings.batch]], i % 8)
            loss = masked(transform.images(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return {"loss": float(np.mean(losses)), "seconds": time.perf_counter() - started}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
