"""What a channel must do. Collectives are built on these three calls, for every channel alike."""

from __future__ import annotations

from collections.abc import Collection
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

    def recv_any(self, sources: Collection[int], deadline: Deadline) -> tuple[int, Frame]:
        """Wait for the next frame of whichever of `sources` is ready first.

        A source of which only a part of a frame is here holds nobody up. What is here already is
        given also when the deadline has passed.

        Raises:
            PeerLost: one of `sources` is gone, or all of them (then all are named) say nothing
                until the deadline.
        """

    def close(self) -> None:
        """Leave the group. What was sent before still arrives."""
