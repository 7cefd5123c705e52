"""The direct channel: one TCP connection per pair of ranks, opened when the group meets.

Rank r connects to every lower rank and is called by every higher one; nobody waits in a circle.
Both sides of a connection prove with the group's token who they are before a frame travels.
"""

from __future__ import annotations

import hmac
import secrets
import selectors
import socket
import struct
from collections.abc import Collection, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from fmi.deadline import Deadline
from fmi.errors import NoNetwork, PeerLost, Refused
from fmi.frames import HEADER, Frame, Header
from fmi.meeting import Address, meet, proof, reach

_HELLO: Final = struct.Struct("!I16s")  # caller's rank, caller's nonce
_PROOF: Final = 64  # hex digits
_STRANGER_S: Final = 0.5  # for an unknown caller to introduce itself


@dataclass(slots=True)
class DirectChannel:
    """A full mesh of blocking sockets with deadlines."""

    rank: int
    size: int
    _peers: dict[int, socket.socket] = field(default_factory=dict)
    _arriving: dict[int, Iterator[Frame | None]] = field(default_factory=dict)

    @classmethod
    def open(
        cls, rendezvous: str, group: str, rank: int, size: int, token: str, deadline: Deadline
    ) -> DirectChannel:
        """Meet the other ranks and connect to all of them.

        Raises:
            PeerLost: a rank did not come, or does not answer.
            Refused: the rendezvous does not let this rank in.
            NoNetwork: this machine does not let the rank listen or take calls.
        """
        channel = cls(rank, size)
        with reach(rendezvous, rank, size, deadline) as server, _listen(server, size) as listening:
            own = listening.getsockname()[:2]
            addresses = meet(server, group, rank, size, token, own, deadline)
            hall = _Hall(group, rank, token, deadline)
            try:
                for lower in range(rank):
                    channel._add(lower, hall.call(lower, addresses[lower]))
                waiting = set(range(rank + 1, size))
                while waiting:
                    caller, connection = hall.receive(listening, waiting)
                    waiting.discard(caller)
                    channel._add(caller, connection)
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

    def recv_any(self, sources: Collection[int], deadline: Deadline) -> tuple[int, Frame]:
        """See `Channel.recv_any`."""
        with selectors.DefaultSelector() as selector:
            for source in sources:
                selector.register(self._peers[source], selectors.EVENT_READ, source)
            while True:
                left = deadline.left_or_zero()
                for key, _ in selector.select(left):
                    if frame := self._take(key.data):
                        return key.data, frame
                if not left:
                    why = "it said nothing until the deadline"
                    raise PeerLost(tuple(sorted(sources)), why)

    def close(self) -> None:
        """See `Channel.close`. The kernel delivers what was sent before."""
        for connection in self._peers.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            connection.close()
        self._peers.clear()
        self._arriving.clear()

    def _add(self, other: int, connection: socket.socket) -> None:
        self._peers[other] = connection
        self._arriving[other] = _frames(connection)

    def _take(self, source: int) -> Frame | None:
        """The next frame of `source`, None if it is not all here."""
        try:
            self._peers[source].setblocking(False)
            return next(self._arriving[source])
        except StopIteration:
            raise PeerLost((source,), "its connection broke before") from None
        except OSError as error:
            raise PeerLost((source,), f"its connection broke ({error})") from None


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
            raise PeerLost(
                (other,),
                f"it cannot be reached at {address} ({error}): the machines of a group must be "
                "able to connect to each other at any port, without address translation",
            ) from None
        try:
            nonce = secrets.token_bytes(16)
            connection.sendall(_HELLO.pack(self.rank, nonce))
            theirs = bytes(_exactly(connection, 16, self.deadline))
            self._check(_exactly(connection, _PROOF, self.deadline), other, nonce, theirs)
            connection.sendall(self._proof(self.rank, theirs, nonce))
            return _tuned(connection)
        except OSError as error:
            connection.close()
            raise PeerLost((other,), f"it hung up when called ({error})") from None
        except BaseException:
            connection.close()
            raise

    def receive(self, listening: socket.socket, expected: set[int]) -> tuple[int, socket.socket]:
        """Wait for a call of one of the `expected` ranks; strangers are hung up on.

        Raises:
            PeerLost: nobody of them called.
            NoNetwork: this machine does not let the rank take calls.
        """
        while True:
            try:
                listening.settimeout(self.deadline.left())
                connection, _ = listening.accept()
            except TimeoutError:
                raise PeerLost(tuple(sorted(expected)), "it did not call in time") from None
            except ConnectionAbortedError:
                continue  # whoever it was hung up first
            except OSError as error:
                raise NoNetwork(
                    f"rank {self.rank} cannot take the calls of others ({error}): "
                    "see that it may open enough files (ulimit -n)"
                ) from error
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


def _listen(server: socket.socket, size: int) -> socket.socket:
    """Listen where the rendezvous sees this rank: there the others can reach it, too.

    Raises:
        NoNetwork: this machine does not allow it.
    """
    try:
        host = server.getsockname()[0]
        return socket.create_server((host, 0), family=server.family, backlog=size + 16)
    except OSError as error:
        raise NoNetwork(
            f"this rank cannot listen for the others ({error}): see that it may open ports at the "
            "address from which it reaches the rendezvous, and enough files (ulimit -n)"
        ) from error


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


def _frames(connection: socket.socket) -> Iterator[Frame | None]:
    """The frames of a non-blocking connection; None where the next bytes are not here yet."""
    while True:
        header = Header.unpack(bytes((yield from _arrived(connection, HEADER.size))))
        description = bytes((yield from _arrived(connection, header.description)))
        yield Frame(header, description, (yield from _arrived(connection, header.payload)))


def _arrived(connection: socket.socket, count: int) -> Generator[None, None, bytearray]:
    received = bytearray(count)
    view = memoryview(received)
    done = 0
    while done < count:
        try:
            part = connection.recv_into(view[done:])
        except BlockingIOError:
            yield
            continue
        if not part:
            raise ConnectionError("it left the group")
        done += part
        if done < count:
            yield  # one that never stops sending must not keep this rank past its deadline
    return received
