"""A small network that somebody else trained on real SDSS galaxies, in numpy.

43,150 parameters: four separable 3x3 convolutions (valid, ReLU) with a 2x2 max pool each, then
128-64-32-32-1 with ReLU between. Cutouts of 61 x 61 pixels, ugriz in nanomaggies as they are, to a
redshift (nunorc/astromlp-models, MIT). An outside check of what is rendered, not of our model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SIZE: Final = 61
_CONVOLUTIONS: Final = 4
_DENSE: Final = range(4, 8)
_CHUNK: Final = 64


class Judge:
    """The network of an npz file; see the module's docstring for its layers."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as stored:
            self._weights: dict[str, NDArray[Any]] = {name: stored[name] for name in stored}

    def estimate(self, images: Floats) -> Floats:
        """Redshifts [n] of images [n, 5, s, s], s >= 61, nanomaggies; their middle is taken."""
        first = (images.shape[-1] - SIZE) // 2
        middle = slice(first, first + SIZE)
        parts = [
            self._forward(images[i : i + _CHUNK, :, middle, middle].astype(np.float32))
            for i in range(0, len(images), _CHUNK)
        ]
        return np.concatenate(parts)

    def _forward(self, images: Floats) -> Floats:
        x = images.transpose(0, 2, 3, 1)
        for layer in range(_CONVOLUTIONS):
            x = self._convolve(x, layer)
        x = x.reshape(len(x), -1)
        for layer in _DENSE:
            x = x @ self._weights[f"l{layer}_kernel"] + self._weights[f"l{layer}_bias"]
            if layer != _DENSE[-1]:
                x = np.maximum(x, 0)
        return x[:, 0]

    def _convolve(self, x: Floats, layer: int) -> Floats:
        """Each channel by its own 3x3 kernel, channels mixed, ReLU, the largest of 2x2."""
        kernel = self._weights[f"l{layer}_depthwise"][..., 0]
        height, width = x.shape[1] - 2, x.shape[2] - 2
        filtered = sum(
            x[:, row : row + height, column : column + width] * kernel[row, column]
            for row in range(3)
            for column in range(3)
        )
        mixed = filtered @ self._weights[f"l{layer}_pointwise"][0, 0]
        bright = np.maximum(mixed + self._weights[f"l{layer}_bias"], 0)
        height, width = height // 2, width // 2
        pairs = bright[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2, -1)
        largest: Floats = pairs.max(axis=(2, 4))
        return largest
