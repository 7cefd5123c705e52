"""The relay: for two ranks that cannot call each other, but both reach the rendezvous.

Each of them asks the rendezvous' server for the pair. Once both are there, the server tells them
and copies bytes, without looking at them: the ranks greet each other end to end, and with TLS
they encrypt end to end. What is under way is bounded by small buffers: a side that does not read
stops the other. The end of one direction is passed on behind its last byte; a connection that
breaks ends the other one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from fmi.meeting.visitors import Visitor

_BUFFER: Final = 1 << 18  # bytes under way per direction, beside the kernel's

Pair = tuple[int, int]


@dataclass(slots=True)
class Pairs:
    """The pairs of one group. They may move `bytes_left` bytes in all, and rest for `idle_s`."""

    bytes_left: int
    idle_s: float
    _waiting: dict[Pair, tuple[int, Visitor]] = field(default_factory=dict)
    _joined: dict[Pair, _Join] = field(default_factory=dict)

    def ask(self, rank: int, other: int, visitor: Visitor) -> None:
        """Join `rank`, who is here, with `other` as soon as it asks for the same.

        Who asks again has lost the connection before: a pair has one connection at most.
        """
        pair = (min(rank, other), max(rank, other))
        who, first = self._waiting.pop(pair, (rank, visitor))
        if who != rank:
            self._join(pair, first, visitor)
            return
        if first is not visitor:
            first.abort()
        self._waiting[pair] = (rank, visitor)
        visitor.left = lambda: self._forget(pair, visitor)

    def close(self) -> None:
        """Turn away who waits. Pairs that were joined go on."""
        for _, visitor in list(self._waiting.values()):
            visitor.refuse("the group is over")

    def _forget(self, pair: Pair, visitor: Visitor) -> None:
        if self._waiting.get(pair, (0, None))[1] is visitor:
            del self._waiting[pair]

    def forget(self, pair: Pair, join: _Join) -> None:
        """It is over."""
        if self._joined.get(pair) is join:
            del self._joined[pair]

    def _join(self, pair: Pair, first: Visitor, second: Visitor) -> None:
        if before := self._joined.get(pair):
            before.abort()
        self._joined[pair] = _Join(self, pair, first, second)


class _Join:
    """Two connections that are one."""

    def __init__(self, pairs: Pairs, pair: Pair, first: Visitor, second: Visitor) -> None:
        self._pairs = pairs
        self._pair = pair
        self._moved = self._seen = 0
        self._ends = ends = _End(self, first), _End(self, second)
        for visitor, end, other in zip((first, second), ends, ends[::-1], strict=True):
            end.other = other
            visitor.stay()
            visitor.answer({"joined": True})
            visitor.transport.set_write_buffer_limits(high=_BUFFER)
            visitor.transport.set_protocol(end)
        self._timer = asyncio.get_running_loop().call_later(pairs.idle_s, self._look)

    def count(self, moved: int) -> bool:
        """Whether the group may move so many bytes more."""
        self._moved += moved
        self._pairs.bytes_left -= moved
        return self._pairs.bytes_left >= 0

    def abort(self) -> None:
        """End both."""
        for end in self._ends:
            end.transport.abort()

    def end_if_closed(self) -> None:
        """Where both are closed it is over."""
        if all(end.closed for end in self._ends):
            self._timer.cancel()
            self._pairs.forget(self._pair, self)

    def _look(self) -> None:
        if self._moved == self._seen:
            self.abort()
            return
        self._seen = self._moved
        self._timer = asyncio.get_running_loop().call_later(self._pairs.idle_s, self._look)


class _End(asyncio.Protocol):
    """One of the two connections; what it hears goes out at the other."""

    other: _End

    def __init__(self, join: _Join, visitor: Visitor) -> None:
        self.transport = visitor.transport
        self.ended = self.closed = False
        self._join = join
        self._visitor = visitor

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self._join.count(len(data)):
            self.other.transport.write(data)
        else:
            self._join.abort()

    def pause_writing(self) -> None:
        """Who is here does not read: stop the other."""
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Nothing more comes from here, but it may still listen."""
        self.ended = True
        self.other.transport.write_eof()
        if self.other.ended:
            self.transport.close()
            self.other.transport.close()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """End the other, once it has got what was said."""
        self.closed = True
        self.other.transport.close()
        self._visitor.connection_lost(error)
        self._join.end_if_closed()
