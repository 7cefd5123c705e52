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
_MEMBER: Final = b"PK\x01\x02"  # begins each entry of a zip file's list of members
_MAX_MEMBERS: Final = 64


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
    """Members of a zip file by name, together at most `limit` bytes.

    Only what numpy writes: few members, stored or deflated, not encrypted.

    Raises:
        DecodeError: `bad_stamp` or `too_large`.
    """
    # The list of members is read as a whole, so they are counted before it is.
    if data.count(_MEMBER) > _MAX_MEMBERS:
        raise DecodeError("bad_stamp", f"a zip file with more than {_MAX_MEMBERS} members")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _members(archive, limit)
    except DecodeError:
        raise
    except Exception as error:  # what is no zip file makes zipfile raise nearly anything
        raise DecodeError("bad_stamp", f"it is not a zip file ({error!r:.500})") from error


def _members(archive: zipfile.ZipFile, limit: int) -> dict[str, bytes]:
    if sum(each.file_size for each in archive.infolist()) > limit:
        raise DecodeError("too_large", f"it expands to more than {limit} bytes")
    members = {}
    for each in archive.infolist():
        if each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DecodeError("bad_stamp", f"{each.filename:.50} is neither stored nor deflated")
        # The stated size may be a lie: never read more than it.
        with archive.open(each) as member:
            members[each.filename] = member.read(each.file_size)
    return members


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
