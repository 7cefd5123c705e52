"""Alert packets in ZTF's form: ZTF itself, and its relatives DECam (DESIRT) and WINTER.

One Avro container a packet. The stamps inside are one-band and gzip-packed FITS; they are
checked, because a packet whose stamps are broken is broken, but the model needs five bands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ingest.codecs.fields import identifier, number, text
from ingest.codecs.ocf import Container
from ingest.codecs.stamps import check_gzip_fits
from ingest.errors import DecodeError
from ingest.events import Event

# TAI - UTC since 2017-01-01 (IERS Bulletin C): no packet of these surveys is older.
_TAI_UTC_DAYS: Final = 37 / 86400
_MJD_ZERO: Final = 2_400_000.5
_ASTEROID_ARCSEC: Final = 5.0
_ZTF_NAME: Final = re.compile(r"ZTF\d\d[a-z]{7}")
_WINTER_NAME: Final = re.compile(r"WNTR\d\d[a-z]+")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one survey names things. `filters`: bands by the ids in `fid`."""

    survey: str
    object_id: str
    cutouts: tuple[str, ...]
    filters: Mapping[int, str] = field(default_factory=dict)


_ZTF: Final = Dialect(
    "ZTF",
    "objectId",
    ("cutoutScience", "cutoutTemplate", "cutoutDifference"),
    {1: "g", 2: "r", 3: "i"},
)
_DECAM: Final = Dialect("DECam", "objectId", _ZTF.cutouts)
_WINTER: Final = Dialect(
    "WINTER", "objectid", ("cutout_science", "cutout_template", "cutout_difference")
)


def dialect_of(record: Mapping[str, Any]) -> Dialect | None:
    """Whose packet this is; None if nobody says.

    Brokers rename the schema and put their own name into `publisher`, but keep the survey's
    names of objects: those decide. Whoever else publishes in this form is named by `publisher`.
    """
    if "candid" not in record or not isinstance(record.get("candidate"), dict):
        return None
    publisher = record.get("publisher")
    publisher = publisher.strip() if isinstance(publisher, str) else ""
    if "objectid" in record:
        known, name = _WINTER, _WINTER_NAME
    elif publisher == "DESIRT":
        return _DECAM
    elif "objectId" in record:
        known, name = _ZTF, _ZTF_NAME
    else:
        return None
    if publisher.startswith(known.survey) or name.fullmatch(str(record[known.object_id])):
        return known
    return replace(known, survey=publisher, filters={}) if publisher else None


def event_of(
    record: Mapping[str, Any], dialect: Dialect, container: Container, revision: str
) -> Event:
    """The event that a packet announces.

    Raises:
        DecodeError: `bad_datum` or `bad_stamp`.
    """
    candidate = record["candidate"]
    for name in dialect.cutouts:
        _check_cutout(name, record.get(name))
    try:
        return Event(
            survey=dialect.survey,
            alert_id=identifier(record, "candid"),
            ra_deg=number(candidate, "ra"),
            dec_deg=number(candidate, "dec"),
            revision=revision,
            object_id=text(record, dialect.object_id),
            source_id=identifier(record, "candid"),
            mjd_tai=_mjd_tai(candidate),
            bands=_bands(candidate, dialect),
            schema_id=_schema_id(record, container),
            not_applicable="solar_system" if _is_asteroid(candidate) else None,
        )
    except ValueError as error:
        raise DecodeError("bad_datum", f"a {dialect.survey} packet: {error}") from error


def _check_cutout(name: str, cutout: Any) -> None:
    packed = cutout.get("stampData") if isinstance(cutout, dict) else cutout
    if packed is not None:
        check_gzip_fits(name, packed)


def _mjd_tai(candidate: Mapping[str, Any]) -> float | None:
    """ZTF's `jd` is UTC at the start of the exposure; DECam's `mjd` is taken as UTC, too."""
    if candidate.get("jd"):
        return number(candidate, "jd") - _MJD_ZERO + _TAI_UTC_DAYS
    return None if candidate.get("mjd") is None else number(candidate, "mjd") + _TAI_UTC_DAYS


def _bands(candidate: Mapping[str, Any], dialect: Dialect) -> tuple[str, ...]:
    if candidate.get("band"):
        return (text(candidate, "band"),)
    fid = candidate.get("fid")
    return (dialect.filters[fid],) if isinstance(fid, int) and fid in dialect.filters else ()


def _schema_id(record: Mapping[str, Any], container: Container) -> str:
    return text(record, "schemavsn") if record.get("schemavsn") else container.schema_name()


def _is_asteroid(candidate: Mapping[str, Any]) -> bool:
    """ZTF writes -999 where the nearest known asteroid is far, newer schemas null."""
    if candidate.get("ssdistnr") is None:
        return False
    return 0 <= number(candidate, "ssdistnr") < _ASTEROID_ARCSEC
