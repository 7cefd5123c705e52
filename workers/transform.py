"""What is done to pixels and magnitudes before the model sees them; part of the weights' config.

The published model takes them raw. Ours compresses pixels by asinh, as SDSS's own magnitudes do,
so that a bright galaxy does not drown a faint quasar, and standardises magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class InputTransform:
    """`softening` (nanomaggies, ugriz): asinh(x / softening); magnitudes: (m - mean) / std.

    Empty means: left as they are.
    """

    softening: tuple[float, ...] = ()
    magnitude_mean: tuple[float, ...] = ()
    magnitude_std: tuple[float, ...] = ()

    def images(self, images: Tensor) -> Tensor:
        """[n, 5, y, x] nanomaggies -> the same shape."""
        if not self.softening:
            return images
        scale = images.new_tensor(self.softening).reciprocal()[:, None, None]
        return (images * scale).asinh()

    def magnitudes(self, magnitudes: Tensor) -> Tensor:
        """[n, 5] -> [n, 5]."""
        if not self.magnitude_mean:
            return magnitudes
        mean = magnitudes.new_tensor(self.magnitude_mean)
        return (magnitudes - mean) / magnitudes.new_tensor(self.magnitude_std)
