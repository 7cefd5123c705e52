"""Messages through Redis or Valkey: one list for each rank, to which the others push.

A receiver pops, blocking in the server, so nobody polls; what it popped is gone from the server,
so nobody tidies up. A message stays when its sender leaves. Every key has a time to live, and
lies under its run: what a crashed run left is never read, and goes by itself.

The server must not evict (`maxmemory-policy noeviction`): it would drop messages. A server of
version 5 will do; a cluster will not.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Final

from fmi.channels.protocol import Inbox
from fmi.channels.resp import STALLED_S, Connection, command
from fmi.channels.server import Server
from fmi.channels.store import meet
from fmi.deadline import Deadline
from fmi.errors import ChannelBroken, ProtocolError
from fmi.frames import HEADER, Buffer, Header, read_header, run_id

# A long payload goes in parts: the server passes the first one on while it takes in the next,
# and none comes near the 512 MB that are its limit.
PART: Final = 1 << 20
_MORE: Final = b"MORE"  # in place of the magic: a further part of the frame that has this header
_POPS: Final = 16
_SHORT: Final = 1 << 14  # taken in one piece: copying so little costs less than care
_COUNT: Final = 8  # bytes of a beat's number, before the note
_PAGE: Final = "fmi:"
_WRONG_LENGTH: Final = "a message is not as long as its header says"
_BRIEFLY_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Redis:
    """The transport. `redis://[user:password@]host[:port][/database]`, `rediss://` with TLS.

    `ttl_s` is how long a message lasts whose receiver does not live; `ca_file` holds the
    certificates to trust instead of the system's.
    """

    url: str = field(repr=False)  # it may hold the password
    ttl_s: float = 600.0
    ca_file: str | None = None

    def __post_init__(self) -> None:
        Server.parse(self.url)

    @property
    def name(self) -> str:
        """See `Transport.name`."""
        return "redis"

    def open(self, group: str, rank: int, size: int, deadline: Deadline) -> RedisChannel:
        """See `Transport.open`."""
        server, usage = Server.parse(self.url, self.ca_file), Counter[str]()
        ttl_ms = max(1, round(1000 * self.ttl_s))
        with ExitStack() as on_failure:
            lines = []
            for _ in range(3):
                lines.append(Connection(server, usage, deadline))
                on_failure.callback(lines[-1].close)
            # What is written for the meeting must last as long as it may.
            pages = _Pages(lines[0], max(ttl_ms, round(1000 * deadline.left_or_zero())))
            run = run_id(group, meet(pages, group, rank, size, deadline))
            on_failure.pop_all()
        return RedisChannel(rank, size, run, lines, ttl_ms, usage)


class RedisChannel:
    """One rank's connections to the server: one pops, one pushes, one is for the beats.

    A connection on which a pop waits takes no other command, so it pushes on another. `usage`
    counts commands by name.
    """

    beat_s = 0.5
    patience_s = 2.0

    def __init__(
        self,
        rank: int,
        size: int,
        run: bytes,
        lines: list[Connection],
        ttl_ms: int,
        usage: Counter[str],
    ) -> None:
        self.rank, self.size, self.run, self.usage = rank, size, run, usage
        self._pops, self._pushes, self._beats = lines
        keys = [f"fmi:{run.hex()}:{each}" for each in range(size)]
        self._alive = [f"{key}:alive" for key in keys]
        self._key = keys[rank]
        # All of a command but what changes, written once.
        self._push = [b"*3\r\n$5\r\nRPUSH\r\n$%d\r\n%b\r\n$" % (len(k), k.encode()) for k in keys]
        self._keep = [b"\r\n" + command("PEXPIRE", key, ttl_ms) for key in keys]
        self._pop = command("BLPOP", self._key, 0)
        self._popped = b"*2\r\n$%d\r\n%b\r\n$" % (len(self._key), self._key.encode())
        self._asked = 0  # pops that the server has not answered
        self._in_a_row = 0  # messages that came since this rank last sent one
        self._partial: dict[int, _Arriving] = {}
        self._heard: dict[int, bytes] = {}
        self._look_at = 0.0
        self._beat = 0
        self._closed = False

    def start(self, inbox: Inbox) -> None:
        """See `Channel.start`."""
        self._inbox = inbox

    def send(self, dest: int, head: bytes, payload: Buffer, deadline: Deadline) -> None:
        """See `Channel.send`. The server takes all, whatever the receiver does: no need to wait."""
        size = len(payload)
        if size <= PART:
            self._send(dest, head, payload, deadline)
            return
        view, more = memoryview(payload), _MORE + head[len(_MORE) : HEADER.size]
        self._send(dest, head, view[:PART], deadline)
        for offset in range(PART, size, PART):
            self._send(dest, more, view[offset : offset + PART], deadline)

    def _send(self, dest: int, head: bytes, part: Buffer, deadline: Deadline) -> None:
        before = b"%b%d\r\n%b" % (self._push[dest], len(head) + len(part), head)
        self._in_a_row = 0
        self.usage["RPUSH"] += 1
        self.usage["PEXPIRE"] += 1
        self._pushes.post([before, part, self._keep[dest]], 2, deadline)

    def wait(self, sources: Collection[int], seconds: float) -> None:
        """See `Channel.wait`."""
        pops = self._pops
        if pops.waiting or pops.fill(max(self._ask(), min(seconds, self.beat_s))):
            self._take()
            while pops.waiting:
                self._take()
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + self.beat_s
            self._look(sources)

    def let_go(self) -> None:
        """See `Channel.let_go`."""
        for arriving in self._partial.values():
            arriving.let_go()

    def beat(self, note: bytes) -> None:
        """See `Channel.beat`. That this rank lives also keeps the messages that wait for it."""
        self._beat += 1
        value = self._beat.to_bytes(_COUNT, "big") + note
        alive = command("SET", self._alive[self.rank], value, "PX", round(1000 * self.patience_s))
        self.usage["SET"] += 1
        self.usage["PEXPIRE"] += 1
        with suppress(ChannelBroken):  # the rank's own thread will notice
            self._beats.post([alive, self._keep[self.rank][2:]], 2, Deadline.after(0))

    def close(self, deadline: Deadline, given_up: Collection[int] = ()) -> None:  # noqa: ARG002
        """See `Channel.close`. Once the server has answered everything, it has everything.

        Raises:
            ChannelBroken: something that was sent did not get there.
        """
        if self._closed:
            return
        self._closed = True
        left = max(deadline.left_or_zero(), _BRIEFLY_S)
        try:
            self._pushes.ask("DEL", self._key, self._alive[self.rank], seconds=left)
        finally:
            for connection in (self._pops, self._pushes, self._beats):
                connection.close()

    def _ask(self) -> float:
        """See that the server has a pop to answer; how long it takes until it can have done so.

        To one that only receives messages come unasked: several pops are under way. To one that
        answers each they would be a burden, as the server handles each when it answers the last.
        """
        ahead = _POPS if self._in_a_row > 1 else 1
        if self._asked > ahead // 2:
            return 0.0
        more = ahead - self._asked
        self.usage["BLPOP"] += more
        self._asked = ahead
        self._pops.write([self._pop * more], Deadline.after(STALLED_S))
        return _BRIEFLY_S

    def _take(self) -> None:
        """Take in one popped element: a frame, or a part of one."""
        pops = self._pops
        length = pops.length(self._popped)
        if length < HEADER.size:
            raise ProtocolError(_WRONG_LENGTH)
        if length <= _SHORT and not self._partial:
            self._take_short(pops.take(length + 2)[:length])
        else:
            self._take_part(bytes(pops.take(HEADER.size)), length - HEADER.size)
            pops.take(2)
        self._asked -= 1
        self._in_a_row += 1

    def _take_short(self, frame: memoryview) -> None:
        header = read_header(frame)
        start = HEADER.size + header.description
        if len(frame) != start + header.payload:
            raise ProtocolError(_WRONG_LENGTH)
        description = bytes(frame[HEADER.size : start]) if header.description else b""
        payload: Buffer = bytearray(frame[start:])
        if (placed := self._inbox.place(header)) is not None:
            placed[:] = payload
            payload = placed
        self._inbox.deliver(header, description, payload)

    def _take_part(self, head: bytes, length: int) -> None:
        if head.startswith(_MORE):
            header = Header._make(HEADER.unpack(head))
            arriving = self._partial.pop(header.source, None)
            if arriving is None or arriving.header.sequence != header.sequence:
                raise ProtocolError(f"a part of a message of rank {header.source} is missing")
        else:
            header = read_header(head)
            description = bytes(self._pops.read(header.description))
            length -= header.description
            arriving = _Arriving(header, description, self._inbox.place(header))
        arriving.take(self._pops, length)
        if arriving.left:
            self._partial[header.source] = arriving
        else:
            self._inbox.deliver(arriving.header, arriving.description, arriving.payload)

    def _look(self, sources: Collection[int]) -> None:
        """See which ranks live. By their beats' numbers: a key outlives who wrote it."""
        others = [source for source in sources if source != self.rank]
        if not others:
            return
        beats = self._pushes.ask("MGET", *(self._alive[source] for source in others))
        for source, beat in zip(others, beats if isinstance(beats, list) else (), strict=True):
            if beat and self._heard.get(source) != beat[:_COUNT]:
                self._heard[source] = beat[:_COUNT]
                self._inbox.heard(source, bytes(beat[_COUNT:]))


