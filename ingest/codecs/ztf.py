"""Alert packets in ZTF's form: ZTF itself, and its relatives DECam (DESIRT) and WINTER.

One Avro container a packet. The stamps inside are one-band and gzip-packed FITS; they are
checked, because a packet whose stamps are broken is broken, but the model needs five bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ingest.codecs.ocf import Container
from ingest.codecs.stamps import check_gzip_fits
from ingest.errors import DecodeError
from ingest.events import Event

# TAI - UTC since 2017-01-01 (IERS Bulletin C): no packet of these surveys is older.
_TAI_UTC_DAYS: Final = 37 / 86400
_MJD_ZERO: Final = 2_400_000.5
_ASTEROID_ARCSEC: Final = 5.0
_BANDS: Final = {1: "g", 2: "r", 3: "i"}  # ZTF's filter ids


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one survey names things."""

    survey: str
    object_id: str
    cutouts: tuple[str, ...]


_ZTF: Final = Dialect("ZTF", "objectId", ("cutoutScience", "cutoutTemplate", "cutoutDifference"))
_DECAM: Final = Dialect("DECam", "objectId", _ZTF.cutouts)
_WINTER: Final = Dialect(
    "WINTER", "objectid", ("cutout_science", "cutout_template", "cutout_difference")
)


def dialect_of(record: Mapping[str, Any]) -> Dialect | None:
    """Whose packet this is; None if nobody's that we know.

    Brokers rename the schema when they add fields, so the fields decide and not its name.
    """
    if "candid" not in record or not isinstance(record.get("candidate"), dict):
        return None
    if "objectid" in record:
        return _WINTER
    if "objectId" in record:
        return _DECAM if record.get("publisher") == "DESIRT" else _ZTF
    return None


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
            alert_id=int(record["candid"]),
            ra_deg=float(candidate["ra"]),
            dec_deg=float(candidate["dec"]),
            revision=revision,
            object_id=str(record[dialect.object_id]),
            source_id=int(record["candid"]),
            mjd_tai=_mjd_tai(candidate),
            bands=_bands(candidate),
            schema_id=str(record.get("schemavsn") or container.schema_name()),
            not_applicable="solar_system" if _is_asteroid(candidate) else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(
            "bad_datum", f"a {dialect.survey} packet without what every one has ({error!r})"
        ) from error


def _check_cutout(name: str, cutout: Any) -> None:
    packed = cutout.get("stampData") if isinstance(cutout, dict) else cutout
    if packed is not None:
        check_gzip_fits(name, packed)


def _mjd_tai(candidate: Mapping[str, Any]) -> float | None:
    """ZTF's `jd` is UTC at the start of the exposure; DECam's `mjd` is taken as UTC, too."""
    utc = candidate["jd"] - _MJD_ZERO if candidate.get("jd") else candidate.get("mjd")
    return None if utc is None else float(utc) + _TAI_UTC_DAYS


def _bands(candidate: Mapping[str, Any]) -> tuple[str, ...]:
    band = candidate.get("band") or _BANDS.get(candidate.get("fid", 0))
    return (band,) if band else ()


def _is_asteroid(candidate: Mapping[str, Any]) -> bool:
    """ZTF writes -999 where the nearest known asteroid is far, newer schemas null."""
    distance = candidate.get("ssdistnr")
    return distance is not None and 0 <= distance < _ASTEROID_ARCSEC
