"""p(z) on a fixed grid of bins, and what is read off it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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

    def position(self, z: Tensor) -> Tensor:
        """Redshifts [n] as places on the grid: 3.5 is the middle of bin 3."""
        return (torch.log1p(z) / self.step).clamp(0, self.bins - 1e-3)

    def smooth(self, positions: Tensor, width: float) -> Tensor:
        """Labels [n, bins]: normals of standard deviation `width` bins around `positions`."""
        middles = torch.arange(self.bins, dtype=torch.float32) + 0.5
        weight = torch.exp(-0.5 * ((middles - positions[:, None]) / width).square())
        return weight / weight.sum(dim=1, keepdim=True)

    def quantiles(self, p: Tensor, fractions: Sequence[float]) -> Tensor:
        """Quantiles [n, len(fractions)] of `p` [n, bins]; p is flat within a bin."""
        p = p.double() / p.double().sum(dim=1, keepdim=True)
        cumulative = p.cumsum(dim=1)
        wanted = torch.tensor(fractions, dtype=torch.float64).expand(len(p), -1).contiguous()
        at = torch.searchsorted(cumulative, wanted).clamp(max=self.bins - 1)
        above = cumulative.gather(1, at)
        inside = p.gather(1, at).clamp(min=1e-30)
        below = above - inside
        place = at + ((wanted - below) / inside).clamp(0, 1)
        return torch.expm1(place * self.step)

    def middles(self) -> Tensor:
        """Redshift [bins] at the middle of each bin."""
        return torch.expm1((torch.arange(self.bins, dtype=torch.float64) + 0.5) * self.step)


def density(views: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean p [n, bins] over `views` (logits [n, bins] each) of their softened densities."""
    return torch.stack([torch.softmax(each / temperature, dim=1) for each in views]).mean(dim=0)
