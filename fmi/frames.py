"""Framed messages: every channel carries the same frames.

A frame is a header, a description (arrays: dtype and shape) and the payload. The header names
the run, so that bytes of an earlier run are never taken for ours; the communicator and the call
that it belongs to, so that ranks which run different programs notice; and it counts the frames
of each direction, so that a lost or doubled one shows. Integers are big-endian.

    magic 4s | run 8s | context u32 | operation u8 | kind u8 | source u16 | tag u32 | number u32
    | sequence u32 | description length u32 | payload length u64
"""

from __future__ import annotations

import hashlib
import math
import struct
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from fmi.errors import ProtocolError

HEADER: Final = struct.Struct("!4s8sIBBHIIIIQ")
MAGIC: Final = b"FMI2"
MAX_PAYLOAD: Final = 1 << 40
MAX_DESCRIPTION: Final = 1 << 16
MAX_TAG: Final = (1 << 31) - 1

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What the payload is."""

    OBJECT = 0
    BYTES = 1
    ARRAY = 2


_OBJECT: Final = int(Kind.OBJECT)  # plain numbers where every message passes
_BYTES: Final = int(Kind.BYTES)
_ARRAY: Final = int(Kind.ARRAY)


class Operation(IntEnum):
    """Which call a frame belongs to; both sides must agree."""

    SEND = 0
    BCAST = 1
    SCATTER = 2
    GATHER = 3
    ALLGATHER = 4
    ALLTOALL = 5
    REDUCE = 6
    ALLREDUCE = 7
    REDUCE_SCATTER = 8
    SCAN = 9
    EXSCAN = 10
    BARRIER = 11
    SPLIT = 12
    SURVIVORS = 13
    # What follows is about the group itself, and is taken in whatever the rank is waiting for.
    FAILED = 32
    SHRINK = 33
    LEAVE = 34
    BEAT = 35


class Header(NamedTuple):
    """The fixed part of a frame."""

    magic: bytes
    run: bytes
    context: int
    operation: int
    kind: int
    source: int
    tag: int
    number: int
    sequence: int
    description: int
    payload: int

    def pack(self) -> bytes:
        """The header's bytes."""
        return HEADER.pack(*self)


def read_header(raw: Buffer, offset: int = 0) -> Header:
    """The header at `offset`.

    Raises:
        ProtocolError: these bytes are no header, or the frame is over the limits.
    """
    header = tuple.__new__(Header, HEADER.unpack_from(raw, offset))
    if (
        header.magic != MAGIC
        or header.description > MAX_DESCRIPTION
        or header.payload > MAX_PAYLOAD
    ):
        raise ProtocolError("what arrived is not a frame of this release, or over its limits")
    return header


def run_id(*parts: str | bytes) -> bytes:
    """Eight bytes that stand for one run of a group in every header."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


def check_tag(tag: int) -> None:
    """See that a tag fits into a header.

    Raises:
        ProtocolError: it does not.
    """
    if not 0 <= tag <= MAX_TAG:
        raise ProtocolError(f"a tag is a number from 0 to {MAX_TAG}, not {tag}")


class Encoded(NamedTuple):
    """An object as it travels. `payload` may be a view of the caller's array."""

    kind: int
    description: bytes
    payload: Buffer


_DESCRIPTIONS: dict[tuple[np.dtype[Any], tuple[int, ...]], bytes] = {}
_DESCRIBED: dict[bytes, tuple[np.dtype[Any], tuple[int, ...], int]] = {}
_REMEMBERED: Final = 4096  # shapes; a program has few, and more cost only their time


def encode(obj: Any) -> Encoded:
    """An array (not copied when contiguous), bytes, or an object that msgpack can hold.

    Raises:
        ProtocolError: it is none of these, or would not arrive as it is.
    """
    if isinstance(obj, np.ndarray):
        description = _DESCRIPTIONS.get((obj.dtype, obj.shape))
        if description is not None and type(obj) is np.ndarray and obj.flags.c_contiguous:
            return tuple.__new__(Encoded, (_ARRAY, description, bytes_of(obj)))
        return _encode_array(obj)
    if isinstance(obj, bytes):
        return tuple.__new__(Encoded, (_BYTES, b"", obj))
    if isinstance(obj, bytearray | memoryview):
        view = memoryview(obj)
        in_one_piece = view.c_contiguous and view.nbytes
        return Encoded(Kind.BYTES, b"", view.cast("B") if in_one_piece else view.tobytes())
    return Encoded(Kind.OBJECT, b"", _pack(obj))


