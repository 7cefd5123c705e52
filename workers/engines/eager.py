"""The plain model, run by torch: the yardstick of the folded engine, and the way to a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.errors import WorkerError

try:
    import torch

    from workers.astromae import AstroMAE
except ImportError as error:
    raise WorkerError(
        f"the engines torch and cuda need PyTorch ({error}): pip install 'lookback[train]', "
        "or take the engine cpu"
    ) from error

Floats = NDArray[np.float32]

_CHUNKS: Final = {"cpu": 32, "cuda": 4096}  # a core's cache, a GPU's appetite


class TorchEngine:
    """See `workers.engine.Engine`. `compiled`: by torch.compile, which pays after minutes."""

    def __init__(
        self,
        tensors: Mapping[str, NDArray[Any]],
        *,
        device: str = "cpu",
        threads: int = 1,
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise WorkerError("torch finds no GPU here: take the engine cpu")
        torch.set_num_threads(threads)
        self._device, self._half = device, precision == "bfloat16"
        model = AstroMAE.of(tensors).to(device)
        self.outputs = int(tensors["concat_block.2.weight"].shape[0])
        self._whole = torch.compile(model, dynamic=True) if compiled else model
        self._alone = model.fuse_magnitudes

    def __call__(self, images: Floats, magnitudes: Floats) -> Floats:
        """[n, 5, 32, 32] and [n, 5] (both transformed) -> [n, outputs]."""
        return self.both(images, magnitudes)[0]

    @torch.inference_mode()
    def both(self, images: Floats, magnitudes: Floats) -> tuple[Floats, Floats]:
        """What the whole model says, and what `AstroMAE.fuse_magnitudes` does [n, outputs]."""
        n, chunk = len(images), _CHUNKS[self._device]
        whole, alone = (np.empty((n, self.outputs), np.float32) for _ in range(2))
        for start in range(0, n, chunk):
            part = slice(start, start + chunk)
            pixels, seen = self._put(images[part]), self._put(magnitudes[part])
            with torch.autocast(self._device, torch.bfloat16, enabled=self._half):
                said = self._whole(pixels, seen), self._alone(seen)
            whole[part], alone[part] = (each.float().cpu().numpy() for each in said)
        return whole, alone

    def _put(self, array: Floats) -> torch.Tensor:
        # Copied, because torch warns of arrays that may not be written to; in one order, because it
        # computes other bits in another.
        return torch.from_numpy(np.array(array, np.float32, order="C")).to(self._device)
