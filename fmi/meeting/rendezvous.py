"""The rendezvous: where the ranks of a group learn each other's addresses.

Run by whoever starts the ranks. A group exists once it is `admit`ted, and only who knows its
token gets in. The same server is the relay of ranks that cannot call each
other (`relay.py`).

It may be restarted while ranks wait: tokens are checked with `secret` alone, and ranks come
again. A server with the same secret knows every group, except which of them were closed before.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
import time
from dataclasses import dataclass, field

import orjson

from fmi.errors import Refused
from fmi.meeting import tokens
from fmi.meeting.card import Address, Card, Message, is_proved
from fmi.meeting.relay import Pairs
from fmi.meeting.tls import Tls
from fmi.meeting.visitors import Visitor


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server puts up with.

    There is no limit per remote address: all ranks behind one NAT share theirs.
    """

    max_groups: int = 10_000
    max_connections: int = 4096  # or three quarters of the files this process may open
    max_strangers: int = 512  # connections that have not said who they are: the oldest must go
    introduction_s: float = 5.0  # for saying it
    max_message: int = 64 * 1024
    max_relayed_bytes: int = 1 << 36  # per group
    relay_idle_s: float = 600.0  # a pair that moves nothing for so long is cut
    relay_grace_s: float = 60.0  # for a group that met in its last moment to find the relay


