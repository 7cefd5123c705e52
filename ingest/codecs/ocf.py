"""Avro object containers: header, blocks, sync markers (Avro 1.11 specification).

Read here and not by fastavro's own reader, because that expands whatever a block says it holds,
and because a dead letter must keep an event's original bytes: `single` makes a container
of one record, with the very bytes that the record had.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from ingest.avro import next_record, schema_of
from ingest.bounded import inflate, unsnappy
from ingest.errors import DecodeError

MAGIC: Final = b"Obj\x01"
_SYNC: Final = 16
_MAX_METADATA: Final = 4 * 1024 * 1024
_MAX_CACHED: Final = 64 * 1024  # the longest schema of the surveys has 26 kB

_CODECS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "null": lambda data, _: data,
    "deflate": inflate,
    "snappy": unsnappy,
}


@dataclass(frozen=True, slots=True)
class Container:
    """A container: its schema as text, and its blocks, still packed."""

    schema: bytes
    codec: str
    sync: bytes
    blocks: bytes

    def records(self, limit: int) -> Iterator[tuple[bytes, Any]]:
        """Each record, as bytes and decoded. `limit` bounds what a block expands to.

        Raises:
            DecodeError: as soon as something is wrong; what came before was good.
        """
        schema = _schema(self.schema)
        for count, block in self._expanded(limit):
            stream = io.BytesIO(block)
            for _ in range(count):
                start = stream.tell()
                record = next_record(stream, schema)
                if stream.tell() == start and count > 1:
                    raise DecodeError("bad_datum", "a block holds many records of no bytes")
                yield block[start : stream.tell()], record

    def schema_name(self) -> str:
        """Full name of the record.

        Raises:
            DecodeError: `bad_schema`.
        """
        return str(_schema(self.schema)["name"])

    def count(self) -> int:
        """How many records the blocks say they hold, without unpacking them.

        Raises:
            DecodeError: `truncated` or `bad_sync`.
        """
        return sum(count for count, _ in self._packed())

    def _expanded(self, limit: int) -> Iterator[tuple[int, bytes]]:
        expand = _CODECS.get(self.codec)
        if expand is None:
            raise DecodeError("unknown_format", f"Avro codec {self.codec!r} is not supported")
        for count, packed in self._packed():
            if len(packed) > limit:
                raise DecodeError("too_large", f"a block of {len(packed)} bytes, limit {limit}")
            if count:  # an empty block expands to nothing that is wanted
                yield count, expand(packed, limit)

    def _packed(self) -> Iterator[tuple[int, bytes]]:
        stream = io.BytesIO(self.blocks)
        while stream.tell() < len(self.blocks):
            count, size = _long(stream), _long(stream)
            if count < 0 or not 0 <= size <= len(self.blocks) - stream.tell():
                raise DecodeError("truncated", "a block is longer than the file")
            packed = stream.read(size)
            if stream.read(_SYNC) != self.sync:
                raise DecodeError("bad_sync", "the sync marker behind a block is missing")
            yield count, packed


def read(data: bytes) -> Container:
    """Read the header.

    Raises:
        DecodeError: `not_avro` or `truncated`.
    """
    if not data.startswith(MAGIC):
        raise DecodeError("not_avro", "it does not begin as an Avro container does")
    stream = io.BytesIO(data)
    stream.seek(len(MAGIC))
    metadata = _metadata(stream)
    sync = stream.read(_SYNC)
    if len(sync) < _SYNC or b"avro.schema" not in metadata:
        raise DecodeError("truncated", "the header of an Avro container is cut off")
    codec = metadata.get(b"avro.codec", b"null").decode("ascii", "replace")
    return Container(metadata[b"avro.schema"], codec, sync, data[stream.tell() :])


def single(container: Container, datum: bytes) -> bytes:
    """A container that holds one record, unpacked: its bytes are `datum`."""
    header = (
        MAGIC
        + _encoded(2)
        + b"".join(
            _encoded(len(part)) + part
            for part in (b"avro.schema", container.schema, b"avro.codec", b"null")
        )
        + _encoded(0)
    )
    block = _encoded(1) + _encoded(len(datum)) + datum
    return header + container.sync + block + container.sync


@lru_cache(maxsize=64)
def _cached(text: bytes) -> Any:
    return schema_of(text)


def _schema(text: bytes) -> Any:
    """A writer schema. A night has a few of them and millions of packets.

    Raises:
        DecodeError: `bad_schema`.
    """
    # A schema takes fifty times its text in memory, so long ones are not kept.
    return _cached(text) if len(text) <= _MAX_CACHED else schema_of(text)


def _metadata(stream: io.BytesIO) -> dict[bytes, bytes]:
    metadata: dict[bytes, bytes] = {}
    while count := _long(stream):
        if count < 0:
            _long(stream)  # size of the part in bytes, for readers that pass it over
            count = -count
        if count > 1000:
            raise DecodeError("truncated", "the header of an Avro container is damaged")
        for _ in range(count):
            key = _bytes(stream)
            metadata[key] = _bytes(stream)
    return metadata


def _bytes(stream: io.BytesIO) -> bytes:
    size = _long(stream)
    if not 0 <= size <= _MAX_METADATA:
        raise DecodeError("truncated", "the header of an Avro container is damaged")
    data = stream.read(size)
    if len(data) < size:
        raise DecodeError("truncated", "the header of an Avro container is cut off")
    return data


def _long(stream: io.BytesIO) -> int:
    """A zig-zag varint."""
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise DecodeError("truncated", "an Avro container is cut off")
        value |= (byte[0] & 0x7F) << shift
        if not byte[0] & 0x80:
            return (value >> 1) ^ -(value & 1)
    raise DecodeError("truncated", "an Avro container is damaged")


def _encoded(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
