"""One connection to a server that speaks RESP, the protocol of Redis and Valkey.

A client of our own, as a message between ranks is one command: what redis-py spends on it (locks,
connection pool, parsing, three copies of the payload) is more than the server does. Commands go
out in one call and without a copy of a large payload, replies are read when somebody needs them,
and a large value goes from the kernel to where it belongs.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from fmi.channels.server import Server
from fmi.deadline import Deadline
from fmi.errors import ChannelBroken
from fmi.frames import Buffer

Reply = Any  # int, bytearray, None, or a list of these

_BLOCKS_S: Final = 0.02  # how long a read may wait in the kernel
_DONTWAIT: Final = socket.MSG_DONTWAIT
_ROOM: Final = 1 << 16
_OWED: Final = 64  # replies that may lie unread
_IN_ONE_PIECE: Final = 1 << 14  # joining so few bytes costs less than handing over a list
STALLED_S: Final = 10.0  # a server that is silent in the middle of a reply, or owes one

_ADVICE: Final = {
    b"NOAUTH": " (write redis://user:password@host)",
    b"WRONGPASS": " (see user and password in the URL)",
    b"NOPERM": " (let this user use keys fmi:* with streams, lists, strings and expiry)",
    b"OOM": " (it has no memory left for messages: give it more, or send less at once)",
    b"LOADING": " (it is starting: try again)",
    b"READONLY": " (this is a replica: use the address of its primary)",
    b"MOVED": " (this is a cluster: use a server of its own)",
}


def command(*words: bytes | str | int) -> bytes:
    """A command as it travels."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


