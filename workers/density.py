"""p(z) on a fixed grid of bins, and what is read off it."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Grid:
    """`bins` bins, uniform in ln(1 + z) from z = 0 to `z_max`.

    Uniform in ln(1 + z), because photometric errors grow as 1 + z.
    """

    bins: int
    z_max: float

    @property
    def step(self) -> float:
        """Width of a bin in ln(1 + z)."""
        return math.log1p(self.z_max) / self.bins

    def position(self, z: Floats) -> Floats:
        """Redshifts [n] as places on the grid: 3.5 is the middle of bin 3."""
        place: Floats = np.clip(np.log1p(z) / self.step, 0, self.bins - 1e-3)
        return place

    def smooth(self, positions: Floats, width: float) -> NDArray[np.float32]:
        """Labels [n, bins]: normals of standard deviation `width` bins around `positions`."""
        middles = np.arange(self.bins, dtype=np.float32) + np.float32(0.5)
        away = (middles - np.asarray(positions, np.float32)[:, None]) / np.float32(width)
        weight = np.exp(np.float32(-0.5) * away * away)
        label: NDArray[np.float32] = weight / weight.sum(axis=1, keepdims=True)
        return label

    def quantiles(self, p: Floats, fractions: Sequence[float]) -> NDArray[np.float64]:
        """Quantiles [n, len(fractions)] of `p` [n, bins]; p is flat within a bin."""
        cumulative = np.cumsum(p, axis=1, dtype=np.float64)
        cumulative /= cumulative[:, -1:]
        rows = np.arange(len(p))
        places = np.empty((len(p), len(fractions)))
        for k, fraction in enumerate(fractions):
            at = np.minimum((cumulative < fraction).sum(axis=1), self.bins - 1)
            below = np.where(at > 0, cumulative[rows, at - 1], 0.0)
            inside = np.maximum(cumulative[rows, at] - below, 1e-30)
            places[:, k] = at + np.clip((fraction - below) / inside, 0, 1)
        z: NDArray[np.float64] = np.expm1(places * self.step)
        return z

    def middles(self) -> NDArray[np.float64]:
        """Redshift [bins] at the middle of each bin."""
        z: NDArray[np.float64] = np.expm1((np.arange(self.bins) + 0.5) * self.step)
        return z


def density(views: Sequence[Floats], temperature: float) -> NDArray[np.float32]:
    """Mean p [n, bins] over `views` (logits [n, bins] each) of their softened densities."""
    total = _softened(views[0], temperature)
    for each in views[1:]:
        total += _softened(each, temperature)
    total /= np.float32(len(views))
    return total


def _softened(logits: Floats, temperature: float) -> NDArray[np.float32]:
    p: NDArray[np.float32] = logits.astype(np.float32)
    p -= p.max(axis=1, keepdims=True)
    p /= np.float32(temperature)
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return p


def recalibrate(p: Floats, table: Sequence[float]) -> NDArray[np.float32]:
    """`p` [n, bins] with its cumulative probability F made G(F), and summing to one again.

    `table`: G at equally spaced F from 0 to 1, rising, linear in between. An empty one leaves p
    as it is.
    """
    if len(table) == 0:
        return p.astype(np.float32, copy=False)
    cumulative = np.cumsum(p, axis=1, dtype=np.float64)
    cumulative /= cumulative[:, -1:]
    places = np.linspace(0, 1, len(table))
    mapped = np.interp(cumulative.ravel(), places, table).reshape(cumulative.shape)
    share = np.diff(mapped, axis=1, prepend=table[0]) / (table[-1] - table[0])
    return share.astype(np.float32)


_SKETCH_BINS: Final = 200


def sketch(p: Floats, z_max: float) -> str:
    """p(z) [bins] of one item in 270 bytes or so, for a picture: not for calculations.

    "z_max:" and base64 of a byte for each of at most 200 bins, uniform in ln(1 + z) from 0 to
    `z_max`; the largest is 255.
    """
    together = -(-len(p) // _SKETCH_BINS)
    padded = np.pad(np.asarray(p, np.float32), (0, -len(p) % together))
    coarse = padded.reshape(-1, together).sum(axis=1)
    heights = np.rint(255 * coarse / max(float(coarse.max()), 1e-30)).astype(np.uint8)
    return f"{z_max:g}:{base64.b64encode(heights.tobytes()).decode('ascii')}"


def unsketch(drawn: str) -> tuple[list[float], list[float]]:
    """Middles z of the bins of a `sketch`, and p(z) there: density in z, of integral 1."""
    z_max, packed = drawn.split(":", 1)
    heights = np.frombuffer(base64.b64decode(packed), np.uint8).astype(float)
    edges = np.expm1(np.linspace(0, math.log1p(float(z_max)), len(heights) + 1))
    share = heights / max(heights.sum(), 1)
    middles = np.sqrt((1 + edges[1:]) * (1 + edges[:-1])) - 1
    return middles.tolist(), (share / np.diff(edges)).tolist()
