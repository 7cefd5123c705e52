"""Results as Avro: the schema, made from the record model, and the encoder."""

from __future__ import annotations

import io
import struct
from typing import Any, Final

import fastavro

from sinks import schema
from sinks.record import SCHEMA_VERSION, ResultRecord

NAMESPACE: Final = "lookback.result"

_TYPE: Final = {str: "string", int: "long", float: "double"}


def avro_schema() -> dict[str, Any]:
    """The record as an Avro schema.

    Integers are `long` and never `double`, so that no id is rounded. A field that may be null has
    null first and as its default, so that a reader of this version reads what an older one wrote.
    Each field says what it is (`doc`, `unit`, `ucd`).
    """
    return {
        "type": "record",
        "name": "Result",
        "namespace": NAMESPACE,
        "doc": "One answered event: a redshift, or the reason why there is none.",
        "lookback_schema_version": SCHEMA_VERSION,
        "fields": [_field(each) for each in schema.meanings()],
    }


def _field(of: schema.Meaning) -> dict[str, Any]:
    plain = _TYPE[of.kind]
    kind = {"type": ["null", plain], "default": None} if of.nullable else {"type": plain}
    return {"name": of.name, **kind, "doc": of.description, "unit": of.unit, "ucd": of.ucd}


_PARSED: Final = fastavro.parse_schema(avro_schema())


def encode(record: ResultRecord) -> bytes:
    """The record in Avro's binary form, without a header: the reader has to know the schema."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, _PARSED, record.__dict__)
    return body.getvalue()


def prefix(schema_id: int) -> bytes:
    """What stands before each value, as Confluent and LSST do: a zero, and the schema's number."""
    return struct.pack(">bI", 0, schema_id)
