"""How two ranks get to know each other over a connection that is theirs alone, or through a relay.

Both say who they are, then both prove with the group's token that they are; strangers learn a
rank and a nonce. Who was called says nothing before the caller has. Two that called each other
at one moment are both callers. With TLS, the lower rank is the server.

    magic 4s | rank u32 | nonce 16s          then          proof 64s (HMAC-SHA256, hex)
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections.abc import Callable
from typing import Final

from fmi.meeting.card import Member, proof
from fmi.meeting.lines import Line, Talk
from fmi.meeting.tls import Tls

_HELLO: Final = struct.Struct("!4sI16s")
_MAGIC: Final = b"FMIg"
_PROOF: Final = 64


def greet(
    line: Line, member: Member, tls: Tls | None, *, calls: bool, wanted: Callable[[int], bool]
) -> Talk[int]:
    """Who is at the other end; one for whom `wanted` holds, and who knows the token.

    Raises:
        ConnectionError: nobody like that.
    """
    own = secrets.token_bytes(16)
    hello = _HELLO.pack(_MAGIC, member.rank, own)
    if calls:
        yield from line.write(hello)
        hello = b""
    magic, other, theirs = _HELLO.unpack((yield from line.read(_HELLO.size)))
    if magic != _MAGIC or not wanted(other):
        raise ConnectionRefusedError("who is there is not whom this rank waits for")
    if tls:
        yield from line.write(hello)
        hello = b""
        as_server = member.rank < other
        context = tls.server() if as_server else tls.client()
        yield from line.secure(context, as_server=as_server)
    yield from line.write(hello + _proof(member, member.rank, other, own, theirs))
    given = yield from line.read(_PROOF)
    if not hmac.compare_digest(given, _proof(member, other, member.rank, theirs, own)):
        raise ConnectionRefusedError(f"who says to be rank {other} does not know the group's token")
    return int(other)


def _proof(member: Member, who: int, to: int, own: bytes, theirs: bytes) -> bytes:
    """What rank `who` sends to rank `to`."""
    return proof(member.key, "greeting", member.group, who, to, own.hex(), theirs.hex()).encode()
