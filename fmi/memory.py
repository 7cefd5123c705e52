"""The in-memory channel: ranks are threads of one process. For tests and for one machine."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field

from fmi.deadline import Deadline
from fmi.errors import PeerLost
from fmi.frames import Frame, Header

_Link = queue.Queue["Frame | None"]


@dataclass(slots=True)
class Hub:
    """Where the ranks of one group meet."""

    size: int
    _links: dict[tuple[int, int], _Link] = field(init=False)

    def __post_init__(self) -> None:
        pairs = ((a, b) for a in range(self.size) for b in range(self.size) if a != b)
        self._links = {pair: queue.Queue() for pair in pairs}

    def join(self, rank: int) -> MemoryChannel:
        """The channel of one rank."""
        return MemoryChannel(rank, self.size, self._links)


@dataclass(slots=True)
class MemoryChannel:
    """One rank's view of a `Hub`."""

    rank: int
    size: int
    _links: dict[tuple[int, int], _Link]

    def send(self, dest: int, frame: Frame, deadline: Deadline) -> None:  # noqa: ARG002
        """See `Channel.send`. The payload is copied: the sender may go on writing to it."""
        header = Header.unpack(frame.header.pack())
        self._links[self.rank, dest].put(Frame(header, frame.description, bytes(frame.payload)))

    def recv(self, source: int, deadline: Deadline) -> Frame:
        """See `Channel.recv`."""
        link = self._links[source, self.rank]
        try:
            frame = link.get(timeout=deadline.left())
        except (queue.Empty, TimeoutError):
            raise PeerLost((source,), "it said nothing until the deadline") from None
        if frame is None:
            link.put(None)  # for whoever asks again
            raise PeerLost((source,), "it left the group")
        return frame

    def close(self) -> None:
        """See `Channel.close`."""
        for dest in range(self.size):
            if dest != self.rank:
                self._links[self.rank, dest].put(None)