class Rendezvous:
    """An asyncio server. Keep `secret` (32 random bytes) where a restart should be tolerated."""

    def __init__(
        self, secret: bytes | None = None, *, tls: Tls | None = None, limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.introduction_s = self.limits.introduction_s
        self.max_message = self.limits.max_message
        self._secret = secret or secrets.token_bytes(32)
        self._tls = tls
        self._groups: dict[str, _Group] = {}  # by the open part of the token
        self._over: dict[str, float] = {}  # closed groups, until they would have expired
        self._visitors: set[Visitor] = set()
        self._strangers: dict[Visitor, None] = {}  # the oldest first
        self._max_connections = self.limits.max_connections
        self._nobody = asyncio.Event()  # set where `_visitors` is empty
        self._nobody.set()
        self._closing = False
        self._server: asyncio.Server | None = None
        self._address = ""

    @property
    def address(self) -> str:
        """`host:port`, once started."""
        return self._address

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Port 0 takes a free one.

        Raises:
            ChannelBroken: the files of `tls` cannot be used.
        """
        context = self._tls.server() if self._tls else None
        self._closing = False
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            self._max_connections = min(self._max_connections, files * 3 // 4)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Visitor(self, context), host, port, backlog=1024
        )
        self._address = "{}:{}".format(*self._server.sockets[0].getsockname()[:2])

    def admit(self, group: str, size: int, ttl_s: float) -> str:
        """Let `size` ranks meet under this name within `ttl_s` seconds; returns their token.

        Who comes later is refused, also where the others have met.

        Raises:
            ValueError: the name is taken, or `max_groups` are waiting.
        """
        self._forget_expired()
        now = time.time()
        waiting = [each.name for each in self._groups.values() if each.expires > now]
        if group in waiting:
            raise ValueError(f"group {group} exists: every attempt needs a name of its own")
        if len(waiting) >= self.limits.max_groups:
            raise ValueError(f"{self.limits.max_groups} groups wait already")
        expires = now + ttl_s
        token = tokens.issue(self._secret, group, size, expires)
        self._groups[tokens.split(token)[0]] = self._new_group(group, size, expires)
        return token

    def close_group(self, group: str) -> None:
        """Forget a group; ranks that still wait for it are turned away.

        Pairs that talk through the relay go on until they hang up.
        """
        for public, known in list(self._groups.items()):
            if known.name == group:
                del self._groups[public]
                self._over[public] = known.expires + self.limits.relay_grace_s
                known.close()

    async def close(self) -> None:
        """Hang up on everybody and stop listening. Ranks that wait will call again."""
        self._closing = True
        if self._server:
            self._server.close()
            await self._server.wait_closed()
        for visitor in list(self._visitors):
            visitor.abort()
        await self._nobody.wait()

    def came(self, visitor: Visitor) -> None:
        """See `Desk.came`."""
        self._nobody.clear()
        self._visitors.add(visitor)
        self._strangers[visitor] = None
        if self._closing or len(self._visitors) > self._max_connections:
            visitor.abort()
        elif len(self._strangers) > self.limits.max_strangers:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()

    def introduced(self, visitor: Visitor, message: Message) -> None:
        """See `Desk.introduced`."""
        self._strangers.pop(visitor, None)
        try:
            request = _read(message)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
            visitor.refuse("this cannot be read: ranks and rendezvous must run the same release")
            return
        try:
            self._let_in(visitor, request, message)
        except Refused as why:
            visitor.refuse(str(why))

    def gone(self, visitor: Visitor) -> None:
        """See `Desk.gone`."""
        self._visitors.discard(visitor)
        self._strangers.pop(visitor, None)
        if not self._visitors:
            self._nobody.set()

    def _let_in(self, visitor: Visitor, asks: _Request, message: Message) -> None:
        key = tokens.key_of(self._secret, asks.group, asks.public)
        if not is_proved(key, visitor.nonce, message):
            raise Refused("wrong token")
        visitor.trust(key, asks.nonce)
        group = self._group(asks.group, asks.public)
        ranks = set(range(group.size))
        if asks.size != group.size or asks.rank not in ranks:
            raise Refused(f"this group has ranks 0 to {group.size - 1}")
        if asks.other is not None:
            if asks.other not in ranks - {asks.rank}:
                raise Refused(f"this group has ranks 0 to {group.size - 1}")
            visitor.within(asks.wait_s, visitor.dismiss)
            group.pairs.ask(asks.rank, asks.other, visitor)
            return
        left_s = group.expires - time.time()
        if left_s <= 0:
            raise Refused("the group is over")
        card = Card(asks.address, visitor.address)
        group.come(asks.rank, card, visitor, min(asks.wait_s, left_s))

    def _group(self, name: str, public: str) -> _Group:
        """The group of a token whose key was proved. After a restart it is a new one."""
        group = self._groups.get(public)
        if group is None:
            size, expires = tokens.terms(public)
            if public in self._over or expires + self.limits.relay_grace_s <= time.time():
                raise Refused("the group is over")
            self._forget_expired()
            if len(self._groups) >= self.limits.max_groups:
                raise Refused(f"{self.limits.max_groups} groups wait already")
            group = self._groups[public] = self._new_group(name, size, expires)
        return group

    def _new_group(self, name: str, size: int, expires: float) -> _Group:
        pairs = Pairs(self.limits.max_relayed_bytes, self.limits.relay_idle_s)
        return _Group(name, size, expires, pairs)

    def _forget_expired(self) -> None:
        now = time.time()
        done = now - self.limits.relay_grace_s
        for public in [public for public, each in self._groups.items() if each.expires <= done]:
            del self._groups[public]
        self._over = {public: until for public, until in self._over.items() if until > now}


@dataclass(frozen=True, slots=True)
class _Request:
    """What a rank says. Nothing of it is true until its proof is checked."""

    group: str
    public: str
    nonce: str
    rank: int
    size: int
    wait_s: float
    address: Address | None  # where it listens
    other: int | None  # with whom it wants to be joined; None: it wants to meet all


def _read(message: Message) -> _Request:
    card = orjson.loads(message["said"])
    address, other = card.get("address"), card.get("other")
    return _Request(
        str(card["group"]),
        str(card["token"]),
        str(card["nonce"]),
        int(card["rank"]),
        int(card["size"]),
        max(0.0, float(card["wait_s"])),
        None if address is None else (str(address[0]), int(address[1])),
        None if other is None else int(other),
    )


@dataclass(slots=True)
class _Group:
    """Ranks that meet. They stay until they have a connection to each other."""

    name: str
    size: int
    expires: float
    pairs: Pairs
    _here: dict[int, tuple[Card, Visitor]] = field(default_factory=dict)

    def come(self, rank: int, card: Card, visitor: Visitor, wait_s: float) -> None:
        """One is here, and waits for the others. Who comes again counts."""
        before = self._here.pop(rank, None)
        if before:
            before[1].abort()
        self._here[rank] = card, visitor
        visitor.left = lambda: self._leave(rank, visitor)
        visitor.within(wait_s, self._give_up)
        if len(self._here) == self.size:
            peers = {each: tuple(card) for each, (card, _) in self._here.items()}
            for _, waiting in self._here.values():
                waiting.stay()
                waiting.answer({"peers": peers})

    def close(self) -> None:
        """Turn away who waits."""
        for _, visitor in list(self._here.values()):
            visitor.refuse("the group is over")
        self.pairs.close()

    def _leave(self, rank: int, visitor: Visitor) -> None:
        if self._here.get(rank, (None, None))[1] is visitor:
            del self._here[rank]

    def _give_up(self) -> None:
        """One can wait no longer, so the group cannot meet: all of them hear who is missing."""
        missing = sorted(set(range(self.size)) - self._here.keys())
        for _, visitor in list(self._here.values()):
            visitor.answer({"missing": missing})
            visitor.dismiss()
        self._here.clear()