def decode(kind: int, description: bytes, payload: Buffer) -> Any:
    """What `encode` was given; an array is a view of the received bytes.

    Raises:
        ProtocolError: description and payload do not fit together.
    """
    try:
        if kind == _ARRAY:
            dtype, shape, size = described(description)
            if len(payload) == size:
                return np.ndarray(shape, dtype, payload)
            kind = -1
        if kind == _BYTES:
            return bytes(payload)
        if kind != _OBJECT:
            raise ProtocolError(f"{len(payload)} bytes came that are not what they say to be")
        return msgpack.unpackb(payload, ext_hook=_read_array, strict_map_key=False)
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise ProtocolError(f"a message cannot be read: {error}") from error


def describe(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Dtype and shape as they travel."""
    known = _DESCRIPTIONS.get((dtype, shape))
    if known is None:
        known = bytes(msgpack.packb((dtype.str, shape)))
        if len(_DESCRIPTIONS) < _REMEMBERED:
            _DESCRIPTIONS[dtype, shape] = known
    return known


def described(description: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Dtype, shape and bytes of a described array.

    Raises:
        ValueError: there is no such array.
    """
    known = _DESCRIBED.get(description)
    if known is None:
        name, shape = msgpack.unpackb(description)
        dtype, shape = np.dtype(name), tuple(shape)
        if dtype.hasobject or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"an array of {dtype}, shape {shape}")
        known = dtype, shape, dtype.itemsize * math.prod(shape)
        if len(_DESCRIBED) < _REMEMBERED:
            _DESCRIBED[description] = known
    return known


def _encode_array(obj: NDArray[Any]) -> Encoded:
    if obj.dtype.hasobject:
        raise ProtocolError("arrays of Python objects do not travel")
    if obj.dtype.names or np.dtype(obj.dtype.str) != obj.dtype:
        # the name would arrive without the fields
        raise ProtocolError(
            f"arrays of type {obj.dtype} do not travel: send each field as an array of its own"
        )
    if isinstance(obj, np.ma.MaskedArray):
        raise ProtocolError("masked arrays do not travel: send data and mask")
    array = np.asarray(obj, order="C")
    return Encoded(Kind.ARRAY, describe(array.dtype, array.shape), bytes_of(array))


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    try:
        return memoryview(array).cast("B")  # type: ignore[arg-type]
    except (TypeError, ValueError):  # empty, or of a type that Python's buffers do not know
        return array.reshape(-1).view(np.uint8).data


def empty_view(size: int) -> memoryview:
    """Memory for `size` bytes, not cleared."""
    return np.empty(size, np.uint8).data


_ARRAY_IN_OBJECT: Final = 1


def _pack(obj: Any) -> bytes:
    try:
        return bytes(msgpack.packb(obj, default=_pack_other))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"this object does not travel: {error}") from error


def _pack_other(obj: Any) -> Any:
    if isinstance(obj, np.ndarray):
        encoded = _encode_array(obj)
        return msgpack.ExtType(
            _ARRAY_IN_OBJECT, msgpack.packb((encoded.description, bytes(encoded.payload)))
        )
    if isinstance(obj, np.generic):
        return obj.item()
    raise TypeError(f"{type(obj).__name__} is neither data nor an array")


def _read_array(code: int, raw: bytes) -> Any:
    if code != _ARRAY_IN_OBJECT:
        raise ValueError(f"an extension {code} of another release")
    description, payload = msgpack.unpackb(raw)
    return decode(Kind.ARRAY, description, bytearray(payload))


def beat_head(run: bytes, source: int, note: bytes) -> bytes:
    """The header of a beat: a sign of life outside of the order of messages."""
    return HEADER.pack(MAGIC, run, 0, Operation.BEAT, Kind.BYTES, source, 0, 0, 0, 0, len(note))
