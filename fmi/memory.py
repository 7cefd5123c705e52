"""The in-memory channel: ranks are threads of one process. For tests and for one machine."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass, field

from fmi.deadline import Deadline
from fmi.errors import PeerLost
from fmi.frames import Frame, Header


@dataclass(slots=True)
class _Inbox:
    """What has arrived for one rank, by source. None stands for "it left"."""

    _arrival: threading.Condition = field(default_factory=threading.Condition)
    _frames: defaultdict[int, deque[Frame | None]] = field(
        default_factory=lambda: defaultdict(deque)
    )

    def put(self, source: int, frame: Frame | None) -> None:
        with self._arrival:
            self._frames[source].append(frame)
            self._arrival.notify_all()

    def take(self, sources: Collection[int], deadline: Deadline) -> tuple[int, Frame | None]:
        """The next frame of one of `sources`.

        Raises:
            TimeoutError: none came until the deadline.
        """
        with self._arrival:
            self._arrival.wait_for(lambda: self._ready(sources), deadline.left_or_zero())
            for source in self._ready(sources):
                frames = self._frames[source]
                # That it left stays, for whoever asks again.
                return source, frames.popleft() if frames[0] else None
        raise TimeoutError

    def _ready(self, sources: Collection[int]) -> list[int]:
        return [source for source in sources if self._frames[source]]


@dataclass(slots=True)
class Hub:
    """Where the ranks of one group meet."""

    size: int
    _inboxes: list[_Inbox] = field(init=False)

    def __post_init__(self) -> None:
        self._inboxes = [_Inbox() for _ in range(self.size)]

    def join(self, rank: int) -> MemoryChannel:
        """The channel of one rank."""
        return MemoryChannel(rank, self.size, self._inboxes)


@dataclass(slots=True)
class MemoryChannel:
    """One rank's view of a `Hub`."""

    rank: int
    size: int
    _inboxes: list[_Inbox]

    def send(self, dest: int, frame: Frame, deadline: Deadline) -> None:  # noqa: ARG002
        """See `Channel.send`. The payload is copied: the sender may go on writing to it."""
        header = Header.unpack(frame.header.pack())
        copy = Frame(header, frame.description, bytearray(frame.payload))
        self._inboxes[dest].put(self.rank, copy)

    def recv_any(self, sources: Collection[int], deadline: Deadline) -> tuple[int, Frame]:
        """See `Channel.recv_any`."""
        try:
            source, frame = self._inboxes[self.rank].take(sources, deadline)
        except TimeoutError:
            why = "it said nothing until the deadline"
            raise PeerLost(tuple(sorted(sources)), why) from None
        if frame is None:
            raise PeerLost((source,), "it left the group")
        return source, frame

    def close(self) -> None:
        """See `Channel.close`."""
        for dest in range(self.size):
            if dest != self.rank:
                self._inboxes[dest].put(self.rank, None)
