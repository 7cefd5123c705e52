"""A connection to the rendezvous' server, until it is known what it wants.

It may say one message, within limits of size and time. Whatever else it says or does not say,
it costs its socket for a few seconds and nothing more.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from typing import Protocol, cast

import orjson

from fmi.meeting.card import LENGTH, Address, Message, packed, signed
from fmi.meeting.tls import Envelope


class Desk(Protocol):
    """Who receives visitors."""

    introduction_s: float
    max_message: int

    def came(self, visitor: Visitor) -> None:
        """Somebody is here."""

    def introduced(self, visitor: Visitor, message: Message) -> None:
        """It said something. Called once."""

    def gone(self, visitor: Visitor) -> None:
        """Its connection is closed."""


class Visitor(asyncio.Protocol):
    """One connection. Set `left` to hear when it ends."""

    transport: asyncio.Transport

    def __init__(self, desk: Desk, tls: ssl.SSLContext | None) -> None:
        self.nonce = secrets.token_hex(16)
        self.address: Address = ("", 0)  # as it is seen from here
        self.left: Callable[[], None] = _nothing
        self._desk = desk
        self._envelope = Envelope(tls) if tls else None
        self._received = bytearray()
        self._introduced = False
        self._credentials = "", ""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for an introduction."""
        self.transport = cast("asyncio.Transport", transport)
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        self.address = (host, port)
        self._desk.came(self)
        self.within(self._desk.introduction_s, self.abort)
        if not self._envelope:
            self._write({"nonce": self.nonce})

    def data_received(self, data: bytes) -> None:
        """Collect the message."""
        try:
            message = self._read(self._open(data))
        except (ssl.SSLError, ValueError, TypeError):
            self.dismiss()
        else:
            if message is not None:
                self._introduced = True
                self._desk.introduced(self, message)

    def eof_received(self) -> None:
        """Who hangs up is gone; the transport closes."""

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """Forget it."""
        if self._timer:
            self._timer.cancel()
        self.left()
        self.left = _nothing
        self._desk.gone(self)

    def trust(self, key: str, nonce: str) -> None:
        """From now on answers are signed: it proved that it knows `key`."""
        self._credentials = key, nonce

    def answer(self, message: Message) -> None:
        """Say something to one that is trusted."""
        self._write(signed(*self._credentials, message))

    def refuse(self, why: str) -> None:
        """Say why it may not come in, and hang up."""
        self._write({"refused": why})
        self.dismiss()

    def dismiss(self) -> None:
        """Hang up, once it has read what was said; it cannot take long over that."""
        self.transport.close()
        self.within(self._desk.introduction_s, self.abort)

    def abort(self) -> None:
        """Hang up."""
        self.transport.abort()

    def within(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after `seconds`, instead of what was to be done before."""
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, action)

    def stay(self) -> None:
        """It may stay as long as it likes."""
        if self._timer:
            self._timer.cancel()

    def _open(self, data: bytes) -> bytes:
        if not self._envelope:
            return data
        agreed = self._envelope.agreed
        try:
            data = self._envelope.open(data)
        finally:
            if outgoing := self._envelope.outgoing():
                self.transport.write(outgoing)
        if self._envelope.agreed and not agreed:
            self._write({"nonce": self.nonce})
        return data

    def _read(self, data: bytes) -> Message | None:
        if data and self._introduced:
            raise ValueError("more than was asked for")
        self._received += data
        if len(self._received) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._received)
        if length > self._desk.max_message:
            raise ValueError(f"a message of {length} bytes")
        if len(self._received) < LENGTH.size + length:
            return None
        message = orjson.loads(memoryview(self._received)[LENGTH.size :])  # no byte more
        if not isinstance(message, dict):
            raise TypeError("a message is an object")
        return message

    def _write(self, message: Message) -> None:
        if self.transport.is_closing():
            return
        data = packed(message)
        self.transport.write(self._envelope.seal(data) if self._envelope else data)


def _nothing() -> None:
    pass
