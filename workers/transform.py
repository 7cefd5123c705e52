"""What is done to pixels and magnitudes before the model sees them; part of the weights' config.

The published model takes them raw. Ours compresses pixels by asinh, as SDSS's own magnitudes do,
so that a bright galaxy does not drown a faint quasar; and it turns magnitudes into colours, which
carry the redshift, beside one magnitude, which carries the distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

_R: Final = 2
_CLIP: Final = 6.0  # standard deviations: an undetected band may be anything


@dataclass(frozen=True, slots=True)
class InputTransform:
    """Empty tuples mean: left as they are.

    `softening` (nanomaggies, ugriz): pixels become asinh(x / softening). `mean` and `std` of
    (u-g, g-r, r-i, i-z, r): magnitudes become these, standardised and clipped at 6.
    """

    softening: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def images(self, images: Tensor) -> Tensor:
        """[n, 5, y, x] nanomaggies -> the same shape."""
        if not self.softening:
            return images
        scale = images.new_tensor(self.softening).reciprocal()[:, None, None]
        return (images * scale).asinh()

    def magnitudes(self, magnitudes: Tensor) -> Tensor:
        """[n, 5] -> [n, 5]."""
        if not self.mean:
            return magnitudes
        mean, std = magnitudes.new_tensor(self.mean), magnitudes.new_tensor(self.std)
        return ((colors(magnitudes) - mean) / std).clamp(-_CLIP, _CLIP)


def colors(magnitudes: Tensor) -> Tensor:
    """u-g, g-r, r-i, i-z and r [n, 5] of ugriz magnitudes [n, 5]."""
    out = magnitudes.clone()
    out[:, :4] = magnitudes[:, :4] - magnitudes[:, 1:]
    out[:, 4] = magnitudes[:, _R]
    return out
