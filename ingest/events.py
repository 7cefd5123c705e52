"""The nouns that travel from a source to the model: position, delivery, event, stamp."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BANDS: Final = ("u", "g", "r", "i", "z")
"""Bands of a stamp, in the order of its first axis (SDSS ugriz)."""

STAMP_SIZE: Final = 32
"""Side of a stamp in pixels (0.396 arcsec each, as SDSS drew them)."""

PIXEL_SCALE_ARCSEC: Final = 0.396


class Partition(NamedTuple):
    """A part of a source that is counted by itself: a file, a Kafka topic's partition, a queue."""

    source: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"


class Position(NamedTuple):
    """Where an event stands in its source: offset `offset` of partition `partition`.

    Offsets are 64-bit and non-negative, and mean the same event in every run. In a source with
    order they are strictly increasing; in one without, they are made from the event's identity.
    """

    source: str
    partition: str
    offset: int

    @property
    def home(self) -> Partition:
        """The partition that it is in."""
        return Partition(self.source, self.partition)

    def __str__(self) -> str:
        return f"{self.source}:{self.partition}:{self.offset}"


class Delivery(NamedTuple):
    """The bytes of one event, its position, and the duty to settle it exactly once.

    `body` is what the survey sent, untouched: dead letters keep it. `received` is the
    wall-clock time (unix seconds) at which the source handed it over.
    """

    position: Position
    body: bytes
    received: float
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class InlineStamp:
    """A stamp carried in the event: `data` is an npz or FITS file named by `encoding`."""

    encoding: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StampAddress:
    """A stamp that lies elsewhere: a file path, `file://`, `s3://` or `https://` address."""

    url: str


@dataclass(frozen=True, slots=True)
class Host:
    """The host galaxy a survey associated with a source."""

    id: str
    ra_deg: float
    dec_deg: float
    separation_arcsec: float | None = None
    probability: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the position is not on the sky."""
        _check_position(self.ra_deg, self.dec_deg)


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded event, the same for every survey.

    Ids are integers (or strings, where a survey uses names) and never floats: they
    exceed 2**53. `magnitudes` are the survey's own ugriz magnitudes (AB), where it sends
    them. `revision` names the content, so that a corrected packet of the same alert is
    a new item. `not_applicable` is set where the packet itself already says that no
    redshift can be asked for (a solar-system object, say). A position that is not on the sky is
    a ValueError: codecs say with which reason.
    """

    survey: str
    alert_id: int | str
    ra_deg: float
    dec_deg: float
    revision: str
    object_id: str | None = None
    source_id: int | None = None
    mjd_tai: float | None = None
    magnitudes: tuple[float, ...] | None = None
    bands: tuple[str, ...] = ()
    stamp: InlineStamp | StampAddress | None = None
    host: Host | None = None
    target: str = "source"
    schema_id: str | None = None
    not_applicable: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the position is not on the sky."""
        _check_position(self.ra_deg, self.dec_deg)

    def key(self, model: str) -> str:
        """Result key (32 hex digits): the same event under the same model, always the same.

        `model` is the model's name with its weights hash.
        """
        text = "\x1f".join((self.survey, str(self.alert_id), self.revision, model))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Stamp:
    """Five-band image around one sky position, and its magnitudes.

    `image`: float32 [5, 32, 32], bands ugriz, nanomaggies. `magnitudes`: float32 [5],
    NaN where the event brings none.
    `bands_used`: the bands that were really observed. `origin`: where the pixels came
    from (inline, an address, or survey frames).
    """

    image: NDArray[np.float32]
    magnitudes: NDArray[np.float32]
    bands_used: tuple[str, ...]
    origin: str


def _check_position(ra_deg: float, dec_deg: float) -> None:
    # Written so that NaN fails, too.
    if not (0 <= ra_deg < 360 and -90 <= dec_deg <= 90):
        raise ValueError(f"ra {ra_deg} dec {dec_deg} is not on the sky")
