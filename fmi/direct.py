"""The direct channel: one TCP connection per pair of ranks, opened when the group meets.

Rank r connects to every lower rank and is called by every higher one; nobody waits in a circle.
Both sides of a connection prove with the group's token who they are before a frame travels.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from fmi.deadline import Deadline
from fmi.errors import PeerLost, Refused
from fmi.frames import HEADER, Frame, Header
from fmi.meeting import Address, meet, proof

_HELLO: Final = struct.Struct("!I16s")  # caller's rank, caller's nonce
_PROOF: Final = 64  # hex digits
_STRANGER_S: Final = 0.5  # for an unknown caller to introduce itself


@dataclass(slots=True)
class DirectChannel:
    """A full mesh of blocking sockets with deadlines."""

    rank: int
    size: int
    _peers: dict[int, socket.socket] = field(default_factory=dict)

    @classmethod
    def open(
        cls, rendezvous: str, group: str, rank: int, size: int, token: str, deadline: Deadline
    ) -> DirectChannel:
        """Meet the other ranks and connect to all of them.

        Raises:
            PeerLost: a rank did not come, or does not answer.
            Refused: the rendezvous does not let this rank in.
        """
        host = rendezvous.rpartition(":")[0]
        channel = cls(rank, size)
        with socket.create_server((host, 0), backlog=size + 16) as listening:
            own: Address = (host, listening.getsockname()[1])
            addresses = meet(rendezvous, group, rank, size, token, own, deadline)
            hall = _Hall(group, rank, token, deadline)
            try:
                for lower in range(rank):
                    channel._peers[lower] = hall.call(lower, addresses[lower])
                waiting = set(range(rank + 1, size))
                while waiting:
                    caller, connection = hall.receive(listening, waiting)
                    waiting.discard(caller)
                    channel._peers[caller] = connection
            except BaseException:
                channel.close()
                raise
        return channel

    def send(self, dest: int, frame: Frame, deadline: Deadline) -> None:
        """See `Channel.send`."""
        connection = self._peers[dest]
        try:
            for part in frame.parts():
                if len(part):
                    connection.settimeout(deadline.left())
                    connection.sendall(part)
        except TimeoutError:
            raise PeerLost((dest,), "it took nothing until the deadline") from None
        except OSError as error:
            raise PeerLost((dest,), f"its connection broke ({error})") from None

    def recv(self, source: int, deadline: Deadline) -> Frame:
        """See `Channel.recv`."""
        connection = self._peers[source]
        try:
            header = Header.unpack(bytes(_exactly(connection, HEADER.size, deadline)))
            description = bytes(_exactly(connection, header.description, deadline))
            return Frame(header, description, _exactly(connection, header.payload, deadline))
        except TimeoutError:
            raise PeerLost((source,), "it said nothing until the deadline") from None
        except OSError as error:
            raise PeerLost((source,), f"its connection broke ({error})") from None

    def close(self) -> None:
        """See `Channel.close`. The kernel delivers what was sent before."""
        for connection in self._peers.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            connection.close()
        self._peers.clear()


@dataclass(frozen=True, slots=True)
class _Hall:
    """How two ranks get to know each other."""

    group: str
    rank: int
    token: str
    deadline: Deadline

    def call(self, other: int, address: Address) -> socket.socket:
        """Connect to a lower rank."""
        try:
            connection = socket.create_connection(address, timeout=self.deadline.left())
        except OSError as error:
            raise PeerLost((other,), f"it cannot be reached at {address} ({error})") from None
        try:
            nonce = secrets.token_bytes(16)
            connection.sendall(_HELLO.pack(self.rank, nonce))
            theirs = bytes(_exactly(connection, 16, self.deadline))
            self._check(_exactly(connection, _PROOF, self.deadline), other, nonce, theirs)
            connection.sendall(self._proof(self.rank, theirs, nonce))
        except OSError as error:
            connection.close()
            raise PeerLost((other,), f"it hung up when called ({error})") from None
        except BaseException:
            connection.close()
            raise
        return _tuned(connection)

    def receive(self, listening: socket.socket, expected: set[int]) -> tuple[int, socket.socket]:
        """Wait for a call of one of the `expected` ranks; strangers are hung up on."""
        while True:
            try:
                listening.settimeout(self.deadline.left())
                connection, _ = listening.accept()
            except TimeoutError:
                raise PeerLost(tuple(sorted(expected)), "it did not call in time") from None
            try:
                return self._greet(connection, expected), _tuned(connection)
            except (OSError, Refused):
                connection.close()

    def _greet(self, connection: socket.socket, expected: set[int]) -> int:
        brief = Deadline.after(min(_STRANGER_S, self.deadline.left()))
        caller, theirs = _HELLO.unpack(bytes(_exactly(connection, _HELLO.size, brief)))
        if caller not in expected:
            raise Refused(f"nobody waits for rank {caller}")
        nonce = secrets.token_bytes(16)
        connection.sendall(nonce + self._proof(self.rank, theirs, nonce))
        self._check(_exactly(connection, _PROOF, brief), caller, nonce, theirs)
        return int(caller)

    def _proof(self, who: int, theirs: bytes, own: bytes) -> bytes:
        """What rank `who` sends to show that it knows the token."""
        return proof(self.token, self.group, who, theirs.hex(), own.hex()).encode()

    def _check(self, given: bytearray, who: int, own: bytes, theirs: bytes) -> None:
        if not hmac.compare_digest(bytes(given), self._proof(who, own, theirs)):
            raise Refused(f"who says to be rank {who} does not know the group's token")


def _tuned(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exactly(connection: socket.socket, count: int, deadline: Deadline) -> bytearray:
    received = bytearray(count)
    view = memoryview(received)
    done = 0
    while done < count:
        connection.settimeout(deadline.left())
        part = connection.recv_into(view[done:])
        if not part:
            raise ConnectionError("it left the group")
        done += part
    return received
