"""A loop like CAI's: what its authors' workers do with the files that they are given."""

from __future__ import annotations

import gc
from typing import Final

import torch
from torch.utils.data import DataLoader, TensorDataset

from workers.astromae import AstroMAE

BATCH: Final = 512


def loop(model: AstroMAE, images: torch.Tensor, magnitudes: torch.Tensor) -> None:
    """Eager float32, rows gathered one by one, the profiler with memory around every batch.

    `images` [n, 5, 32, 32], `magnitudes` [n, 5]. The redshifts are thrown away, as there.
    """
    for image, magnitude in DataLoader(TensorDataset(images, magnitudes), batch_size=BATCH):
        with (
            torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
            ) as profile,
            torch.no_grad(),
        ):
            model(image, magnitude)
        profile.key_averages()
        gc.collect()
