"""The in-memory channel: ranks are threads of one process. For tests and for one machine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from fmi.channels.protocol import Inbox
from fmi.deadline import Deadline
from fmi.errors import PeerLost
from fmi.frames import HEADER, Buffer, Operation, beat_head, read_header, run_id

_LEFT: Final = b""


@dataclass(slots=True)
class _Line:
    """What is on its way to one rank, in order of arrival: source, head, payload."""

    arrival: threading.Condition = field(default_factory=threading.Condition)
    frames: deque[tuple[int, bytes, Buffer]] = field(default_factory=deque)
    open: bool = True

    def put(self, source: int, head: bytes, payload: Buffer) -> None:
        with self.arrival:
            if self.open:
                self.frames.append((source, head, payload))
                self.arrival.notify()

    def take(self, seconds: float) -> list[tuple[int, bytes, Buffer]]:
        """Everything that is here; waits for the first."""
        with self.arrival:
            if not self.frames and seconds:
                self.arrival.wait(seconds)
            taken = list(self.frames)
            self.frames.clear()
        return taken


class Memory:
    """Where the ranks of one group meet, and the way to reach the others: one object for all."""

    name = "memory"

    def __init__(self, size: int) -> None:
        self.size = size
        self._lines = [_Line() for _ in range(size)]

    def open(self, group: str, rank: int, size: int, deadline: Deadline) -> MemoryChannel:  # noqa: ARG002
        """See `Transport.open`.

        Raises:
            ValueError: the hub was made for another size.
        """
        if size != self.size:
            raise ValueError(f"this hub is for {self.size} ranks, not {size}")
        return MemoryChannel(rank, size, run_id(group), self._lines)


class MemoryChannel:
    """One rank's view of the hub."""

    beat_s = 0.2
    patience_s = 5.0

    def __init__(self, rank: int, size: int, run: bytes, lines: list[_Line]) -> None:
        self.rank, self.size, self.run = rank, size, run
        self._lines = lines
        self._inbox: Inbox

    def start(self, inbox: Inbox) -> None:
        """See `Channel.start`."""
        self._inbox = inbox

    def send(self, dest: int, head: bytes, payload: Buffer, deadline: Deadline) -> None:  # noqa: ARG002
        """See `Channel.send`. Copies: the sender may go on writing to its memory."""
        line = self._lines[dest]
        if not line.open:
            raise PeerLost((dest,), "it left the group")
        line.put(self.rank, head, bytearray(payload))

    def wait(self, sources: Collection[int], seconds: float) -> None:  # noqa: ARG002
        """See `Channel.wait`."""
        for source, head, payload in self._lines[self.rank].take(seconds):
            if head == _LEFT:
                self._inbox.left(source, "it left the group")
                continue
            header = read_header(head)
            if header.operation == Operation.BEAT:
                self._inbox.heard(source, bytes(payload))
                continue
            view = self._inbox.place(header)
            if view is not None:
                view[:] = payload
            self._inbox.deliver(header, head[HEADER.size :], payload if view is None else view)

    def let_go(self) -> None:
        """See `Channel.let_go`. Nothing arrives in parts here."""

    def beat(self, note: bytes) -> None:
        """See `Channel.beat`."""
        for dest in range(self.size):
            if dest != self.rank:
                self._lines[dest].put(self.rank, beat_head(self.run, self.rank, note), note)

    def close(self, deadline: Deadline, given_up: Collection[int] = ()) -> None:  # noqa: ARG002
        """See `Channel.close`."""
        self._lines[self.rank].open = False
        for dest in range(self.size):
            if dest != self.rank:
                self._lines[dest].put(self.rank, _LEFT, b"")
