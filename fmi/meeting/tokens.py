"""The token of a group: what its ranks know and strangers do not.

    size . expiry (ms since 1970) . nonce . key

The key is an HMAC-SHA256 of the rest and the group's name under the rendezvous' secret: whoever
has that secret can check a token it has never seen, so a rendezvous that was restarted knows the
groups that wait. The key never travels; what is before it does, and says nothing of it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple


class Terms(NamedTuple):
    """What a token says openly."""

    size: int
    expires: float  # seconds since 1970


def issue(secret: bytes, group: str, size: int, expires: float) -> str:
    """A new token; no two are the same."""
    public = f"{size}.{round(expires * 1000)}.{secrets.token_hex(16)}"
    return f"{public}.{key_of(secret, group, public)}"


def split(token: str) -> tuple[str, str]:
    """The part that may be shown, and the key. Of what is no token the key fits nowhere."""
    public, _, key = token.rpartition(".")
    return public, key


def key_of(secret: bytes, group: str, public: str) -> str:
    """The key that belongs to the open part of a group's token."""
    return hmac.new(secret, f"{group}\x1f{public}".encode(), hashlib.sha256).hexdigest()


def terms(public: str) -> Terms:
    """What the open part says. Believe it only where the key was proved.

    Raises:
        ValueError: it is not from a token.
    """
    size, expires_ms, _ = public.split(".")
    return Terms(int(size), int(expires_ms) / 1000)
