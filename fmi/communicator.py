"""The communicator: what a rank says to the others. Blocking, as worker code is.

Names and meanings follow mpi4py where they can. Every operation has a deadline; when it passes,
or a peer is gone, `PeerLost` names the rank. Ranks that call different operations get a
`ProtocolError` instead of each other's data.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Any, Self

from fmi import frames
from fmi.channel import Channel
from fmi.deadline import Deadline
from fmi.direct import DirectChannel
from fmi.errors import PeerLost, ProtocolError
from fmi.frames import Operation


class Communicator:
    """One rank of a group. A context manager: leaving it leaves the group.

    `deadline_s` bounds each operation. An operation sends arrays (without copying them), bytes,
    or objects that JSON can hold.
    """

    def __init__(self, channel: Channel, group: str, deadline_s: float) -> None:
        self._channel = channel
        self._run = frames.run_id(group)
        self._deadline_s = deadline_s
        self._sent: Counter[int] = Counter()
        self._received: Counter[int] = Counter()

    @property
    def rank(self) -> int:
        """Which rank this is, 0 to size - 1."""
        return self._channel.rank

    @property
    def size(self) -> int:
        """How many ranks the group has."""
        return self._channel.size

    def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send `obj` to rank `dest`."""
        self._send(obj, dest, Operation.SEND, tag, self._deadline())

    def recv(self, source: int, tag: int = 0) -> Any:
        """Receive the next message of rank `source`; its tag must be `tag`."""
        return self._recv(source, Operation.SEND, tag, self._deadline())

    def bcast(self, obj: Any = None, root: int = 0) -> Any:
        """Give the root's `obj` to every rank."""
        deadline = self._deadline()
        if self.rank != root:
            return self._recv(root, Operation.BCAST, 0, deadline)
        for dest in self._others():
            self._send(obj, dest, Operation.BCAST, 0, deadline)
        return obj

    def gather(self, obj: Any, root: int = 0) -> list[Any] | None:
        """Collect every rank's `obj` at the root, in rank order; None elsewhere.

        Raises:
            PeerLost: a rank is gone; use `gather_survivors` to get what the others sent.
        """
        gathered, lost = self.gather_survivors(obj, root)
        if lost:
            raise PeerLost(lost, "it did not send its part of a gather")
        return [gathered[rank] for rank in range(self.size)] if gathered is not None else None

    def gather_survivors(
        self, obj: Any, root: int = 0
    ) -> tuple[dict[int, Any] | None, tuple[int, ...]]:
        """Collect at the root what the ranks that are still there send.

        Returns the parts by rank (None elsewhere than at the root) and the lost ranks.

        Raises:
            PeerLost: the root is gone (raised on the others).
        """
        deadline = self._deadline()
        if self.rank != root:
            self._send(obj, root, Operation.GATHER, 0, deadline)
            return None, ()
        gathered, lost = {root: obj}, []
        for source in self._others():
            try:
                gathered[source] = self._recv(source, Operation.GATHER, 0, deadline)
            except PeerLost:
                lost.append(source)
        return gathered, tuple(lost)

    def agree_on_lost(self, lost: tuple[int, ...] = (), root: int = 0) -> tuple[int, ...]:
        """A barrier for the ranks that are left: all learn from the root who is lost.

        Raises:
            PeerLost: the root is gone.
        """
        deadline = self._deadline()
        if self.rank != root:
            return tuple(self._recv(root, Operation.LOST, 0, deadline))
        found = set(lost)
        for dest in self._others():
            if dest not in found:
                try:
                    self._send(sorted(found), dest, Operation.LOST, 0, deadline)
                except PeerLost:
                    found.add(dest)
        return tuple(sorted(found))

    def barrier(self) -> None:
        """Wait until every rank is here.

        Raises:
            PeerLost: one is gone or late.
        """
        deadline = self._deadline()
        if self.rank:
            self._send(None, 0, Operation.BARRIER, 0, deadline)
            self._recv(0, Operation.BARRIER, 1, deadline)
            return
        for source in self._others():
            self._recv(source, Operation.BARRIER, 0, deadline)
        for dest in self._others():
            self._send(None, dest, Operation.BARRIER, 1, deadline)

    def close(self) -> None:
        """Leave the group; what was sent still arrives."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _deadline(self) -> Deadline:
        return Deadline.after(self._deadline_s)

    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]

    def _send(
        self, obj: Any, dest: int, operation: Operation, tag: int, deadline: Deadline
    ) -> None:
        frame = frames.encode(obj, self._run, operation, tag, self._sent[dest])
        self._sent[dest] += 1
        self._channel.send(dest, frame, deadline)

    def _recv(self, source: int, operation: Operation, tag: int, deadline: Deadline) -> Any:
        frame = self._channel.recv(source, deadline)
        header = frame.header
        expected = (self._run, operation, tag, self._received[source])
        if (header.run, header.operation, header.tag, header.sequence) != expected:
            raise ProtocolError(
                f"rank {self.rank} waits for {operation.name.lower()} (tag {tag}, message "
                f"{self._received[source]}) of rank {source} and got "
                f"{header.operation.name.lower()} (tag {header.tag}, message {header.sequence}): "
                "the ranks call different operations"
            )
        self._received[source] += 1
        return frames.decode(frame)


def connect(
    rendezvous: str, group: str, rank: int, size: int, token: str, deadline_s: float
) -> Communicator:
    """Meet the other ranks of `group` at `rendezvous` ("host:port") and connect to all.

    `deadline_s` bounds the meeting, and later each operation.

    Raises:
        PeerLost: some ranks did not come; raised on every rank that did.
        Refused: wrong token, or the group is unknown or over.
    """
    deadline = Deadline.after(deadline_s)
    channel = DirectChannel.open(rendezvous, group, rank, size, token, deadline)
    return Communicator(channel, group, deadline_s)
