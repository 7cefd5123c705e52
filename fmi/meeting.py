"""What a rank says to the rendezvous, and how both prove that they know the group's token.

Messages are JSON objects behind a four-byte length. The server opens with a nonce; the rank
answers with what it is and an HMAC-SHA256 of it under the token; the token itself never travels.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import struct
from typing import Any, Final

import orjson

from fmi.deadline import Deadline
from fmi.errors import PeerLost, Refused

MAX_MESSAGE: Final = 64 * 1024
LENGTH: Final = struct.Struct("!I")

Address = tuple[str, int]


def proof(token: str, *parts: object) -> str:
    """HMAC-SHA256 over `parts`, hex."""
    text = "\x1f".join(str(part) for part in parts)
    return hmac.new(token.encode(), text.encode(), hashlib.sha256).hexdigest()


def reach(rendezvous: str, rank: int, size: int, deadline: Deadline) -> socket.socket:
    """Connect to the rendezvous at "host:port".

    Raises:
        PeerLost: it does not answer in time.
        Refused: nobody answers there.
    """
    host, _, port = rendezvous.rpartition(":")
    try:
        return socket.create_connection((host, int(port)), timeout=deadline.left())
    except TimeoutError:
        raise _unanswered(rank, size) from None
    except (OSError, ValueError, OverflowError) as error:
        raise Refused(
            f"the rendezvous at {rendezvous!r} cannot be reached ({error}): "
            'give the "host:port" at which this machine sees it, and see that it runs'
        ) from error


def meet(
    server: socket.socket,
    group: str,
    rank: int,
    size: int,
    token: str,
    own: Address,
    deadline: Deadline,
) -> dict[int, Address]:
    """Announce this rank and wait until all others are there. Returns everybody's address.

    `server` is the connection to the rendezvous, `own` where this rank listens.

    Raises:
        PeerLost: other ranks did not come in time.
        Refused: wrong token, unknown or closed group, or `server` is no rendezvous.
    """
    try:
        nonce = _receive(server, deadline)["nonce"]
        card = {
            "group": group,
            "rank": rank,
            "size": size,
            "address": own,
            "wait_s": max(0.05, deadline.left() * 0.9),
            "proof": proof(token, nonce, group, rank, size, *own),
        }
        _send(server, card)
        answer = _receive(server, deadline)
    except TimeoutError:
        raise _unanswered(rank, size) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"the rendezvous does not let rank {rank} in: {error!r}") from error
    if missing := answer.get("missing"):
        raise PeerLost(tuple(missing), "it did not come to the rendezvous in time")
    if "peers" not in answer:
        raise Refused(f"the rendezvous refused rank {rank}: {answer.get('refused')}")
    return {int(each): (peer[0], int(peer[1])) for each, peer in answer["peers"].items()}


def _unanswered(rank: int, size: int) -> PeerLost:
    return PeerLost(_others(rank, size), "the rendezvous did not answer in time")


def _others(rank: int, size: int) -> tuple[int, ...]:
    return tuple(each for each in range(size) if each != rank)


def _send(server: socket.socket, message: dict[str, Any]) -> None:
    body = orjson.dumps(message)
    server.sendall(LENGTH.pack(len(body)) + body)


def _receive(server: socket.socket, deadline: Deadline) -> dict[str, Any]:
    (length,) = LENGTH.unpack(_exactly(server, LENGTH.size, deadline))
    if length > MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    message: dict[str, Any] = orjson.loads(_exactly(server, length, deadline))
    return message


def _exactly(server: socket.socket, count: int, deadline: Deadline) -> bytes:
    received = bytearray()
    while len(received) < count:
        server.settimeout(deadline.left())
        part = server.recv(count - len(received))
        if not part:
            raise ConnectionError("it closed the connection")
        received += part
    return bytes(received)