class Connection:
    """Never blocks longer than asked. Belongs to one thread.

    `usage` counts the commands that were sent, by name.
    """

    def __init__(self, server: Server, usage: Counter[str], deadline: Deadline) -> None:
        self._server = server
        self._usage = usage
        self._socket = server.connect(deadline)
        # A library that encrypts holds bytes of its own, so the kernel must not wait for them.
        self._plain = not isinstance(self._socket, ssl.SSLSocket)
        if self._plain:
            self._socket.settimeout(None)
            self._socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, round(_BLOCKS_S * 1e6))
            )
        self._arrival = select.poll()
        self._arrival.register(self._socket, select.POLLIN)
        self._room = select.poll()
        self._room.register(self._socket, select.POLLOUT)
        self._buffer = bytearray(_ROOM)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._owed = 0
        try:
            self._introduce()
        except BaseException:
            self.close()
            raise

    def _introduce(self) -> None:
        server = self._server
        if server.password:
            user = (server.user,) if server.user else ()
            self.ask("AUTH", *user, server.password)
        if server.database:
            self.ask("SELECT", server.database)
        self.ask("PING")

    def ask(self, *words: bytes | str | int, seconds: float = STALLED_S) -> Reply:
        """Send a command and wait for its reply, and for those that are still owed.

        Raises:
            ChannelBroken: the server refused it or an earlier one, or is gone, or too slow.
        """
        return self.ask_all(words, seconds=seconds)[0]

    def ask_all(
        self, *commands: Sequence[bytes | str | int], seconds: float = STALLED_S
    ) -> list[Reply]:
        """`ask` several in one go."""
        self._usage.update(str(words[0]) for words in commands)
        self.write([command(*words) for words in commands], Deadline.after(seconds))
        self.settle(seconds)
        return [self.reply(seconds) for _ in commands]

    def post(self, parts: list[Buffer], replies: int, deadline: Deadline) -> None:
        """Send commands whose replies say nothing but that all is well: nobody waits for them.

        If it is not, it shows a few calls later, and at the latest when something is asked.

        Raises:
            ChannelBroken: the server refused an earlier one, or is gone, or takes nothing.
        """
        self.write(parts, deadline)
        self._owed += replies
        if self._owed > _OWED:
            self.settle(0)

    def settle(self, seconds: float) -> None:
        """Take in the replies that are owed: those that are here, or all if there is time.

        Raises:
            ChannelBroken: the server refused a command, or is gone, or too slow.
        """
        while self._owed and (self.waiting or self.fill(seconds)):
            lines = self._buffer.count(b"\r\n", self._start, self._end)
            if 0 < lines <= self._owed and self._buffer.find(b"-", self._start, self._end) < 0:
                # nothing but short replies, each on a line, and all is well
                self._owed -= lines
                self._start = self._buffer.rfind(b"\r\n", self._start, self._end) + 2
            else:
                self._owed -= 1
                self.reply()
        if self._owed and seconds:
            raise self._silent()

    def write(self, parts: list[Buffer], deadline: Deadline) -> None:
        """Send these bytes.

        Raises:
            ChannelBroken: the server is gone, or takes nothing until the deadline.
        """
        total = sum(map(len, parts))
        if total <= _IN_ONE_PIECE:
            parts = [b"".join(parts)]
        sent = self._send(parts)
        if sent < total:
            self._write_rest(parts, total, sent, deadline)

    def _write_rest(self, parts: list[Buffer], total: int, sent: int, deadline: Deadline) -> None:
        while sent < total:
            total -= sent
            parts = _after(parts, sent)
            if not self._room.poll(1000 * deadline.left_or_zero()):
                self.close()  # in the middle of a command: nothing else can be said here
                raise ChannelBroken(f"the server at {self._server} takes nothing in")
            sent = self._send(parts)

    def fill(self, seconds: float) -> bool:
        """Wait for bytes and buffer them; False if none came.

        Raises:
            ChannelBroken: the server is gone.
        """
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == _ROOM:
            waiting = self._end - self._start
            self._buffer[:waiting] = self._buffer[self._start : self._end]
            self._start, self._end = 0, waiting
        count = self._receive(self._view[self._end :], seconds)
        self._end += count
        return count > 0

    @property
    def waiting(self) -> bool:
        """Whether bytes came that nobody read."""
        return self._start < self._end

    def length(self, expected: bytes) -> int:
        """Skip the `expected` start of a reply; the number that is on the rest of its line.

        Raises:
            ChannelBroken: another reply comes, most likely an error.
        """
        start = self._start
        end = self._buffer.find(b"\r\n", start + len(expected), self._end)
        if end < 0 or not self._buffer.startswith(expected, start):
            if self.take(1) != expected[:1]:
                self._start -= 1
                raise self._odd(self.reply())
            if self.take(len(expected) - 1) != expected[1:]:
                raise self._odd("something else")
            return int(self.line())
        self._start = end + 2
        return int(self._buffer[start + len(expected) : end])

    def line(self, seconds: float = STALLED_S) -> bytes:
        """The bytes up to the next line end."""
        searched = self._start
        while (end := self._buffer.find(b"\r\n", searched, self._end)) < 0:
            behind = max(self._end - 1 - self._start, 0)
            self._fill_or_raise(seconds)
            searched = self._start + behind
        line = self._buffer[self._start : end]
        self._start = end + 2
        return bytes(line)

    def take(self, count: int) -> memoryview:
        """The next few bytes, where they lie: good until the next call."""
        while self._end - self._start < count:
            self._fill_or_raise(STALLED_S)
        self._start += count
        return self._view[self._start - count : self._start]

    def read_into(self, view: memoryview) -> None:
        """Receive exactly as many bytes as `view` has."""
        done = min(len(view), self._end - self._start)
        view[:done] = self._view[self._start : self._start + done]
        self._start += done
        while done < len(view):
            count = self._receive(view[done:], STALLED_S)
            if not count:
                raise ChannelBroken(f"the server at {self._server} stopped within a reply")
            done += count

    def read(self, count: int) -> bytearray:
        """Receive exactly so many bytes."""
        read = bytearray(count)
        self.read_into(memoryview(read))
        return read

    def reply(self, seconds: float = STALLED_S) -> Reply:
        """The next reply, whatever it is.

        Raises:
            ChannelBroken: it is an error, or the server is gone or too slow.
        """
        line = self.line(seconds)
        sort, rest = line[:1], line[1:]
        if sort == b":":
            return int(rest)
        if sort == b"+":
            return bytearray(rest)
        if sort == b"-":
            raise ChannelBroken(
                f"the server at {self._server} says: {rest.decode(errors='replace')}{_advice(rest)}"
            )
        count = int(rest)
        if count < 0:
            return None
        if sort == b"*":
            return [self.reply() for _ in range(count)]
        bulk = self.read(count)
        self.take(2)
        return bulk

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._socket.close()

    def _fill_or_raise(self, seconds: float) -> None:
        if not self.fill(seconds):
            raise self._silent()

    def _send(self, parts: list[Buffer]) -> int:
        try:
            if not self._plain:
                return self._socket.send(parts[0])
            if len(parts) == 1:
                return self._socket.send(parts[0], _DONTWAIT)
            return self._socket.sendmsg(parts, (), _DONTWAIT)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            raise self._gone(error) from error

    def _receive(self, view: memoryview, seconds: float) -> int:
        """Bytes that came, 0 if none did."""
        if self._plain and seconds > _BLOCKS_S:  # one system call instead of two
            count = self._try_receive(view, 0)
            if count:
                return count
            seconds -= _BLOCKS_S
        while not seconds or self._decrypted() or self._arrival.poll(1000 * seconds):
            count = self._try_receive(view, _DONTWAIT)
            if count or not seconds:
                return count
        return 0

    def _try_receive(self, view: memoryview, flags: int) -> int:
        try:
            if self._plain:
                count = self._socket.recv_into(view, 0, flags)
            else:
                count = self._socket.recv_into(view)
        except (BlockingIOError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            raise self._gone(error) from error
        if not count:
            raise self._gone("it hung up")
        return count

    def _decrypted(self) -> bool:
        """Whether there are bytes that the kernel does not know of any more."""
        return not self._plain and self._socket.pending() > 0  # type: ignore[attr-defined]

    def _odd(self, reply: object) -> ChannelBroken:
        return ChannelBroken(f"the server at {self._server} answers with {reply!r}")

    def _silent(self) -> ChannelBroken:
        return ChannelBroken(
            f"the server at {self._server} does not answer: see whether it runs, and is overloaded"
        )

    def _gone(self, why: object) -> ChannelBroken:
        return ChannelBroken(
            f"the connection to the server at {self._server} broke ({why}): see that it still "
            "runs, and has memory left"
        )


def _after(parts: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of `parts` once so many bytes of them are sent."""
    left: list[Buffer] = []
    for part in parts:
        if sent < len(part):
            left.append(memoryview(part)[sent:] if sent else part)
        sent = max(0, sent - len(part))
    return left


def _advice(error: bytes) -> str:
    return _ADVICE.get(error.split(b" ", 1)[0], "")
