"""The plain new-image notice: one JSON object that says a new image exists.

For surveys and pipelines without alert packets. The model below is its whole definition; the
reference is in `docs/events.md`.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from ingest.codecs.fields import INT64
from ingest.errors import DecodeError
from ingest.events import Event, Host, InlineStamp, StampAddress

Number = Annotated[float, Field(allow_inf_nan=False)]
RightAscension = Annotated[Number, Field(ge=0, lt=360)]
Declination = Annotated[Number, Field(ge=-90, le=90)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InlineImage(_Part):
    """A stamp in the notice itself: an npz or FITS file in base64."""

    encoding: Literal["npz", "fits"]
    data: str

    @classmethod
    def of_pixels(cls, image: NDArray[Any], bands: str = "ugriz") -> InlineImage:
        """Pack `image` [bands, y, x] (nanomaggies) as npz."""
        packed = io.BytesIO()
        np.savez_compressed(packed, image=image, bands=np.array(list(bands)))
        return cls(encoding="npz", data=base64.b64encode(packed.getvalue()).decode("ascii"))


class ImageAddress(_Part):
    """A stamp elsewhere: a path, `file://`, `s3://` or `https://`, on the allow list."""

    url: str


class HostGalaxy(_Part):
    """The host that the sender associated. With `target` host, frames are cut around it."""

    id: str
    ra: RightAscension
    dec: Declination
    separation_arcsec: Number | None = None
    probability: Number | None = None


class NewImage(_Part):
    """A new-image notice.

    `id` is an integer or a string, never a float: 64-bit ids do not survive as floats.
    `time` is an MJD (TAI) or an ISO 8601 text (UTC). `magnitudes` are ugriz, AB.
    """

    id: StrictInt | StrictStr
    survey: Annotated[str, Field(min_length=1)]
    ra: RightAscension
    dec: Declination
    object: str | None = None
    time: Number | str | None = None
    bands: tuple[str, ...] = ()
    magnitudes: Annotated[tuple[float, ...], Field(min_length=5, max_length=5)] | None = None
    target: Literal["source", "host"] = "source"
    host: HostGalaxy | None = None
    stamp: InlineImage | ImageAddress | None = None

    def to_bytes(self) -> bytes:
        """The notice as it travels."""
        return self.model_dump_json(exclude_none=True, exclude_defaults=True).encode()


def decode(data: bytes, revision: str) -> Event:
    """Decode a notice.

    Raises:
        DecodeError: `bad_notice`, naming the field.
    """
    try:
        notice = NewImage.model_validate_json(data)
        return _event(notice, revision)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise DecodeError("bad_notice", f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise DecodeError("bad_notice", f"{error}") from error


def _event(notice: NewImage, revision: str) -> Event:
    return Event(
        survey=notice.survey,
        alert_id=notice.id,
        ra_deg=notice.ra,
        dec_deg=notice.dec,
        revision=revision,
        object_id=notice.object,
        source_id=notice.id if isinstance(notice.id, int) and notice.id in INT64 else None,
        mjd_tai=_mjd(notice.time),
        magnitudes=notice.magnitudes,
        bands=notice.bands,
        stamp=_stamp(notice.stamp),
        host=_host(notice.host),
        target=notice.target,
    )


def _host(host: HostGalaxy | None) -> Host | None:
    if host is None:
        return None
    return Host(host.id, host.ra, host.dec, host.separation_arcsec, host.probability)


def _stamp(stamp: InlineImage | ImageAddress | None) -> InlineStamp | StampAddress | None:
    if isinstance(stamp, InlineImage):
        try:
            return InlineStamp(stamp.encoding, base64.b64decode(stamp.data, validate=True))
        except binascii.Error as error:
            raise ValueError(f"stamp.data is not base64 ({error})") from error
    return StampAddress(stamp.url) if stamp else None


def _mjd(time: float | str | None) -> float | None:
    if isinstance(time, str):
        from astropy.time import Time  # late: it loads slowly, and most notices have an MJD

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # years far from ours are the sender's matter
                return float(Time(time, scale="utc").tai.mjd)
        except Exception as error:  # what is no date makes astropy raise nearly anything
            raise ValueError(f"time: {error}") from error
    return time
