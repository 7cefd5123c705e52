"""Magnitudes from a stamp, for events that bring none."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

SOFTENING: Final = np.array([1.4e-10, 0.9e-10, 1.2e-10, 1.8e-10, 7.4e-10])
"""Softening b of asinh magnitudes, ugriz (Lupton, Gunn & Szalay 1999; SDSS DR1 values)."""

_ZERO_POINT: Final = 1e9  # nanomaggies per maggy
_APERTURE: Final = 12.0  # pixels, 4.75 arcsec: most of a galaxy of r < 19, little of the sky
_POGSON: Final = 2.5 / np.log(10)


def asinh_magnitudes(flux: NDArray[np.floating]) -> NDArray[np.float32]:
    """Asinh magnitudes [5] of fluxes [5] in nanomaggies; defined for negative fluxes, too.

    m = -2.5 / ln 10 * (asinh(f / 2b) + ln b), f in maggies (Lupton et al. 1999, AJ 118, 1406).
    """
    scaled = flux / _ZERO_POINT / (2 * SOFTENING)
    magnitudes: NDArray[np.float32] = (-_POGSON * (np.arcsinh(scaled) + np.log(SOFTENING))).astype(
        np.float32
    )
    return magnitudes


def aperture_fluxes(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """Fluxes [5] (nanomaggies) within 12 pixels of the middle of `image` [5, y, x]."""
    y, x = np.indices(image.shape[1:])
    middle_y, middle_x = (image.shape[1] - 1) / 2, (image.shape[2] - 1) / 2
    inside = np.hypot(y - middle_y, x - middle_x) <= _APERTURE
    fluxes: NDArray[np.floating] = image[:, inside].sum(axis=1, dtype=float)
    return fluxes
