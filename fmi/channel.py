"""What a channel must do. Collectives are built on these four calls, for every channel alike."""

from __future__ import annotations

from typing import Protocol

from fmi.deadline import Deadline
from fmi.frames import Frame


class Channel(Protocol):
    """Frames between the ranks of one group, in order per direction."""

    rank: int
    size: int

    def send(self, dest: int, frame: Frame, deadline: Deadline) -> None:
        """Hand a frame over.

        Raises:
            PeerLost: `dest` is gone, or takes nothing until the deadline.
        """

    def recv(self, source: int, deadline: Deadline) -> Frame:
        """Wait for the next frame of `source`.

        Raises:
            PeerLost: `source` is gone, or says nothing until the deadline.
        """

    def close(self) -> None:
        """Leave the group. What was sent before still arrives."""
