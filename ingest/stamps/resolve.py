"""The resolver: which pixels belong to an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.errors import AddressRefused, DecodeError, NotApplicable
from ingest.events import BANDS, Event, InlineStamp, Stamp, StampAddress
from ingest.stamps import readers
from ingest.stamps.address import Fetcher
from ingest.stamps.clean import clean

if TYPE_CHECKING:
    from ingest.stamps.frames import Frames

_MAX_STAMP: Final = 16 * 1024**2


class Resolver:
    """Finds the stamp of an event: inline, at an address, or in survey frames by position.

    `allow`: prefixes of addresses that events may name; `frames`: a folder of survey frames.
    """

    def __init__(
        self,
        allow: Sequence[str] = (),
        frames: Path | None = None,
        s3: Mapping[str, Any] | None = None,
    ) -> None:
        self._fetcher = Fetcher(allow, _MAX_STAMP, s3)
        self._frames = _open_frames(frames) if frames else None

    async def resolve(self, event: Event) -> Stamp:
        """The stamp of `event`.

        Raises:
            NotApplicable: there is none, or none that the model can be asked about.
            DecodeError: what should be a stamp is none, or lies where it may not be read.
        """
        if event.not_applicable:
            raise NotApplicable(event.not_applicable, "the survey says so in the packet")
        if event.target == "host" and event.host is None:
            raise NotApplicable("no_host", "a host was asked for and none was associated")
        image, bands, origin = await self._pixels(event)
        image = clean(image, bands)
        return Stamp(image, _magnitudes(event), BANDS, origin)

    async def close(self) -> None:
        """Let go of connections."""
        await self._fetcher.close()

    async def _pixels(self, event: Event) -> tuple[NDArray[np.float32], tuple[str, ...], str]:
        stamp = event.stamp
        if isinstance(stamp, InlineStamp):
            return *readers.read(stamp.data, stamp.encoding, _MAX_STAMP), "inline"
        if isinstance(stamp, StampAddress):
            try:
                data = await self._fetcher.fetch(stamp.url)
            except AddressRefused as error:
                raise DecodeError("address_refused", str(error)) from error
            return *readers.read(data, None, _MAX_STAMP), stamp.url
        if self._frames is None:
            detail = f"a {event.survey} packet has no five-band stamp, and there are no frames"
            raise NotApplicable("no_stamp", f"{detail} to cut one from (ingest.frames)")
        at = event.host if event.target == "host" and event.host else event
        return await self._frames.cut(at.ra_deg, at.dec_deg), BANDS, "frames"


def _magnitudes(event: Event) -> NDArray[np.float32]:
    """NaN where the event brings none, or one that is no number."""
    given = np.array(event.magnitudes or [np.nan] * len(BANDS))
    # Beyond this a float32 is infinite.
    known = np.abs(given) <= np.finfo(np.float32).max
    return np.where(known, given, np.nan).astype(np.float32)


def _open_frames(folder: Path) -> Frames:
    from ingest.stamps.frames import Frames  # late: it loads astropy's WCS, and few need it

    return Frames(folder)
