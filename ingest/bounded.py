"""Expanding what came from outside, with a hard limit on what comes out.

Compression ratios of a thousand are easy to make: ten gigabytes fit into ten megabytes. Nothing
here ever allocates more than its limit.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Final

import cramjam

from ingest.errors import DecodeError

_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


def gunzip(data: bytes, limit: int) -> bytes:
    """Expand gzip data to at most `limit` bytes.

    Raises:
        DecodeError: `too_large`, or `truncated` when it is cut off or is not gzip.
    """
    return _inflate(data, limit, _GZIP)


def inflate(data: bytes, limit: int) -> bytes:
    """Expand raw deflate data (Avro's codec) to at most `limit` bytes; raises as `gunzip`."""
    return _inflate(data, limit, _RAW)


def gunzip_head(data: bytes, count: int) -> bytes:
    """The first `count` bytes (or fewer) of gzip data; raises as `gunzip`."""
    try:
        return zlib.decompressobj(_GZIP).decompress(data, count)
    except zlib.error as error:
        raise DecodeError("truncated", f"compressed data is damaged ({error})") from error


def unsnappy(data: bytes, limit: int) -> bytes:
    """Expand raw snappy data (Avro's codec: a CRC of four bytes follows it).

    Raises:
        DecodeError: `too_large` or `truncated`.
    """
    length = _varint(data)
    if length > limit:
        raise DecodeError("too_large", f"a block expands to {length} bytes, the limit is {limit}")
    try:
        expanded = bytes(cramjam.snappy.decompress_raw(data[:-4]))
    except cramjam.DecompressionError as error:
        raise DecodeError("truncated", f"compressed data is damaged ({error})") from error
    if zlib.crc32(expanded) != int.from_bytes(data[-4:], "big"):
        raise DecodeError("truncated", "a snappy block does not match its checksum")
    return expanded


def unzip(data: bytes, limit: int) -> dict[str, bytes]:
    """Members of a zip file by name, together at most `limit` bytes; raises as `gunzip`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(each.file_size for each in archive.infolist()) > limit:
                raise DecodeError("too_large", f"it expands to more than {limit} bytes")
            members = {}
            for each in archive.infolist():
                # The stated size may be a lie: never read more than it.
                with archive.open(each) as member:
                    members[each.filename] = member.read(each.file_size)
            return members
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DecodeError("bad_stamp", f"it is not a zip file ({error})") from error


def _inflate(data: bytes, limit: int, wbits: int) -> bytes:
    stream = zlib.decompressobj(wbits)
    try:
        expanded = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise DecodeError("truncated", f"compressed data is damaged ({error})") from error
    if len(expanded) > limit:
        raise DecodeError("too_large", f"it expands to more than {limit} bytes")
    if not stream.eof:
        raise DecodeError("truncated", "compressed data is cut off")
    return expanded


def _varint(data: bytes) -> int:
    value = 0
    for shift, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * shift)
        if not byte & 0x80:
            return value
    raise DecodeError("truncated", "a snappy block has no length")
