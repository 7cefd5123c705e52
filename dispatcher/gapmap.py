"""The gap map: which offsets above the watermark are already settled, in a short string.

A commit says "everything below the watermark is done". Work above it that finished out of
order would be redone after a restart, so its offsets ride along, relative to the watermark,
as a bit set or as run lengths, whichever is shorter: a few hundred scattered offsets fit
into the 4,096 bytes that a Kafka broker keeps per commit.

Form: base64 of one format byte and a body. "B": bits, most significant first, bit i =
offset `watermark + i` is settled. "R": varints, lengths of alternating runs, open first.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator

MAX_BYTES = 4096
"""What a broker keeps per commit (`offset.metadata.max.bytes`)."""


class GapMapError(ValueError):
    """A stored gap map cannot be read."""


def encode(watermark: int, settled: Collection[int]) -> str:
    """Encode the offsets `settled`, all at or above `watermark`; "" when there are none."""
    if not settled:
        return ""
    relative = sorted(offset - watermark for offset in settled)
    if relative[0] < 0:
        raise GapMapError(f"offset {relative[0] + watermark} is below the watermark {watermark}")
    runs = b"R" + b"".join(_varint(length) for length in _run_lengths(relative))
    # A bit set of a wide span is large; do not even build one that cannot win.
    bits = b"B" + _bit_set(relative) if relative[-1] // 8 < len(runs) else runs
    return base64.b64encode(min(runs, bits, key=len)).decode("ascii")


def decode(watermark: int, text: str) -> set[int]:
    """Offsets that `encode` was given.

    Raises:
        GapMapError: the text is not a gap map.
    """
    if not text:
        return set()
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise GapMapError(f"a gap map is not base64: {error}") from error
    kind, body = raw[:1], raw[1:]
    if kind == b"B":
        return {watermark + 8 * i + j for i, byte in enumerate(body) for j in _set_bits(byte)}
    if kind == b"R":
        return set(_settled_of_runs(watermark, body))
    raise GapMapError(f"a gap map has the unknown format {kind!r}")


def _set_bits(byte: int) -> Iterator[int]:
    return (j for j in range(8) if byte & (0x80 >> j))


def _bit_set(relative: list[int]) -> bytes:
    bits = bytearray(relative[-1] // 8 + 1)
    for offset in relative:
        bits[offset // 8] |= 0x80 >> (offset % 8)
    return bytes(bits)


def _run_lengths(relative: list[int]) -> Iterator[int]:
    end = 0  # first offset that is not yet described
    start = relative[0]
    previous = start - 1
    for offset in relative:
        if offset != previous + 1:
            yield start - end
            yield previous + 1 - start
            start, end = offset, previous + 1
        previous = offset
    yield start - end
    yield previous + 1 - start


def _settled_of_runs(watermark: int, body: bytes) -> Iterator[int]:
    offset, is_settled = watermark, False
    for length in _varints(body):
        if is_settled:
            yield from range(offset, offset + length)
        offset, is_settled = offset + length, not is_settled


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varints(body: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in body:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield value
            value = shift = 0
    if shift:
        raise GapMapError("a gap map ends in the middle of a number")
