"""Connections that are being opened: many at once, by one loop, in the thread that waits for them.

What is said over a connection at first is written as a generator, so that it reads from top to
bottom. Where a blocking call would wait, it yields what it waits for: `READ` or `WRITE`.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from errno import EINPROGRESS
from types import TracebackType
from typing import Final, Self, TypeVar

from fmi.errors import NoNetwork

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE

T = TypeVar("T")
Talk = Generator[int, None, T]


class Line:
    """A socket that never blocks. `other` is the rank at its other end, once that is known."""

    def __init__(self, sock: socket.socket, other: int | None = None) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.other = other

    def connect(self, address: tuple[str, int]) -> Talk[None]:
        """Connect."""
        code = self.sock.connect_ex(address)
        if code == EINPROGRESS:
            yield WRITE
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        # Who calls a port of this machine that nobody listens at can get through to itself.
        if self.sock.getsockname() == self.sock.getpeername():
            raise ConnectionRefusedError("nobody listens there")

    def read(self, count: int) -> Talk[bytes]:
        """Exactly `count` bytes, and none of those behind them."""
        received = bytearray()
        while len(received) < count:
            try:
                part = self.sock.recv(count - len(received))
            except (BlockingIOError, ssl.SSLWantReadError):
                yield READ
                continue
            if not part:
                raise ConnectionResetError("it hung up")
            received += part
        return bytes(received)

    def write(self, data: bytes) -> Talk[None]:
        """All of `data`."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.sock.send(rest) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                yield WRITE

    def secure(self, context: ssl.SSLContext, *, as_server: bool) -> Talk[None]:
        """Go on in TLS."""
        self.sock = context.wrap_socket(
            self.sock, server_side=as_server, do_handshake_on_connect=False
        )
        while True:
            try:
                return self.sock.do_handshake()
            except ssl.SSLWantReadError:
                yield READ
            except ssl.SSLWantWriteError:
                yield WRITE

    def bare(self) -> None:
        """Go on without the TLS so far: what follows comes from somebody else."""
        self.sock = socket.socket(fileno=self.sock.detach())
        self.sock.setblocking(False)


class Switchboard:
    """Runs what is said over many lines. A context manager: leaving it closes those still here."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._talks: dict[Line, _Running] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for line in list(self._talks):
            self.drop(line)
        self._selector.close()

    def start(
        self,
        line: Line,
        talk: Talk[None],
        failed: Callable[[OSError], None],
        within_s: float | None = None,
    ) -> None:
        """Run `talk` over `line`. When it ends, the line is off the board but not closed.

        If it ends with an `OSError`, or is not over or `trust`ed after `within_s`, the line is
        closed and `failed` called. Other errors come out of `turn`.
        """
        self._talks[line] = _Running(talk, failed)
        if within_s is not None:
            self.hurry(line, within_s)
        self._advance(line)

    def hurry(self, line: Line, within_s: float) -> None:
        """Give a line so much time from now on, whatever it had before."""
        self._talks[line].until = time.monotonic() + within_s
        self.later(within_s, lambda: self._too_slow(line))

    def trust(self, line: Line) -> None:
        """Let a line take its time from now on."""
        self._talks[line].until = None

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in a while."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), action))

    def turn(self, seconds: float) -> None:
        """Wait until something happens, `seconds` at most, and do what it asks for."""
        if self._timers:
            seconds = min(seconds, max(0.0, self._timers[0][0] - time.monotonic()))
        for key, _ in self._selector.select(seconds):
            self._advance(key.data)
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def lines(self) -> list[Line]:
        """Those on the board, the oldest first."""
        return list(self._talks)

    def drop(self, line: Line) -> None:
        """Close a line, whatever is being said over it."""
        self._forget(line)
        with suppress(OSError):
            line.sock.close()

    def _forget(self, line: Line) -> None:
        running = self._talks.pop(line)
        if running.waits_for:
            self._selector.unregister(running.fd)

    def _too_slow(self, line: Line) -> None:
        running = self._talks.get(line)
        if running and running.until is not None and running.until <= time.monotonic():
            self.drop(line)
            running.failed(TimeoutError("it did not answer"))

    def _advance(self, line: Line) -> None:
        running = self._talks.get(line)
        if running is None:
            return  # dropped, by what was said over another line
        try:
            wants = next(running.talk)
        except StopIteration:
            self._forget(line)
        except OSError as error:
            self.drop(line)
            running.failed(error)
        else:
            if not running.waits_for:
                running.fd = line.sock.fileno()  # stays the same, also in TLS
                self._selector.register(running.fd, wants, line)
            elif running.waits_for != wants:
                self._selector.modify(running.fd, wants, line)
            running.waits_for = wants


class _Running:
    """A talk, and what the selector was told about it."""

    __slots__ = ("failed", "fd", "talk", "until", "waits_for")

    def __init__(self, talk: Talk[None], failed: Callable[[OSError], None]) -> None:
        self.talk = talk
        self.failed = failed
        self.waits_for = 0
        self.fd = -1
        self.until: float | None = None


def new_socket(family: int, port: int | None = None, host: str = "") -> socket.socket:
    """A socket; with `port`, from that one (0: a free one), which several sockets may share.

    Raises:
        OSError: the port cannot be had.
        NoNetwork: this machine does not let the rank open any.
    """
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise NoNetwork(
            f"this rank cannot open connections ({error}): see that it may open enough files "
            "(ulimit -n)"
        ) from error
    if port is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
    return sock


def resolved(address: tuple[str, int]) -> tuple[int, tuple[str, int]]:
    """Family and address to connect to.

    Raises:
        OSError: there is none of that name.
    """
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    family, *_, (host, port, *_) = random.choice(found)  # noqa: S311 - who fails tries another
    return family, (str(host), int(port))
