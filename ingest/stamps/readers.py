"""Stamp files: npz and FITS, as pixels with band names."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.bounded import gunzip, unzip
from ingest.errors import DecodeError
from ingest.events import BANDS

Pixels = tuple[NDArray[np.float32], tuple[str, ...]]
"""Image [bands, y, x] and the name of each band."""

_MAX_SIDE: Final = 4096
_MAX_HDUS: Final = 64
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK"


def read(data: bytes, encoding: str | None, limit: int) -> Pixels:
    """Read a stamp file. `limit` bounds what it expands to.

    `encoding`: `npz`, `fits`, or None to tell by the first bytes.

    Raises:
        DecodeError: `bad_stamp` or `too_large`.
    """
    if data.startswith(_GZIP):
        data = gunzip(data, limit)
    if len(data) > limit:
        raise DecodeError("too_large", f"a stamp of {len(data)} bytes, the limit is {limit}")
    is_npz = encoding == "npz" if encoding else data.startswith(_ZIP)
    image, bands = _read_npz(data, limit) if is_npz else _read_fits(data)
    if image.ndim != 3 or len(image) != len(bands) or not all(image.shape):
        raise DecodeError("bad_stamp", f"an image of shape {image.shape} for bands {bands}")
    if max(image.shape) > _MAX_SIDE or image.dtype.kind not in "fiu":
        raise DecodeError("bad_stamp", f"an image of {image.shape} {image.dtype} is no stamp")
    with np.errstate(over="ignore"):  # what is too large becomes infinite: a bad pixel
        return image.astype(np.float32), bands


def _read_npz(data: bytes, limit: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    members = unzip(data, limit)
    if "image.npy" not in members:
        raise DecodeError("bad_stamp", "an npz stamp needs an array named `image`")
    image = _array(members["image.npy"])
    if "bands.npy" in members:
        bands = tuple(str(each) for each in _array(members["bands.npy"]).ravel()[:100])
    else:
        bands = BANDS[: len(image)] if image.ndim == 3 else ()
    return image, bands


def _array(data: bytes) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old forms of headers are the sender's matter
            _check_header(data)
            array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except DecodeError:
        raise
    except Exception as error:  # damaged headers make numpy raise nearly anything
        raise DecodeError("bad_stamp", f"an array cannot be read ({error!r:.500})") from error
    return array


def _check_header(data: bytes) -> None:
    """Whether the array that the header promises is there: room for it is made before reading."""
    file = io.BytesIO(data)
    match np.lib.format.read_magic(file):
        case (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        case (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        case version:
            raise DecodeError("bad_stamp", f"an array cannot be read (version {version})")
    if dtype.kind not in "fiuUS" or min(dtype.itemsize, *shape) <= 0:
        raise DecodeError("bad_stamp", f"an array cannot be read ({dtype}, shape {shape})")
    if math.prod(shape) * dtype.itemsize > len(data) - file.tell():
        raise DecodeError("bad_stamp", f"an array of shape {shape} is not whole")


def _read_fits(data: bytes) -> tuple[NDArray[Any], tuple[str, ...]]:
    """A cube (bands in ugriz order, or as the header's BANDS says), or an image HDU per band."""
    images = _fits_images(data)
    if not images:
        raise DecodeError("bad_stamp", "a FITS file without an image (compressed tiles are none)")
    if len(images) == 1 and images[0].pixels.ndim == 3:
        cube = images[0].pixels
        return cube, tuple(images[0].bands[: len(cube)])
    if len({each.pixels.shape for each in images}) > 1:
        raise DecodeError("bad_stamp", "the images of the bands are of different size")
    return np.stack([each.pixels for each in images]), tuple(each.name for each in images)


@dataclass(frozen=True, slots=True)
class _FitsImage:
    name: str
    bands: str
    pixels: NDArray[Any]


def _fits_images(data: bytes) -> list[_FitsImage]:
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd headers are the survey's matter
            # Compressed tiles stay packed: a header of theirs can claim any size to expand to.
            with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
                # Each part costs time, and a part without pixels costs its sender nothing.
                return [
                    _FitsImage(
                        hdu.name.lower(),
                        str(hdu.header.get("BANDS", "".join(BANDS))),
                        np.array(hdu.data),
                    )
                    for hdu in islice(hdus, _MAX_HDUS)
                    if isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU) and np.ndim(hdu.data) >= 2
                ]
    except Exception as error:  # damaged headers make astropy raise nearly anything
        raise DecodeError("bad_stamp", f"it is not a FITS stamp ({error!r:.500})") from error
