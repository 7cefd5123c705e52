"""Stamps cut from survey frames by position.

A folder of FITS images with a WCS, nanomaggies per pixel, the band in the header (`FILTER` or
`BAND`) or as the last letter that stands alone in the file name (`frame-r.fits`). Every band is
resampled to the same grid: 32x32 pixels of 0.396 arcsec, north up, east left, the position in the
middle.
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
from astropy.wcs import WCS, NoConvergence
from astropy.wcs.utils import proj_plane_pixel_area
from numpy.typing import NDArray
from scipy import ndimage

from ingest.errors import NotApplicable, SourceError
from ingest.events import BANDS, PIXEL_SCALE_ARCSEC, STAMP_SIZE
from ingest.stamps.clean import nearest

_NAME: Final = re.compile(r"(?<=[-_.])[ugriz](?=[-_.])", re.IGNORECASE)
# R and I in capitals are other filters (Johnson's and Cousins'), but where SDSS is named.
_FILTER: Final = re.compile(r"([ugriz])'?|sdss[-_ ]?([ugriz])'?|([ugriz])'?[-_ ]?sdss")
_ENDINGS: Final = (".fits", ".fit", ".fits.gz")
_CACHED: Final = 20  # frames kept in memory: neighbours come together


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one image lies on the sky."""

    path: Path
    band: str
    wcs: WCS
    shape: tuple[int, int]

    def locate(self, ra_deg: Any, dec_deg: Any) -> tuple[Any, Any] | None:
        """Pixels x and y of positions; None where not all of them fall on the frame."""
        height, width = self.shape
        try:
            x, y = self.wcs.wcs_world2pix(ra_deg, dec_deg, 0)
            if self.wcs.has_distortion and _within(x, y, width, height, max(self.shape)):
                # Only near the frame: far from it the distortion's polynomials mean nothing.
                x, y = self.wcs.all_world2pix(ra_deg, dec_deg, 0)
        except (ValueError, NoConvergence):  # what WCS raises where there is no such pixel
            return None
        return (x, y) if _within(x, y, width, height, 0) else None


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
            each for each in self._frames if each.band == band and each.locate(ra_deg, dec_deg)
        ]
        if not covering:
            raise NotApplicable(
                "missing_band", f"no {band} frame covers {ra_deg:.5f} {dec_deg:+.5f}"
            )
        failure = NotApplicable("edge", f"the {band} stamp reaches beyond the frame")
        for frame in covering:
            try:
                stamp = _resample(frame, grid)
            except NotApplicable as error:
                failure = error
                continue
            if stamp is not None:
                return stamp
        raise failure


def _within(x: Any, y: Any, width: int, height: int, margin: int) -> bool:
    """Whether all positions lie on the pixels; NaN lies nowhere."""
    low = -0.5 - margin
    return bool(
        np.all((x >= low) & (x <= width - 0.5 + margin))
        and np.all((y >= low) & (y <= height - 0.5 + margin))
    )


def _resample(frame: Frame, grid: tuple[Any, Any]) -> NDArray[np.float32] | None:
    """Pixels of the frame on the grid, by cubic splines; None where the grid leaves the frame.

    Raises:
        NotApplicable: `missing_band`: its file cannot be read any more.
    """
    pixels = frame.locate(*grid)
    if pixels is None:
        return None
    x, y = pixels
    left, top = max(0, int(x.min()) - 8), max(0, int(y.min()) - 8)
    image = _pixels(frame.path)
    if image.shape != frame.shape:
        raise NotApplicable("missing_band", f"{frame.path} has changed since the start")
    cut = image[top : int(y.max()) + 9, left : int(x.max()) + 9]
    stamp = _interpolated(cut, y - top, x - left)
    # A pixel of another size holds another share of the flux.
    area = PIXEL_SCALE_ARCSEC**2 / (proj_plane_pixel_area(frame.wcs) * 3600**2)
    with np.errstate(over="ignore"):  # what is too large becomes infinite: a bad pixel
        resampled: NDArray[np.float32] = (stamp * area).astype(np.float32)
    return resampled


def _interpolated(cut: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """The cut at positions y and x; NaN wherever one of the pixels that count is no number."""
    holes = ~np.isfinite(cut)
    if holes.all():
        return np.full(y.shape, np.nan)
    # A hole must be filled before the spline, or it rings through pixels that are good.
    filled = nearest(cut, holes)
    stamp: NDArray[Any] = ndimage.map_coordinates(filled, [y, x], order=3, mode="nearest")
    if holes.any():
        # A cubic spline takes the 4x4 pixels around: from one before to two behind.
        touched = ndimage.maximum_filter(holes, size=4, origin=-1, mode="nearest")
        rows = np.clip(np.floor(y).astype(int), 0, len(cut) - 1)
        columns = np.clip(np.floor(x).astype(int), 0, len(cut[0]) - 1)
        stamp[touched[rows, columns]] = np.nan
    return stamp


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
        except Exception as error:  # damaged headers make astropy raise nearly anything
            raise SourceError(f"ingest.frames: {path} is not a FITS image ({error})") from error
    band = _band(header, path.name)
    shape = header.get("NAXIS2", 0), header.get("NAXIS1", 0)
    is_image = header.get("NAXIS") == 2 and min(shape) > 0
    if not (band and is_image and wcs.has_celestial and wcs.naxis == 2):
        return None
    return Frame(path, band, wcs, shape)


def _band(header: fits.Header, name: str) -> str | None:
    """The band of an image: as the header has it, or else as its file is named."""
    for key in ("FILTER", "BAND"):
        given = str(header.get(key, "")).strip()
        found = _FILTER.fullmatch(given.lower() if "sdss" in given.lower() else given)
        if found:
            return next(each for each in found.groups() if each)
    named: list[str] = _NAME.findall(name)
    return named[-1].lower() if named else None


@lru_cache(maxsize=_CACHED)
def _pixels(path: Path) -> NDArray[np.floating]:
    try:
        pixels: NDArray[np.floating] = np.asarray(fits.getdata(path), dtype=np.float64)
    except Exception as error:  # damaged files make astropy raise nearly anything
        raise NotApplicable("missing_band", f"{path} cannot be read ({error!r:.200})") from error
    return pixels


def _is_image(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(_ENDINGS)