class _Arriving:
    """A frame of which parts have come."""

    def __init__(self, header: Header, description: bytes, placed: memoryview | None) -> None:
        self.header, self.description = header, description
        self.payload: Buffer = bytearray(header.payload) if placed is None else placed
        self.left = header.payload

    def take(self, pops: Connection, length: int) -> None:
        if not 0 <= length <= self.left:
            raise ProtocolError(_WRONG_LENGTH)
        done = self.header.payload - self.left
        pops.read_into(memoryview(self.payload)[done : done + length])
        self.left -= length

    def let_go(self) -> None:
        self.payload = bytearray(self.payload)


class _Pages:
    """The meeting's pages are streams: any number of ranks can wait for what is new on several."""

    def __init__(self, connection: Connection, ttl_ms: int) -> None:
        self._connection, self._ttl_ms = connection, ttl_ms
        self._last: dict[str, bytes] = {}
        self._written: defaultdict[str, list[bytes]] = defaultdict(list)

    def write(self, page: str, note: bytes) -> None:
        key = _PAGE + page
        entry, _ = self._connection.ask_all(
            ("XADD", key, "*", "note", note), ("PEXPIRE", key, self._ttl_ms)
        )
        self._written[page].append(bytes(entry))

    def read(self, pages: Collection[str], seconds: float) -> list[tuple[str, bytes]]:
        keys = (_PAGE + page for page in pages)
        last = (self._last.get(page, b"0") for page in pages)
        block_ms = max(1, round(1000 * seconds))
        streams = self._connection.ask(
            "XREAD", "BLOCK", block_ms, "STREAMS", *keys, *last, seconds=seconds + STALLED_S
        )
        notes = []
        for key, entries in streams if isinstance(streams, list) else ():
            page = key.decode().removeprefix(_PAGE)
            for entry, (_, note) in entries:
                self._last[page] = bytes(entry)
                notes.append((page, bytes(note)))
        return notes

    def erase(self, page: str) -> None:
        for entry in self._written.pop(page, ()):
            self._connection.ask("XDEL", _PAGE + page, entry)
