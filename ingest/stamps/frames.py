"""Stamps cut from survey frames by position.

A folder of FITS images with a WCS, nanomaggies per pixel, the band in the header (`FILTER` or
`BAND`) or as the last letter group of the file name (`frame-r.fits`). Every band is resampled to
the same grid: 32x32 pixels of 0.396 arcsec, north up, east left, the position in the middle.
"""

from __future__ import annotations

import asyncio
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area
from numpy.typing import NDArray
from scipy import ndimage

from ingest.errors import NotApplicable, SourceError
from ingest.events import BANDS, PIXEL_SCALE_ARCSEC, STAMP_SIZE

_NAME: Final = re.compile(r"[-_.]([ugriz])[-_.]", re.IGNORECASE)
_ENDINGS: Final = (".fits", ".fit", ".fits.gz")
_CACHED: Final = 20  # frames kept in memory: neighbours come together


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one image lies on the sky."""

    path: Path
    band: str
    wcs: WCS
    shape: tuple[int, int]

    def covers(self, ra_deg: float, dec_deg: float) -> bool:
        """Whether the position falls on the frame's pixels."""
        x, y = self.wcs.wcs_world2pix(ra_deg, dec_deg, 0)
        height, width = self.shape
        return bool(-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5)


class Frames:
    """The frames of a folder. Headers are read once, pixels when they are needed."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceError(f"ingest.frames: {folder} is not a folder")
        found = (_read_header(each) for each in sorted(folder.rglob("*")) if _is_image(each))
        self._frames = [frame for frame in found if frame]
        if not self._frames:
            raise SourceError(f"ingest.frames: {folder} holds no FITS images with a WCS and a band")

    async def cut(self, ra_deg: float, dec_deg: float) -> NDArray[np.float32]:
        """The stamp [5, 32, 32] around a position.

        Raises:
            NotApplicable: `missing_band` where a band has no frame there, `edge` where the stamp
                would reach beyond it.
        """
        return await asyncio.to_thread(self._cut, ra_deg, dec_deg)

    def _cut(self, ra_deg: float, dec_deg: float) -> NDArray[np.float32]:
        grid = _grid(ra_deg, dec_deg)
        return np.stack([self._cut_band(band, ra_deg, dec_deg, grid) for band in BANDS])

    def _cut_band(self, band: str, ra_deg: float, dec_deg: float, grid: Any) -> Any:
        covering = [
            each for each in self._frames if each.band == band and each.covers(ra_deg, dec_deg)
        ]
        if not covering:
            raise NotApplicable(
                "missing_band", f"no {band} frame covers {ra_deg:.5f} {dec_deg:+.5f}"
            )
        for frame in covering:
            stamp = _resample(frame, grid)
            if stamp is not None:
                return stamp
        raise NotApplicable("edge", f"the {band} stamp reaches beyond the frame")


def _resample(frame: Frame, grid: tuple[Any, Any]) -> NDArray[np.float32] | None:
    """Pixels of the frame on the grid, by cubic splines; None where the grid leaves the frame."""
    x, y = frame.wcs.wcs_world2pix(*grid, 0)
    height, width = frame.shape
    if x.min() < -0.5 or y.min() < -0.5 or x.max() > width - 0.5 or y.max() > height - 0.5:
        return None
    left, top = max(0, int(x.min()) - 8), max(0, int(y.min()) - 8)
    cut = _pixels(frame.path)[top : int(y.max()) + 9, left : int(x.max()) + 9]
    bad = ~np.isfinite(cut)
    where = [y - top, x - left]
    stamp = ndimage.map_coordinates(np.where(bad, 0.0, cut), where, order=3, mode="nearest")
    if bad.any():
        touched = ndimage.map_coordinates(bad.astype(float), where, order=1, mode="nearest")
        stamp[touched > 0] = np.nan
    # A pixel of another size holds another share of the flux.
    area = PIXEL_SCALE_ARCSEC**2 / (proj_plane_pixel_area(frame.wcs) * 3600**2)
    resampled: NDArray[np.float32] = (stamp * area).astype(np.float32)
    return resampled


def _grid(ra_deg: float, dec_deg: float) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """RA and Dec [32, 32] of the pixels of a stamp: a tangential projection, north up."""
    target = WCS(naxis=2)
    target.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    target.wcs.crval = [ra_deg, dec_deg]
    target.wcs.crpix = [(STAMP_SIZE + 1) / 2, (STAMP_SIZE + 1) / 2]
    target.wcs.cdelt = [-PIXEL_SCALE_ARCSEC / 3600, PIXEL_SCALE_ARCSEC / 3600]
    y, x = np.indices((STAMP_SIZE, STAMP_SIZE))
    ra, dec = target.wcs_pix2world(x, y, 0)
    return ra, dec


def _read_header(path: Path) -> Frame | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            header = fits.getheader(path)
            wcs = WCS(header)
        except (OSError, ValueError) as error:
            raise SourceError(f"ingest.frames: {path} is not a FITS image ({error})") from error
    band = str(header.get("FILTER", header.get("BAND", ""))).strip().lower()[:1]
    if band not in BANDS or not band:
        named = _NAME.search(path.name)
        band = named.group(1).lower() if named else ""
    if not (band and wcs.has_celestial and wcs.naxis == 2):
        return None
    return Frame(path, band, wcs, (int(header["NAXIS2"]), int(header["NAXIS1"])))


@lru_cache(maxsize=_CACHED)
def _pixels(path: Path) -> NDArray[np.floating]:
    pixels: NDArray[np.floating] = np.asarray(fits.getdata(path), dtype=np.float64)
    return pixels


def _is_image(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(_ENDINGS)
