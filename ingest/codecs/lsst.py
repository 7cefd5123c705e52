"""LSST alert packets: Confluent framing around an Avro record, schema named by number.

Wire: a zero byte, the schema id (four bytes, big-endian, major * 100 + minor), the record. The
stamps inside are one-band, 30x30 pixels, plain FITS, and may be null.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

from ingest.avro import next_record
from ingest.codecs.fields import identifier, number, part, text
from ingest.codecs.stamps import check_fits
from ingest.errors import DecodeError
from ingest.events import Event
from ingest.schemas import Schemas

MAGIC: Final = b"\x00"
_HEADER: Final = 5
_CUTOUTS: Final = ("cutoutDifference", "cutoutScience", "cutoutTemplate")


async def decode(data: bytes, schemas: Schemas, revision: str) -> Event:
    """Decode one message.

    Raises:
        DecodeError: `truncated`, `unknown_schema`, `bad_datum` or `bad_stamp`.
    """
    if len(data) <= _HEADER:
        raise DecodeError("truncated", f"a framed message of {len(data)} bytes holds no record")
    schema_id = int.from_bytes(data[1:_HEADER], "big")
    schema = await schemas.get(schema_id)
    stream = io.BytesIO(data)
    stream.seek(_HEADER)
    record = next_record(stream, schema)
    if stream.tell() != len(data):
        raise DecodeError("bad_datum", f"{len(data) - stream.tell()} bytes are left over")
    for name in _CUTOUTS:
        if record.get(name) is not None:
            check_fits(name, record[name])
    return _event(record, schema_id, revision)


def _event(record: Mapping[str, Any], schema_id: int, revision: str) -> Event:
    source = part(record, "diaSource")
    # `alertId` until version 7, the same number as `diaSourceId` since.
    alert_id = identifier(record, "diaSourceId" if "diaSourceId" in record else "alertId")
    try:
        return Event(
            survey="LSST",
            alert_id=alert_id,
            ra_deg=number(source, "ra"),
            dec_deg=number(source, "dec"),
            revision=revision,
            object_id=text(source, "diaObjectId") if source.get("diaObjectId") else None,
            source_id=identifier(source, "diaSourceId"),
            mjd_tai=number(source, "midpointMjdTai"),
            bands=(text(source, "band"),) if source.get("band") else (),
            schema_id=str(schema_id),
            not_applicable="solar_system" if source.get("ssObjectId") else None,
        )
    except ValueError as error:
        raise DecodeError("bad_datum", f"an LSST packet: {error}") from error
