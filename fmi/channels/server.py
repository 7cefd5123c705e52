"""Where a Redis or Valkey server is, and how to connect to it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from fmi.deadline import Deadline
from fmi.errors import ChannelBroken

_SHORTEST_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and how to get in."""

    host: str
    port: int
    database: int
    user: str
    password: str = field(repr=False)
    tls: bool
    ca_file: str | None = None

    @classmethod
    def parse(cls, url: str, ca_file: str | None = None) -> Server:
        """Read `redis://[user:password@]host[:port][/database]`; `rediss://` means TLS.

        Raises:
            ValueError: it is none.
        """
        parts = urlsplit(url)
        database = parts.path.strip("/") or "0"
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or not database.isdigit():
            raise ValueError("write redis://[user:password@]host[:port][/database], or rediss://")
        return cls(
            parts.hostname,
            parts.port or 6379,
            int(database),
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            parts.scheme == "rediss",
            ca_file,
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def connect(self, deadline: Deadline) -> socket.socket:
        """A connection that does not block; nothing has been said on it.

        Raises:
            ChannelBroken: nobody answers, or not as this address promises.
        """
        left = max(deadline.left_or_zero(), _SHORTEST_S)
        try:
            connection = socket.create_connection((self.host, self.port), timeout=left)
        except OSError as error:
            raise ChannelBroken(
                f"nobody answers at {self} ({error}): see that the server runs, and that this "
                "machine may reach it (network, security group)"
            ) from error
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self.tls:
                context = ssl.create_default_context(cafile=self.ca_file)
                connection = context.wrap_socket(connection, server_hostname=self.host)
        except OSError as error:
            connection.close()
            raise ChannelBroken(
                f"the server at {self} does not speak TLS as it should ({error}): see its "
                "certificate and `ca_file`, or write redis:// if it has none"
            ) from error
        connection.setblocking(False)
        return connection
