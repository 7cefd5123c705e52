"""The connections of a stream channel, and when to wait for an answer awake."""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
import threading
from typing import Final

from fmi.frames import Header, empty_view

BLOCKED_S: Final = 0.02  # a wait for one peer looks at the others at least this often
SPIN_S: Final = 60e-6
_FIRST_PAUSE: Final = 8  # waits
_LONGEST_PAUSE: Final = 1024
_ROOM: Final = 1 << 20
_BUFFER: Final = 64 * 1024  # bytes read at once; smaller frames are copied out of it
_CLOSED: Final = 7  # a connection that is no more; linux/tcp_states.h
_WRITE: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Spin:
    """Whether to look for an answer for a moment before going to sleep.

    To be woken costs more than most answers take, where the peer runs on another core or machine.
    Where it needs this core, or is busy, looking only takes time from it: after a failure so many
    waits sleep at once, twice as many each time, half as many after a success.
    """

    __slots__ = ("_pause", "_skip")

    def __init__(self) -> None:
        self._pause = self._skip = 0

    def worth(self) -> bool:
        """Whether this wait should begin awake."""
        if self._skip:
            self._skip -= 1
            return False
        return True

    def succeeded(self) -> None:
        """The answer came meanwhile."""
        self._pause //= 2

    def failed(self) -> None:
        """It did not."""
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause or _FIRST_PAUSE)
        self._skip = self._pause


class Peer:
    """One connection, and the frame that is arriving on it."""

    blocks = True

    def __init__(self, rank: int, connection: socket.socket) -> None:
        self.rank, self.socket = rank, connection
        self.lock = threading.Lock()  # for writing: a beat must not come between two halves
        self.owed = b""  # the rest of a beat that found no room
        self.wrote = False
        self.broken = ""
        self.open = True
        self.view = memoryview(bytearray(_BUFFER))
        self.start = self.end = 0
        self.header: Header | None = None
        self.description = b""
        self.target = memoryview(b"")
        self.filled = 0
        connection.settimeout(None)
        # Room for blocks of large arrays, so that a rank need not wait until they are taken; the
        # kernel gives as much as its administrator allows.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(BLOCKED_S * 1e6))
        )

    def read(self, into: memoryview, flags: int) -> int:
        """Read what is there.

        Raises:
            BlockingIOError: nothing is.
        """
        return self.socket.recv_into(into, 0, flags)

    def write(self, data: bytes) -> int:
        """Write what there is room for; how much.

        Raises:
            BlockingIOError: there is no room.
        """
        return self.socket.send(data, _WRITE)

    def write_parts(self, parts: list[memoryview]) -> int:
        """See `write`."""
        return self.socket.sendmsg(parts, (), _WRITE)

    def pending(self) -> bool:
        """Whether there is something to read that the kernel does not know of."""
        return False

    def unsent(self) -> bool:
        """Whether the other machine does not have all yet."""
        if self.socket.family == socket.AF_UNIX:
            return False  # what was written is in the other's queue
        try:
            state = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            unsent = fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return False
        # A connection that the other side reset keeps what was unsent for ever.
        return state != _CLOSED and unsent != b"\0\0\0\0"

    def let_go(self) -> None:
        """Go on elsewhere with what is arriving."""
        if self.header is not None:
            kept = empty_view(len(self.target))
            kept[: self.filled] = self.target[: self.filled]
            self.target = kept


class TlsPeer(Peer):
    """The same, encrypted. Never blocks in the library, which holds bytes of its own."""

    blocks = False

    def __init__(self, rank: int, connection: ssl.SSLSocket) -> None:
        super().__init__(rank, connection)
        self._tls = connection
        self._guard = threading.Lock()  # one at a time in the library; beats come from a thread
        connection.setblocking(False)

    def read(self, into: memoryview, flags: int) -> int:  # noqa: ARG002
        """See `Peer.read`."""
        with self._guard:
            try:
                return self._tls.recv_into(into)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise BlockingIOError from None

    def write(self, data: bytes | memoryview) -> int:
        """See `Peer.write`."""
        with self._guard:
            try:
                return self._tls.send(data)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise BlockingIOError from None

    def write_parts(self, parts: list[memoryview]) -> int:
        """See `Peer.write`. The library takes one at a time."""
        return self.write(parts[0])

    def pending(self) -> bool:
        """See `Peer.pending`."""
        with self._guard:
            return self._tls.pending() > 0
