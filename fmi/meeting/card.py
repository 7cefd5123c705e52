"""What a rank and the rendezvous say to each other, and how each proves that it knows the token.

Messages are JSON objects behind a four-byte length. The server opens with a nonce. What follows,
the rank's card and the server's answers, carries an HMAC-SHA256 under the token's key over what
it says and the other side's nonce; the key itself never travels.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import orjson

from fmi.errors import Refused
from fmi.meeting import tokens
from fmi.meeting.lines import Line, Talk
from fmi.meeting.tls import Tls

LENGTH: Final = struct.Struct("!I")
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
_MAX_ANSWER: Final = 1 << 24  # the addresses of a very large group

Address = tuple[str, int]
Message = dict[str, Any]


class Card(NamedTuple):
    """Where a rank is: the address it listens at (None: at none), and as the server sees it."""

    own: Address | None
    seen: Address

    @property
    def translated(self) -> bool:
        """Whether the rank is behind a NAT."""
        return self.own != self.seen


@dataclass(frozen=True, slots=True)
class Member:
    """A rank of a group, as it introduces itself."""

    group: str
    rank: int
    size: int
    token: str

    @property
    def key(self) -> str:
        """The part of the token that never travels."""
        return tokens.split(self.token)[1]

    def others(self) -> list[int]:
        """All ranks but this one."""
        return [each for each in range(self.size) if each != self.rank]


def proof(key: str, *parts: object) -> str:
    """HMAC-SHA256 over `parts`, hex."""
    text = "\x1f".join(str(part) for part in parts)
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def signed(key: str, nonce: str, message: Message) -> Message:
    """`message`, with a proof that who says it knows the key."""
    said = orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS).decode()
    return {"said": said, "proof": proof(key, nonce, said)}


def is_proved(key: str, nonce: str, envelope: Message) -> bool:
    """Whether who said this knows the key."""
    expected = proof(key, nonce, envelope.get("said"))
    return hmac.compare_digest(expected.encode(), str(envelope.get("proof")).encode())


def packed(message: Message) -> bytes:
    """A message as it travels."""
    body = orjson.dumps(message)
    return LENGTH.pack(len(body)) + body


@dataclass(slots=True)
class Counter:
    """A rank's conversation with the rendezvous, over a line that is connected."""

    line: Line
    member: Member
    tls: Tls | None
    _nonce: str = ""

    def reach(self, address: Address) -> Talk[None]:
        """Connect to the rendezvous."""
        yield from self.line.connect(address)
        self._notice_silence()
        if self.tls:
            yield from self.line.secure(self.tls.client(), as_server=False)

    def ask(self, wait_s: float, **details: object) -> Talk[None]:
        """Say who this rank is and what it wants: `address=` to meet all, `other=` one.

        Raises:
            Refused: who is at the other end is no rendezvous.
        """
        theirs = (yield from self._message()).get("nonce")
        if not theirs:
            raise _no_rendezvous("it gives no nonce")
        self._nonce = secrets.token_hex(16)
        card = {
            "group": self.member.group,
            "rank": self.member.rank,
            "size": self.member.size,
            "token": tokens.split(self.member.token)[0],
            "nonce": self._nonce,
            "wait_s": wait_s,
            **details,
        }
        yield from self.line.write(packed(signed(self.member.key, str(theirs), card)))

    def answer(self) -> Talk[Message]:
        """The next answer.

        Raises:
            Refused: the rendezvous does not let the rank in, or is none.
        """
        answer = yield from self._message()
        if why := answer.get("refused"):
            raise Refused(f"the rendezvous refused rank {self.member.rank}: {why}")
        try:
            if not is_proved(self.member.key, self._nonce, answer):
                raise _no_rendezvous("it does not know the group's token")
            return cast("Message", orjson.loads(answer["said"]))
        except (KeyError, ValueError) as error:
            raise _no_rendezvous(f"its answer cannot be read: {error!r}") from None

    def _notice_silence(self) -> None:
        """A rank may wait for long: let it notice when the server's machine is gone."""
        sock = self.line.sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # not everywhere
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _message(self) -> Talk[Message]:
        (length,) = LENGTH.unpack((yield from self.line.read(LENGTH.size)))
        if length > _MAX_ANSWER:
            raise _no_rendezvous(f"it begins a message of {length} bytes")
        body = yield from self.line.read(length)
        try:
            message = orjson.loads(body)
        except ValueError as error:
            raise _no_rendezvous(f"its answer cannot be read: {error}") from None
        if not isinstance(message, dict):
            raise _no_rendezvous("its answer is none")
        return message


def _no_rendezvous(why: str) -> Refused:
    return Refused(
        f"what answers at the rendezvous' address is not this group's rendezvous ({why}): "
        "see that the address is right, and that both sides run the same release"
    )
