"""The rendezvous: where the ranks of a group learn each other's addresses.

Run by whoever starts the ranks. A group exists once it is `admit`ted, and only who knows its
token gets in. Each connection has a time and a size limit, and a connection that does not prove
itself learns nothing and costs nothing but its socket.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from fmi.meeting import LENGTH, MAX_MESSAGE, Address, proof

_INTRODUCTION_S: Final = 5.0  # for a client to say who it is
_MAX_CONNECTIONS: Final = 4096


@dataclass(slots=True)
class _Group:
    size: int
    token: str
    expires: float
    cards: dict[int, Address] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False


@dataclass(slots=True)
class Rendezvous:
    """An asyncio server. `max_groups` bounds what it remembers."""

    max_groups: int = 10_000
    _groups: dict[str, _Group] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _clients: set[asyncio.Task[None]] = field(default_factory=set)
    _address: str = ""

    @property
    def address(self) -> str:
        """`host:port`, once started."""
        return self._address

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Port 0 takes a free one."""
        self._server = await asyncio.start_server(
            self._on_client, host, port, backlog=1024, limit=MAX_MESSAGE
        )
        self._address = "{}:{}".format(*self._server.sockets[0].getsockname()[:2])

    def admit(self, group: str, size: int, ttl_s: float) -> str:
        """Let `size` ranks meet under this name within `ttl_s` seconds; returns their token.

        Who comes later is refused, also where the others have met.

        Raises:
            ValueError: the name is taken, or `max_groups` are waiting.
        """
        now = asyncio.get_running_loop().time()
        for name in [name for name, each in self._groups.items() if each.expires <= now]:
            self.close_group(name)
        if group in self._groups:
            raise ValueError(f"group {group} exists: every attempt needs a name of its own")
        if len(self._groups) >= self.max_groups:
            raise ValueError(f"{self.max_groups} groups wait already")
        token = secrets.token_hex(32)
        self._groups[group] = _Group(size, token, now + ttl_s)
        return token

    def close_group(self, group: str) -> None:
        """Forget a group; ranks that still wait for it are turned away."""
        known = self._groups.pop(group, None)
        if known:
            known.closed = True
            known.complete.set()

    async def close(self) -> None:
        """Turn everybody away and stop listening."""
        for group in list(self._groups):
            self.close_group(group)
        for client in list(self._clients):
            client.cancel()
        if self._server:
            self._server.close()
            await asyncio.gather(*self._clients, return_exceptions=True)
            await self._server.wait_closed()

    def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= _MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Garbage, a half-open connection, a port scan: whatever it is, it ends here.
            with suppress(OSError, ValueError, KeyError, TypeError, EOFError, TimeoutError):
                nonce = secrets.token_hex(16)
                await _send(writer, {"nonce": nonce})
                async with asyncio.timeout(_INTRODUCTION_S):
                    card = await _receive(reader)
                await _send(writer, await self._answer(nonce, card))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _open_group(self, name: str) -> _Group | None:
        group = self._groups.get(name)
        now = asyncio.get_running_loop().time()
        return group if group and now < group.expires else None

    async def _answer(self, nonce: str, card: dict[str, Any]) -> dict[str, Any]:
        group = self._open_group(card["group"])
        rank, size, address = card["rank"], card["size"], tuple(card["address"])
        if group is None:
            return {"refused": "no such group, or it is over"}
        expected = proof(group.token, nonce, card["group"], rank, size, *address)
        if not hmac.compare_digest(expected, str(card["proof"])):
            return {"refused": "wrong token"}
        if size != group.size or not 0 <= rank < size:
            return {"refused": f"this group has ranks 0 to {group.size - 1}"}
        group.cards[rank] = (str(address[0]), int(address[1]))  # a rank that comes again counts
        if len(group.cards) == group.size:
            group.complete.set()
        wait_s = min(float(card["wait_s"]), group.expires - asyncio.get_running_loop().time())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_s)):
                await group.complete.wait()
        if group.closed:
            return {"refused": "the group is over"}
        missing = sorted(set(range(group.size)) - group.cards.keys())
        return {"missing": missing} if missing else {"peers": group.cards}


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    body = orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS)
    writer.write(LENGTH.pack(len(body)) + body)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    message = orjson.loads(await reader.readexactly(length))
    if not isinstance(message, dict):
        raise TypeError("a card is an object")
    return message
