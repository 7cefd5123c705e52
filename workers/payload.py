"""Payloads that did not fit into an invocation: read from where the dispatcher keeps them.

    {"at": {"url": signed address, "start": byte, "length": bytes, "sha256": hex}}

stands for the event that lies there. Only addresses below LOOKBACK_PAYLOADS are read (prefixes,
with spaces between; none: no address at all).
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from workers.errors import PayloadError

MAX_BYTES: Final = 256 * 2**20
_ATTEMPTS: Final = 3


def resolved(event: Mapping[str, Any], left_s: float) -> Mapping[str, Any]:
    """The event itself, read in `left_s` seconds if it is an address.

    Raises:
        PayloadError: it may not be read from there, cannot be read, or is not what was kept.
    """
    if "at" not in event:
        return event
    raw = read(event["at"], left_s)
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise PayloadError(f"what is kept for an event is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise PayloadError("what is kept for an event is no event")
    return found


def read(at: Mapping[str, Any], left_s: float) -> bytes:
    """The bytes that an address stands for, checked.

    Raises:
        PayloadError: see `resolved`.
    """
    try:
        url, start, length = str(at["url"]), int(at.get("start", 0)), int(at["length"])
        wanted = str(at["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise PayloadError(f"an address cannot be read: {error!r}") from error
    if not 0 < length <= MAX_BYTES or start < 0:
        raise PayloadError(f"an address of {length} bytes: {MAX_BYTES} are the most")
    _check(url)
    raw = _fetch(url, start, length, left_s)
    if hashlib.sha256(raw).hexdigest() != wanted:
        raise PayloadError(f"what lies at {_shown(url)} is not what was kept there")
    return raw


def _check(url: str) -> None:
    allowed = os.environ.get("LOOKBACK_PAYLOADS", "").split()
    if not any(url.startswith(prefix) for prefix in allowed):
        raise PayloadError(
            f"{_shown(url)} is no address that this function may read: LOOKBACK_PAYLOADS in its "
            "environment says which, with a slash at the end"
        )
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise PayloadError(f"{_shown(url)} is not https")


def _fetch(url: str, start: int, length: int, left_s: float) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        url, headers={"Range": f"bytes={start}-{start + length - 1}"}
    )
    for attempt in range(_ATTEMPTS):
        try:
            with _opener.open(request, timeout=max(0.1, left_s / _ATTEMPTS)) as answer:
                raw: bytes = answer.read(length + 1)
            if len(raw) == length and (start == 0 or answer.status == 206):
                return raw
            why = f"{len(raw)} bytes instead of {length}"
        except urllib.error.HTTPError as error:
            why = f"HTTP {error.code}"
            if error.code < 500:  # the address is too old, or the object is gone
                break
        except (urllib.error.URLError, OSError) as error:
            why = str(error)
        if attempt + 1 == _ATTEMPTS:
            break
    raise PayloadError(f"{_shown(url)} cannot be read: {why}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An address that is allowed must not lead to one that is not."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _shown(url: str) -> str:
    """Without its signature, which is a secret while it is good."""
    return url.partition("?")[0]
