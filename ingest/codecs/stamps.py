"""Whether the stamps inside a packet are what the survey says they are: FITS images.

Only their first bytes are looked at: the model does not take them, and expanding three stamps
costs more than decoding the packet.
"""

from __future__ import annotations

from typing import Any, Final

from ingest.bounded import gunzip_head
from ingest.errors import DecodeError

_FITS: Final = b"SIMPLE  ="
_GZIP: Final = b"\x1f\x8b"


def check_fits(name: str, data: Any) -> None:
    """Check a plain FITS stamp.

    Raises:
        DecodeError: `bad_stamp`.
    """
    if not _bytes(name, data).startswith(_FITS):
        raise DecodeError("bad_stamp", f"{name} is not a FITS image but begins with {data[:4]!r}")


def check_gzip_fits(name: str, data: Any) -> None:
    """Check a gzip-packed FITS stamp; raises as `check_fits`."""
    if not _bytes(name, data).startswith(_GZIP):
        raise DecodeError("bad_stamp", f"{name} is not gzip but begins with {data[:4]!r}")
    try:
        head = gunzip_head(data, len(_FITS))
    except DecodeError as error:
        raise DecodeError("bad_stamp", f"{name}: {error.detail}") from error
    check_fits(name, head)


def _bytes(name: str, data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise DecodeError("bad_stamp", f"{name} is no image but {type(data).__name__}")
    return data
