"""What a pair of ranks could do without a library: the floor that a library stands on."""

from __future__ import annotations

import socket
import time
from typing import Any, Final

from benchmarks.fmi.systems import Array, Blocking

PATIENCE_S: Final = 10.0
_SMALL: Final = 1 << 16  # up to here, one call more costs more than joining


def _connect(port: int) -> socket.socket:
    """Connect as soon as somebody listens."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _without_delay(socket.create_connection(("127.0.0.1", port)))
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _without_delay(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _fill(connection: socket.socket, out: memoryview) -> None:
    got = connection.recv_into(out)
    while got < len(out):
        count = connection.recv_into(out[got:])
        if not count:
            raise EOFError("the other side is gone")
        got += count


class Socket(Blocking):
    """`sendall`, and `recv_into` until all is there."""

    def __init__(self, rank: int, size: int, where: dict[str, Any]) -> None:
        self.rank, self.size = rank, size
        port = where["ports"][rank // 2]
        if rank % 2:
            with socket.create_server(("127.0.0.1", port)) as listener:
                self._socket = _without_delay(listener.accept()[0])
        else:
            self._socket = _connect(port)

    def send(self, data: Array, dest: int) -> None:  # noqa: ARG002 - there is only one
        """Send one message."""
        self._socket.sendall(data.data)

    def recv(self, out: Array, source: int) -> None:  # noqa: ARG002 - there is only one
        """Receive one message into `out`."""
        _fill(self._socket, out.data.cast("B"))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Redis(Blocking):
    """RPUSH and BLPOP of one list for each direction of a pair.

    Every length is known beforehand, so that a reply is read as a whole, and nothing is parsed.
    """

    def __init__(self, rank: int, size: int, where: dict[str, Any]) -> None:
        self.rank, self.size = rank, size
        self._socket = _connect(where["port"])

    def send(self, data: Array, dest: int) -> None:
        """Push one message, and wait for the server's answer."""
        key = self._key(self.rank, dest)
        head = b"*3\r\n$5\r\nRPUSH\r\n$%d\r\n%s\r\n$%d\r\n" % (len(key), key, data.nbytes)
        if data.nbytes <= _SMALL:
            self._socket.sendall(head + data.tobytes() + b"\r\n")
        else:
            for part in (head, data.data, b"\r\n"):
                self._socket.sendall(part)
        answer = self._socket.recv(64)
        assert answer == b":1\r\n", answer

    def recv(self, out: Array, source: int) -> None:
        """Pop one message into `out`."""
        key = self._key(source, self.rank)
        self._socket.sendall(b"*3\r\n$5\r\nBLPOP\r\n$%d\r\n%s\r\n$1\r\n0\r\n" % (len(key), key))
        head = b"*2\r\n$%d\r\n%s\r\n$%d\r\n" % (len(key), key, out.nbytes)
        if out.nbytes <= _SMALL:
            reply = bytearray(len(head) + out.nbytes + 2)
            _fill(self._socket, memoryview(reply))
            out.data.cast("B")[:] = memoryview(reply)[len(head) : -2]
        else:
            got = self._socket.recv(len(head), socket.MSG_WAITALL)
            assert got == head, got
            _fill(self._socket, out.data.cast("B"))
            self._socket.recv(2, socket.MSG_WAITALL)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    @staticmethod
    def _key(source: int, dest: int) -> bytes:
        return b"bare:%d:%d" % (source, dest)
