"""Fields of alert packets: what a codec takes out of a record, and only if it is what it should be.

A packet brings its own schema, so a field of the right name can hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ingest.errors import DecodeError

INT64: Final = range(-(2**63), 2**63)
"""What an id may be: results keep ids as 64-bit integers."""


def identifier(record: Mapping[str, Any], name: str) -> int:
    """A 64-bit id. Never a float: ids exceed 2**53 and do not survive as one.

    Raises:
        DecodeError: `bad_datum`.
    """
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value not in INT64:
        raise _wrong(name, value, "a 64-bit integer")
    return value


def number(record: Mapping[str, Any], name: str) -> float:
    """A number, which may be NaN or infinite; raises as `identifier`."""
    value = record.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(name, value, "a number")
    return float(value)


def text(record: Mapping[str, Any], name: str) -> str:
    """A text, or an integer as text; raises as `identifier`."""
    value = record.get(name)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise _wrong(name, value, "a text")
    return str(value)


def part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A record inside the record; raises as `identifier`."""
    value = record.get(name)
    if not isinstance(value, dict):
        raise _wrong(name, value, "a record")
    return value


def _wrong(name: str, value: object, wanted: str) -> DecodeError:
    found = type(value).__name__ if isinstance(value, str | bytes | dict | list) else repr(value)
    return DecodeError("bad_datum", f"{name} should be {wanted} and is {found:.80}")
