"""Is a stamp of a kind that the model knows? A score, so that nothing foreign is guessed at.

A small network looks at statistics of the stamp as it came (not at what the model sees, where
everything looks like something the model knows): light in apertures, moments, extremes, noise, and
how they agree with the magnitudes given. It was trained to tell held-in rows from stars, empty
sky, shifted, swapped and saturated stamps (`workers.training.domain`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.photometry import measure

Floats = NDArray[np.float32]

UNUSUAL: Final = 0.95
"""Above this score, a stamp is flagged: one good row in twenty is."""

FOREIGN: Final = 0.998
"""Above this score there is no redshift: two good rows in a thousand lose theirs."""

PREFIX: Final = "domain."
_SIZE: Final = 32
_RADII: Final = (1.5, 2.5, 4.0, 6.0, 9.0, 12.0)  # pixels
_RING: Final = (12.0, 16.0)
_NOISE: Final = (0.060, 0.024, 0.034, 0.051, 0.180)  # nanomaggies a pixel, ugriz: SDSS's sky
_FLAT: Final = 0.97  # of the peak: pixels above it are a plateau, where there are many
_CLIP: Final = 6.0
_LARGEST: Final = np.float32(1e9)  # nanomaggies: magnitude 0


@dataclass(frozen=True, slots=True)
class Domain:
    """The network: statistics are standardised by `mean` and `std`, then layers with ReLU between.

    `ordinary` [k]: quantiles of its output over good rows at equally spaced shares, 0 to 1.
    """

    mean: Floats
    std: Floats
    layers: tuple[tuple[Floats, Floats], ...]
    ordinary: Floats

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Domain:
        """From the tensors of a weights file."""
        depth = sum(name.startswith(f"{PREFIX}weight") for name in tensors)
        return cls(
            tensors[f"{PREFIX}mean"],
            tensors[f"{PREFIX}std"],
            tuple(
                (tensors[f"{PREFIX}weight{i}"], tensors[f"{PREFIX}bias{i}"]) for i in range(depth)
            ),
            tensors[f"{PREFIX}ordinary"],
        )

    def tensors(self) -> dict[str, NDArray[Any]]:
        """For a weights file."""
        layers = {
            f"{PREFIX}{name}{i}": value
            for i, layer in enumerate(self.layers)
            for name, value in zip(("weight", "bias"), layer, strict=True)
        }
        return {
            f"{PREFIX}mean": self.mean,
            f"{PREFIX}std": self.std,
            f"{PREFIX}ordinary": self.ordinary,
            **layers,
        }

    def score(self, images: Floats, magnitudes: Floats) -> Floats:
        """Share [n] of good rows that look more ordinary than these: 0 usual, 1 foreign.

        `images` [n, 5, 32, 32] nanomaggies; `magnitudes` [n, 5] as they were given, with NaN.
        """
        output = self.output(statistics(images, magnitudes))
        shares = np.linspace(0, 1, len(self.ordinary), dtype=np.float32)
        return np.interp(output, self.ordinary, shares).astype(np.float32)

    def output(self, found: Floats) -> Floats:
        """The network's output [n] for `statistics` [n, k]: the larger, the more foreign."""
        x = standardise(found, self.mean, self.std)
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = np.maximum(x, 0)
        output: Floats = x[:, 0]
        return output


def standardise(found: Floats, mean: Floats, std: Floats) -> Floats:
    """Statistics in standard deviations, clipped at 6: what is foreign may be anything."""
    scaled: Floats = np.clip((found - mean) / std, -_CLIP, _CLIP)
    return scaled


def statistics(images: Floats, magnitudes: Floats) -> Floats:
    """What the network looks at [n, 90]. See `Domain.score` for shapes."""
    n = len(images)
    # Clipped far beyond anything real, so that sums and squares of nonsense stay finite.
    tame = np.clip(images, -_LARGEST, _LARGEST).reshape(n, 5, _SIZE**2)
    pixels = tame / np.array(_NOISE, np.float32)[:, None]
    sums = pixels @ _templates()  # [n, 5, templates]
    apertures, (east, south, spread, ring) = sums[..., :-4], np.moveaxis(sums[..., -4:], -1, 0)
    # Three times its noise is added, so that no empty aperture is divided by.
    light = (np.abs(apertures[..., 3]) + 3) * np.sqrt(np.float32(np.pi)) * _RADII[3]
    core = pixels[..., _core()]
    peak, lowest = pixels.max(axis=2), pixels.min(axis=2)
    plateau = (core >= _FLAT * np.maximum(core.max(axis=2), 5.0)[..., None]).sum(axis=2)
    outside = pixels[..., _ring()]
    shape = [
        _compress(apertures).reshape(n, 5 * len(_RADII)),
        np.hypot(east, south) / light,
        np.clip(spread / light, -50, 100),
        _compress(ring),
        _compress(peak),
        _compress(lowest),
        np.log1p(plateau),
        np.log(outside.std(axis=2) + 1e-3),
        np.log1p(_distance()[pixels.argmax(axis=2)]),
    ]
    unknown = np.isnan(magnitudes)
    measured = measure(tame.reshape(images.shape))
    missed = np.where(unknown, 0, magnitudes - measured)
    known = np.where(unknown, measured, magnitudes)
    colors = np.column_stack([known[:, :4] - known[:, 1:], known[:, 2]])
    return np.concatenate([*shape, missed, colors, unknown[:, :1]], axis=1).astype(np.float32)


def _compress(x: NDArray[np.floating]) -> NDArray[np.floating]:
    squeezed: NDArray[np.floating] = np.arcsinh(x)
    return squeezed


@cache
def _places() -> tuple[Floats, Floats]:
    axis = np.arange(_SIZE, dtype=np.float32) - (_SIZE - 1) / 2
    south, east = (each.ravel() for each in np.meshgrid(axis, axis, indexing="ij"))
    return east, south


@cache
def _distance() -> Floats:
    distance: Floats = np.hypot(*_places())
    return distance


@cache
def _templates() -> Floats:
    """[1024, templates]: apertures (in units of their noise), first and second moments, a ring."""
    (east, south), r = _places(), _distance()
    apertures = [(r <= each) / np.sqrt((r <= each).sum()) for each in _RADII]
    inside, ring = r <= _RADII[3], (r > _RING[0]) & (r <= _RING[1])
    moments = [east * inside, south * inside, r**2 * (r <= _RADII[4])]
    return np.column_stack([*apertures, *moments, ring / np.sqrt(ring.sum())]).astype(np.float32)


@cache
def _core() -> NDArray[np.intp]:
    return np.flatnonzero(_distance() <= _RADII[2])


@cache
def _ring() -> NDArray[np.intp]:
    r = _distance()
    return np.flatnonzero((r > _RING[0]) & (r <= _RING[1]))
