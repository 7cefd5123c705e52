"""What a model must not give a redshift for, made out of what it may.

Each maker takes rows of a dataset (frames of 64 pixels) and returns rows of the same number whose
images, or whose magnitudes, are wrong in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.training.cutouts import Cutouts

Array = NDArray[Any]
Maker = Callable[[Cutouts, np.random.Generator], Cutouts]

_SHIFT: Final = (10.0, 28.0)  # pixels: at 16 the middle of an object leaves the model's stamp
_CLIPPED: Final = (0.1, 0.6)  # of the peak
_CORE: Final = 6  # pixels


def shifted(rows: Cutouts, rng: np.random.Generator, pixels: float | None = None) -> Cutouts:
    """The object is not in the middle: moved by 10 to 28 pixels, or by `pixels`."""
    images = np.empty_like(rows.images)
    for i, frame in enumerate(rows.images):
        by, angle = pixels or rng.uniform(*_SHIFT), rng.uniform(0, 2 * np.pi)
        move = round(by * np.sin(angle)), round(by * np.cos(angle))
        images[i] = np.roll(frame, move, axis=(1, 2))
    return replace(rows, images=images)


def empty(rows: Cutouts, rng: np.random.Generator) -> Cutouts:
    """Sky where the object should be: the frame moved by half its size."""
    half = rows.images.shape[-1] // 2
    images = np.roll(rows.images, (half, half), axis=(2, 3))
    return replace(rows, images=images[rng.permutation(len(images))])


def swapped(rows: Cutouts, rng: np.random.Generator) -> Cutouts:
    """Two bands have changed places; in half of the rows the magnitudes have, too."""
    images, magnitudes = rows.images.copy(), rows.magnitudes.copy()
    for i in range(len(images)):
        a, b = rng.choice(5, 2, replace=False)
        images[i, [a, b]] = images[i, [b, a]]
        if rng.random() < 0.5:
            magnitudes[i, [a, b]] = magnitudes[i, [b, a]]
    return replace(rows, images=images, magnitudes=magnitudes)


def saturated(rows: Cutouts, rng: np.random.Generator) -> Cutouts:
    """The peak is cut off at 10 to 60 per cent of its height: in g, r and i, which saturate first.

    In half of the rows u and z are cut off, too.
    """
    images, middle = rows.images.copy(), rows.images.shape[-1] // 2
    core = slice(middle - _CORE, middle + _CORE)  # a neighbour may be brighter
    peaks = images[..., core, core].max(axis=(2, 3), keepdims=True).astype(np.float32)
    level = peaks * rng.uniform(*_CLIPPED, (len(images), 1, 1, 1))
    cut = np.ones((len(images), 5, 1, 1), dtype=bool)
    cut[:, [0, 4]] = (rng.random(len(images)) < 0.5)[:, None, None, None]
    return replace(rows, images=np.where(cut, np.minimum(images, level), images).astype(np.float16))


def crossed(rows: Cutouts, rng: np.random.Generator) -> Cutouts:
    """A satellite or an aeroplane: a bright line through the middle, in one band or two."""
    images, size = rows.images.astype(np.float32), rows.images.shape[-1]
    axis = np.arange(size) - (size - 1) / 2
    for i in range(len(images)):
        angle, width = rng.uniform(0, np.pi), rng.uniform(0.7, 2.5)
        offset = axis[:, None] * np.cos(angle) - axis[None, :] * np.sin(angle) - rng.normal(0, 4)
        height = np.exp(rng.uniform(np.log(1), np.log(100)))
        bands = rng.choice(5, rng.integers(1, 3), replace=False)
        images[i, bands] += height * np.exp(-0.5 * (offset / width) ** 2)
    return replace(rows, images=np.clip(images, -6e4, 6e4).astype(np.float16))


def misscaled(rows: Cutouts, rng: np.random.Generator) -> Cutouts:
    """Other units than nanomaggies, or noise where there should be an image."""
    images = rows.images.astype(np.float32)
    factor = np.exp(rng.choice([-1, 1], len(images)) * rng.uniform(1.0, 5.0, len(images)))
    noisy = rng.random(len(images)) < 0.3
    noise = rng.normal(size=images.shape) * rng.uniform(1, 50, (len(images), 1, 1, 1))
    scaled = np.where(noisy[:, None, None, None], noise, images * factor[:, None, None, None])
    return replace(rows, images=np.clip(scaled, -6e4, 6e4).astype(np.float16))


KINDS: Final[Mapping[str, Maker]] = {
    "shifted": shifted,
    "empty": empty,
    "swapped": swapped,
    "saturated": saturated,
    "crossed": crossed,
    "misscaled": misscaled,
}
