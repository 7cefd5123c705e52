"""From pixels as they come to pixels as the model takes them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.errors import NotApplicable
from ingest.events import BANDS, STAMP_SIZE

MAX_BAD: Final = 0.02
"""Share of pixels of a band that may be repaired; more is a hole and not a blemish."""

_MIDDLE: Final = slice(STAMP_SIZE // 2 - 4, STAMP_SIZE // 2 + 4)
"""Where the object is. Nothing is made up there."""


def clean(image: NDArray[np.float32], bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Order the bands, cut out the middle 32x32 pixels, repair single bad pixels.

    `image` [bands, y, x], nanomaggies. Returns float32 [5, 32, 32].

    Raises:
        NotApplicable: `missing_band`, `edge` or `bad_cutout`.
    """
    cut = _middle(_ordered(image, bands))
    bad = ~np.isfinite(cut)
    for band, pixels, holes in zip(BANDS, cut, bad, strict=True):
        good = pixels[~holes]
        if not good.size or good.min() == good.max():
            raise NotApplicable("missing_band", f"band {band} holds no image")
    if bad.any():
        cut = _repaired(cut, bad)
    return np.ascontiguousarray(cut, dtype=np.float32)


def _ordered(image: NDArray[np.float32], bands: tuple[str, ...]) -> NDArray[np.float32]:
    missing = [band for band in BANDS if band not in bands]
    if missing:
        raise NotApplicable(
            "missing_band", f"the stamp has {''.join(bands) or 'no bands'}, not {''.join(missing)}"
        )
    if bands == BANDS:
        return image
    return image[[bands.index(band) for band in BANDS]]


def _middle(image: NDArray[np.float32]) -> NDArray[np.float32]:
    _, height, width = image.shape
    if height < STAMP_SIZE or width < STAMP_SIZE:
        raise NotApplicable(
            "edge", f"a stamp of {height}x{width} pixels, {STAMP_SIZE}x{STAMP_SIZE} are needed"
        )
    top, left = (height - STAMP_SIZE) // 2, (width - STAMP_SIZE) // 2
    return image[:, top : top + STAMP_SIZE, left : left + STAMP_SIZE]


def _repaired(image: NDArray[np.float32], bad: NDArray[np.bool_]) -> NDArray[np.float32]:
    if bad[:, _MIDDLE, _MIDDLE].any():
        raise NotApplicable("bad_cutout", "pixels in the middle of the stamp are not numbers")
    share = bad.mean(axis=(1, 2))
    worst = int(share.argmax())
    if share[worst] > MAX_BAD:
        raise NotApplicable(
            "bad_cutout", f"{share[worst]:.0%} of band {BANDS[worst]} are not numbers"
        )
    return np.stack([nearest(pixels, holes) for pixels, holes in zip(image, bad, strict=True)])


def nearest(pixels: NDArray[Any], holes: NDArray[np.bool_]) -> NDArray[Any]:
    """`pixels` with the nearest good one in each hole: no value that the sky did not have.

    At least one pixel must be good.
    """
    if not holes.any():
        return pixels
    from scipy import ndimage  # late: most stamps have no holes, and it loads slowly

    y, x = ndimage.distance_transform_edt(holes, return_distances=False, return_indices=True)
    filled: NDArray[Any] = pixels[y, x]
    return filled
