"""Magnitudes measured in a stamp, for items that bring none or one that is no measurement.

Catalogues write very faint magnitudes where their photometry failed. A model that believes them
sees colours that nothing in the sky has, so they are measured here, the same way in training and
in the function.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SOFTENING: Final = (1.4e-10, 0.9e-10, 1.2e-10, 1.8e-10, 7.4e-10)
"""Softening b of asinh magnitudes, ugriz (Lupton, Gunn & Szalay 1999; SDSS DR1 values)."""

_MAGGIES: Final = 1e-9  # per nanomaggy
_POGSON: Final = 1.0857362047581296  # 2.5 / ln 10
_APERTURE: Final = 6.0  # pixels, 2.4 arcsec: nearly all of a point source, little of the sky

FAINTEST: Final = (27.4, 27.9, 26.6, 26.1, 25.0)
"""SDSS magnitudes stop here: where its photometry failed, the catalogue has one just beyond."""


def complete(magnitudes: NDArray[np.float32], images: NDArray[np.float32]) -> NDArray[np.float32]:
    """`magnitudes` [n, 5] with what is no measurement measured in `images` [n, 5, y, x].

    That is: NaN, and beyond `FAINTEST`. Pixels are nanomaggies.
    """
    absent = unmeasured(magnitudes)
    if not absent.any():
        return magnitudes
    rows = absent.any(axis=1)
    completed = magnitudes.copy()
    completed[rows] = np.where(absent[rows], measure(images[rows]), magnitudes[rows])
    return completed


def unmeasured(magnitudes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of `magnitudes` [n, 5] are no measurement [n, 5]."""
    absent: NDArray[np.bool_] = np.isnan(magnitudes) | (
        magnitudes > np.array(FAINTEST, magnitudes.dtype)
    )
    return absent


def measure(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Asinh magnitudes [n, 5] within 6 pixels of the middle of `images` [n, 5, y, x]."""
    height, width = images.shape[2:]
    y = np.arange(height) - (height - 1) / 2
    x = np.arange(width) - (width - 1) / 2
    inside = np.hypot(y[:, None], x[None, :]) <= _APERTURE
    flux = images[:, :, inside].sum(axis=2, dtype=np.float64)
    return asinh_magnitudes(flux).astype(np.float32)


def asinh_magnitudes(flux: Floats) -> NDArray[np.float64]:
    """Asinh magnitudes of fluxes [n, 5] in nanomaggies; defined for negative fluxes, too.

    m = -2.5 / ln 10 * (asinh(f / 2b) + ln b), f in maggies (Lupton et al. 1999, AJ 118, 1406).
    """
    b = np.array(SOFTENING)
    magnitudes: NDArray[np.float64] = -_POGSON * (
        np.arcsinh(flux.astype(np.float64) * _MAGGIES / (2 * b)) + np.log(b)
    )
    return magnitudes
