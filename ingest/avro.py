"""Avro schemas and records from outside, bounded before anything is read with them.

A schema is a program for the reader: one that refers to itself recurses without end, and one
whose types take no bytes makes billions of values of nothing. So each schema is weighed first.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import fastavro
import orjson

from ingest.errors import DecodeError

MAX_DEPTH: Final = 64
"""Deepest nesting of types, counted through names."""

_MAX_FREE: Final = 10_000
_PER_BYTE: Final = 4
"""A record of n bytes may hold 4 n + 10,000 values; what surveys send holds fewer than 2 n."""

_MAX_JSON_DEPTH: Final = 4 * MAX_DEPTH  # a record's field lies three levels below the record
_TYPES: Final = frozenset({"record", "error", "enum", "fixed", "array", "map", "union"})


def schema_of(text: bytes | str) -> Any:
    """A writer schema from its JSON text, ready for `next_record`.

    Raises:
        DecodeError: `bad_schema`.
    """
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DecodeError("bad_schema", f"the schema is not JSON ({error})") from error
    return parsed(raw)


def parsed(raw: Any) -> Any:
    """A writer schema from its JSON values; raises as `schema_of`."""
    plain = _plain(raw, 0)
    try:
        schema = fastavro.parse_schema(plain)
    except Exception as error:  # what is no schema makes fastavro raise nearly anything
        raise DecodeError("bad_schema", f"the schema cannot be read ({error!r:.500})") from error
    return checked(schema)


def checked(schema: Any) -> Any:
    """A schema that fastavro has parsed, if it is safe to read with; raises as `schema_of`."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise DecodeError("bad_schema", "the schema is not that of a record")
    if _Scales().weigh(schema, 0).peak > _MAX_FREE:
        raise DecodeError("bad_schema", "the schema holds too much that takes no bytes")
    return schema


def next_record(stream: io.BytesIO, schema: Any) -> dict[str, Any]:
    """Decode the next record of a stream with a schema from here.

    Raises:
        DecodeError: `bad_datum`: the bytes are not what the schema says.
    """
    try:
        record: Any = fastavro.schemaless_reader(stream, schema)
    except Exception as error:  # bytes that are no record make fastavro raise nearly anything
        raise DecodeError("bad_datum", f"it does not fit its schema ({error!r:.500})") from error
    if not isinstance(record, dict):
        raise DecodeError("bad_datum", "it is no record")
    return record


def _plain(raw: Any, depth: int) -> Any:
    """`raw` without what would change how it is read.

    fastavro believes keys of its own in a schema, and makes dates and decimals of whatever size
    a logical type says. No field that is read here needs either.
    """
    if depth > _MAX_JSON_DEPTH:
        raise DecodeError("bad_schema", f"the schema is nested more than {MAX_DEPTH} deep")
    if isinstance(raw, dict):
        return {
            key: _plain(value, depth + 1)
            for key, value in raw.items()
            if key != "logicalType" and not key.startswith("__")
        }
    return [_plain(each, depth + 1) for each in raw] if isinstance(raw, list) else raw


@dataclass(frozen=True, slots=True)
class _Weight:
    """What reading a type can make beyond what its bytes pay for, and how deep it is.

    `net`: values less `_PER_BYTE` for each byte, at worst, when all is read; `peak`: at most,
    on the way there.
    """

    net: int
    peak: int
    depth: int


_NOTHING: Final = _Weight(1, 1, 1)
_SOMETHING: Final = _Weight(1 - _PER_BYTE, 1, 1)


class _Scales:
    """Weighs types. A name is weighed once, and is open while what lies in it is weighed."""

    def __init__(self) -> None:
        self._named: dict[str, _Weight | None] = {}

    def weigh(self, schema: Any, above: int) -> _Weight:
        """Weigh a type that lies `above` levels deep.

        Raises:
            DecodeError: `bad_schema`: recursive, too deep, or an array of nothing.
        """
        weight = self._weigh(schema, above)
        if above + weight.depth > MAX_DEPTH:
            raise DecodeError("bad_schema", f"the schema is nested more than {MAX_DEPTH} deep")
        return weight

    def _weigh(self, schema: Any, above: int) -> _Weight:
        if above >= MAX_DEPTH:
            raise DecodeError("bad_schema", f"the schema is nested more than {MAX_DEPTH} deep")
        if isinstance(schema, list):
            return _one_of([self.weigh(each, above + 1) for each in schema])
        if isinstance(schema, str):
            return self._reference(schema)
        match schema["type"]:
            case "array":
                return _many_of(self.weigh(schema["items"], above + 1))
            case "map":
                return _many_of(_all_of([_SOMETHING, self.weigh(schema["values"], above + 1)]))
            case "record" | "error" | "fixed" | "enum":
                return self._definition(schema, above)
            case primitive:
                return self._reference(primitive)

    def _reference(self, name: str) -> _Weight:
        if name not in self._named:
            return _NOTHING if name == "null" else _SOMETHING
        weight = self._named[name]
        if weight is None:
            raise DecodeError("bad_schema", f"the schema is recursive: {name} holds itself")
        return weight

    def _definition(self, schema: Any, above: int) -> _Weight:
        name = schema["name"]
        if name in _TYPES:
            raise DecodeError("bad_schema", f"the schema gives {name} another meaning")
        self._named[name] = None
        match schema["type"]:
            case "fixed":
                weight = _fixed(schema["size"])
            case "enum":
                weight = _SOMETHING
            case _:
                fields = [self.weigh(each["type"], above + 1) for each in schema["fields"]]
                weight = _all_of(fields)
        self._named[name] = weight
        return weight


def _fixed(size: Any) -> _Weight:
    if not isinstance(size, int) or size < 0:
        raise DecodeError("bad_schema", f"the schema has a fixed of size {size!r:.50}")
    return _Weight(1 - _PER_BYTE * size, 1, 1)


def _all_of(parts: Sequence[_Weight]) -> _Weight:
    net = peak = 1  # the record itself
    for part in parts:
        peak = max(peak, net + part.peak)
        net += part.net
    return _Weight(net, peak, 1 + max((part.depth for part in parts), default=0))


def _one_of(parts: Sequence[_Weight]) -> _Weight:
    net = max((part.net for part in parts), default=0) - _PER_BYTE  # the byte says which
    peak = max((part.peak for part in parts), default=0)
    return _Weight(net, peak, 1 + max((part.depth for part in parts), default=0))


def _many_of(item: _Weight) -> _Weight:
    if item.net > 0:
        raise DecodeError("bad_schema", "the schema has an array of nothing")
    return _Weight(1 - _PER_BYTE, 1 + item.peak, 1 + item.depth)
