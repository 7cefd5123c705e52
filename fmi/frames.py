"""Framed messages: every channel carries the same frames.

A frame is a header, a small JSON description (arrays: dtype and shape) and the payload. The
header names the run, so that bytes of an earlier run are never taken for ours, and counts
frames per direction, so that a lost or doubled one shows.

    magic 4s | run 8s | kind u8 | operation u8 | tag u16 | sequence u32
    | description length u32 | payload length u64
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, IntEnum
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fmi.errors import ProtocolError

HEADER: Final = struct.Struct("!4s8sBBHIIQ")
MAX_PAYLOAD: Final = 1 << 31
MAX_DESCRIPTION: Final = 1 << 16
MAX_TAG: Final = (1 << 16) - 1
_MAGIC: Final = b"FMI1"


class Kind(IntEnum):
    """What the payload is."""

    OBJECT = 0
    BYTES = 1
    ARRAY = 2


class Operation(IntEnum):
    """Which call a frame belongs to; both sides must agree."""

    SEND = 0
    BCAST = 1
    GATHER = 2
    BARRIER = 3
    LOST = 4


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed part of a frame."""

    run: bytes
    kind: Kind
    operation: Operation
    tag: int
    sequence: int
    description: int
    payload: int

    def pack(self) -> bytes:
        """The header's bytes."""
        return HEADER.pack(
            _MAGIC,
            self.run,
            self.kind,
            self.operation,
            self.tag,
            self.sequence,
            self.description,
            self.payload,
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Header:
        """Read a header.

        Raises:
            ProtocolError: these bytes are no header, or the frame is over the limits.
        """
        magic, run, kind, operation, tag, sequence, description, payload = HEADER.unpack(raw)
        if magic != _MAGIC or description > MAX_DESCRIPTION or payload > MAX_PAYLOAD:
            raise ProtocolError("what arrived is not a frame of this library, or over its limits")
        try:
            return cls(run, Kind(kind), Operation(operation), tag, sequence, description, payload)
        except ValueError as error:
            raise ProtocolError(f"a frame of another release arrived: {error}") from error


@dataclass(frozen=True, slots=True)
class Frame:
    """A header with what belongs to it. `payload` may be a view of the caller's array."""

    header: Header
    description: bytes
    payload: bytes | bytearray | memoryview

    def parts(self) -> tuple[bytes, bytes | bytearray | memoryview]:
        """What goes over a wire: everything small, then the payload."""
        return self.header.pack() + self.description, self.payload


def run_id(group: str) -> bytes:
    """Eight bytes that stand for a group in every header."""
    return hashlib.blake2b(group.encode(), digest_size=8).digest()


def check_tag(tag: int) -> None:
    """See that a tag fits into a header.

    Raises:
        ProtocolError: it does not.
    """
    if not 0 <= tag <= MAX_TAG:
        raise ProtocolError(f"a tag is a number from 0 to {MAX_TAG}, not {tag}")


def encode(obj: Any, run: bytes, operation: Operation, tag: int, sequence: int) -> Frame:
    """Frame an array (not copied when contiguous), bytes, or an object that JSON can hold.

    Raises:
        ProtocolError: it is none of these, would not arrive as it is, or is too large; or the
            tag is out of range.
    """
    check_tag(tag)
    description = b""
    payload: bytes | memoryview
    if isinstance(obj, np.ndarray):
        kind = Kind.ARRAY
        description, payload = _array(obj)
    elif isinstance(obj, bytes | bytearray | memoryview):
        kind, payload = Kind.BYTES, _raw(memoryview(obj))
    else:
        kind, payload = Kind.OBJECT, _json(obj)
    size = len(payload)
    if size > MAX_PAYLOAD:
        raise ProtocolError(f"a message of {size} bytes is over the limit of {MAX_PAYLOAD}")
    return Frame(
        Header(run, kind, operation, tag, sequence, len(description), size), description, payload
    )


def decode(frame: Frame) -> Any:
    """What `encode` was given; an array is a view of the received bytes.

    Raises:
        ProtocolError: description and payload do not fit together.
    """
    kind = frame.header.kind
    try:
        if kind is Kind.BYTES:
            return bytes(frame.payload)
        if kind is Kind.OBJECT:
            return orjson.loads(frame.payload)
        described = orjson.loads(frame.description)
        flat = np.frombuffer(frame.payload, dtype=np.dtype(described["dtype"]))
        return flat.reshape(described["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError(f"a message cannot be read: {error}") from error


def _array(obj: NDArray[Any]) -> tuple[bytes, memoryview]:
    """Description and bytes of an array."""
    if obj.dtype.hasobject:
        raise ProtocolError("arrays of Python objects do not travel")
    if np.dtype(obj.dtype.str) != obj.dtype:  # the name would arrive without the fields
        raise ProtocolError(
            f"arrays of type {obj.dtype} do not travel: send each field as an array of its own"
        )
    if isinstance(obj, np.ma.MaskedArray):
        raise ProtocolError("masked arrays do not travel: send data and mask")
    array = np.asarray(obj, order="C")
    description = orjson.dumps({"dtype": array.dtype.str, "shape": array.shape})
    return description, array.reshape(-1).view(np.uint8).data


def _raw(view: memoryview) -> bytes | memoryview:
    """The bytes of a view, copied only where they are not in one piece."""
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def _json(obj: Any) -> bytes:
    try:
        text = orjson.dumps(obj)
    except orjson.JSONEncodeError as error:
        raise ProtocolError(f"this object does not travel: {error}") from error
    # Only what is not finite turns into a null: most objects need not be looked through.
    if b"null" in text and _is_or_holds_not_finite(obj):
        raise ProtocolError("NaN and infinity do not travel in objects: send them in an array")
    return text


def _is_or_holds_not_finite(obj: Any) -> bool:
    if isinstance(obj, float):
        return not math.isfinite(obj)
    if isinstance(obj, dict):
        return any(map(_is_or_holds_not_finite, obj.values()))
    if isinstance(obj, list | tuple):
        return any(map(_is_or_holds_not_finite, obj))
    if isinstance(obj, Enum):
        return _is_or_holds_not_finite(obj.value)
    return is_dataclass(obj) and any(
        _is_or_holds_not_finite(getattr(obj, each.name)) for each in fields(obj)
    )
