"""TLS between ranks and rendezvous, and from rank to rank; both sides show a certificate.

A certificate counts because `authority` signed it, not because of the name in it: ranks have no
names, and addresses that nobody knows before. So let the authority sign for one deployment only.
Ranks use one certificate as callers and as called: it must be good for both uses, or say none.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fmi.errors import ChannelBroken


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: a certificate (with its chain), its key, and the authority that signs for all."""

    certificate: Path
    key: Path
    authority: Path

    def server(self) -> ssl.SSLContext:
        """The context of who is called.

        Raises:
            ChannelBroken: a file is missing, or holds something else.
        """
        return _context(self, ssl.PROTOCOL_TLS_SERVER)

    def client(self) -> ssl.SSLContext:
        """The context of who calls.

        Raises:
            ChannelBroken: a file is missing, or holds something else.
        """
        return _context(self, ssl.PROTOCOL_TLS_CLIENT)


@lru_cache(maxsize=16)
def _context(tls: Tls, protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        context.load_verify_locations(tls.authority)
    except OSError as error:
        raise ChannelBroken(
            f"TLS cannot be used with {tls.certificate}, {tls.key} and {tls.authority} ({error}): "
            "give the PEM files of a certificate, its key and the authority that signed it"
        ) from error
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # Nobody resumes a session here. And a server that has said all it has to say in TLS
        # must have nothing left that comes between: what follows may be another conversation.
        context.num_tickets = 0
    return context


class Envelope:
    """The server's side of TLS over bytes that come and go elsewhere."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=True)
        self.agreed = False

    def open(self, data: bytes) -> bytes:
        """What `data` says. Look at `outgoing` afterwards, also after an error.

        Raises:
            ssl.SSLError: it is not TLS, or the certificate is not good.
        """
        self._arrived.write(data)
        said = bytearray()
        try:
            if not self.agreed:
                self._tls.do_handshake()
                self.agreed = True
            while part := self._tls.read(1 << 16):
                said += part
        except ssl.SSLWantReadError:
            pass  # the rest of it is on its way
        return bytes(said)

    def seal(self, data: bytes) -> bytes:
        """`data` as it travels."""
        self._tls.write(data)
        return self.outgoing()

    def outgoing(self) -> bytes:
        """What has to be sent."""
        return self._leaving.read()
