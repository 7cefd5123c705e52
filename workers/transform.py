"""What is done to pixels and magnitudes before the model sees them; part of the weights' config.

The published model takes them raw. Ours compresses pixels by asinh, as SDSS's own magnitudes do,
so that a bright galaxy does not drown a faint quasar; and it turns magnitudes into colours, which
carry the redshift, beside one magnitude, which carries the distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

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

    def images(self, images: Floats) -> Floats:
        """[n, 5, y, x] nanomaggies -> the same shape."""
        if not self.softening:
            return images
        scale = np.reciprocal(np.array(self.softening, np.float32))[:, None, None]
        scaled = images * scale
        return np.arcsinh(scaled, out=scaled)

    def magnitudes(self, magnitudes: Floats) -> Floats:
        """[n, 5] -> [n, 5]."""
        if not self.mean:
            return magnitudes
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        standardised: Floats = np.clip((colors(magnitudes) - mean) / std, -_CLIP, _CLIP)
        return standardised


def colors(magnitudes: Floats) -> Floats:
    """u-g, g-r, r-i, i-z and r [n, 5] of ugriz magnitudes [n, 5]."""
    out = magnitudes.copy()
    out[:, :4] = magnitudes[:, :4] - magnitudes[:, 1:]
    out[:, 4] = magnitudes[:, _R]
    return out
