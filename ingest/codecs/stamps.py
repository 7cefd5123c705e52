"""Whether the stamps inside a packet are what the survey says they are: FITS images.

Only their first bytes are looked at: the model does not take them, and expanding three stamps
costs more than decoding the packet.
"""

from __future__ import annotations

from typing import Final

from ingest.bounded import gunzip_head
from ingest.errors import DecodeError

_FITS: Final = b"SIMPLE  ="
_GZIP: Final = b"\x1f\x8b"


def check_fits(name: str, data: bytes) -> None:
    """Check a plain FITS stamp.

    Raises:
        DecodeError: `bad_stamp`.
    """
    if not data.startswith(_FITS):
        raise DecodeError("bad_stamp", f"{name} is not a FITS image but begins with {data[:4]!r}")


def check_gzip_fits(name: str, data: bytes) -> None:
    """Check a gzip-packed FITS stamp; raises as `check_fits`."""
    if not data.startswith(_GZIP):
        raise DecodeError("bad_stamp", f"{name} is not gzip but begins with {data[:4]!r}")
    try:
        head = gunzip_head(data, len(_FITS))
    except DecodeError as error:
        raise DecodeError("bad_stamp", f"{name}: {error.detail}") from error
    check_fits(name, head)
