"""The communicator: what a rank says to the others. Blocking, as worker code is.

Names and meanings follow mpi4py where they can. Every operation has a deadline; when it passes,
or a peer is gone, `PeerLost` names the rank. Ranks that call different operations get a
`ProtocolError` instead of each other's data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from fmi import frames
from fmi.channel import Channel
from fmi.deadline import Deadline
from fmi.direct import DirectChannel
from fmi.errors import PeerLost, ProtocolError
from fmi.frames import Operation

# A root that collects and then tells who is lost must be done before those it tells give up: they
# wait for one deadline. What these two leave of it is for ranks that do not call at one moment.
GATHER_SHARE: Final = 0.6
REPORT_SHARE: Final = 0.2


class Communicator:
    """One rank of a group. A context manager: leaving it leaves the group.

    `deadline_s` bounds each operation. An operation sends arrays (without copying them), bytes,
    or objects that JSON can hold. A rank that was lost once stays lost: what it says later could
    be the answer to an earlier question.
    """

    def __init__(self, channel: Channel, group: str, deadline_s: float) -> None:
        self._channel = channel
        self._run = frames.run_id(group)
        self._deadline_s = deadline_s
        self._sent: Counter[int] = Counter()
        self._received: Counter[int] = Counter()
        self._lost: set[int] = set()

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
        gathered, lost = self.gather_survivors(obj, root, self._deadline_s)
        if lost:
            raise PeerLost(lost, "it did not send its part of a gather")
        return [gathered[rank] for rank in range(self.size)] if gathered is not None else None

    def gather_survivors(
        self, obj: Any, root: int = 0, wait_s: float | None = None
    ) -> tuple[dict[int, Any] | None, tuple[int, ...]]:
        """Collect at the root what the ranks that are still there send.

        Returns the parts by rank (None elsewhere than at the root) and the lost ranks. The root
        takes each part as it comes, and waits `wait_s` seconds at most; 60 % of `deadline_s`
        unless said otherwise, so that `agree_on_lost` can tell the others in time. The others
        wait `wait_s`, or else `deadline_s`, for the root to take their part.

        Raises:
            PeerLost: the root is gone (raised on the others).
        """
        if self.rank != root:
            self._send(obj, root, Operation.GATHER, 0, self._deadline(wait_s))
            return None, ()
        share_s = GATHER_SHARE * self._deadline_s if wait_s is None else wait_s
        parts = self._collect(self._others(), Operation.GATHER, Deadline.after(share_s))
        parts[root] = obj
        return dict(sorted(parts.items())), self._not_among(parts)

    def agree_on_lost(
        self, lost: tuple[int, ...] = (), root: int = 0, wait_s: float | None = None
    ) -> tuple[int, ...]:
        """A barrier for the ranks that are left: all learn from the root who is lost.

        They report to the root, and the root sends all that reported one and the same list, which
        every one of them returns: `lost` as the root passes it, and who did not report. The root
        waits for reports for 20 % of `wait_s` at most, the others wait `wait_s` seconds for the
        list; `deadline_s` unless said otherwise. After a `gather_survivors` all are told in time
        if those that are left called it within 15 % of `deadline_s` of each other.

        A rank that dies after its report is in nobody's list: the next operation finds it. If the
        root dies while it sends the list, some have it and the others raise. No number of rounds
        would change that for the last one.

        Raises:
            PeerLost: the root is gone, or silent for `wait_s`.
        """
        deadline = self._deadline(wait_s)
        if self.rank != root:
            self._send(None, root, Operation.LOST, 0, deadline)
            agreed = tuple(self._recv(root, Operation.LOST, 1, deadline))
            self._lost.update(agreed)
            return agreed
        self._lost.update(lost)
        share = Deadline.after(REPORT_SHARE * deadline.left_or_zero())
        reported = self._collect(self._others(), Operation.LOST, share)
        agreed = self._not_among({root, *reported})
        for dest in reported:
            with suppress(PeerLost):  # the others have this list already, or will
                self._send(agreed, dest, Operation.LOST, 1, deadline)
        return agreed

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

    def _deadline(self, wait_s: float | None = None) -> Deadline:
        return Deadline.after(self._deadline_s if wait_s is None else wait_s)

    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]

    def _not_among(self, present: Collection[int]) -> tuple[int, ...]:
        return tuple(rank for rank in range(self.size) if rank not in present)

    def _collect(
        self, sources: Collection[int], operation: Operation, deadline: Deadline
    ) -> dict[int, Any]:
        """What each of `sources` says until the deadline; those that are lost are left out."""
        waiting, parts = set(sources) - self._lost, dict[int, Any]()
        while waiting:
            with suppress(PeerLost):
                source, part = self._recv_any(waiting, operation, 0, deadline)
                parts[source] = part
            waiting -= self._lost | parts.keys()
        return parts

    def _send(
        self, obj: Any, dest: int, operation: Operation, tag: int, deadline: Deadline
    ) -> None:
        frame = frames.encode(obj, self._run, operation, tag, self._sent[dest])
        self._require((dest,))
        self._sent[dest] += 1
        try:
            self._channel.send(dest, frame, deadline)
        except PeerLost:
            self._lost.add(dest)  # it may have got half a frame
            raise

    def _recv(self, source: int, operation: Operation, tag: int, deadline: Deadline) -> Any:
        return self._recv_any((source,), operation, tag, deadline)[1]

    def _recv_any(
        self, sources: Collection[int], operation: Operation, tag: int, deadline: Deadline
    ) -> tuple[int, Any]:
        frames.check_tag(tag)
        self._require(sources)
        try:
            source, frame = self._channel.recv_any(sources, deadline)
        except PeerLost as error:
            self._lost.update(error.ranks)
            raise
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
        return source, frames.decode(frame)

    def _require(self, ranks: Collection[int]) -> None:
        """See that none of `ranks` was lost before."""
        if lost := tuple(sorted(self._lost.intersection(ranks))):
            raise PeerLost(lost, "it was lost before")


def connect(
    rendezvous: str, group: str, rank: int, size: int, token: str, deadline_s: float
) -> Communicator:
    """Meet the other ranks of `group` at `rendezvous` ("host:port") and connect to all.

    `deadline_s` bounds the meeting, and later each operation.

    Raises:
        PeerLost: some ranks did not come; raised on every rank that did.
        Refused: wrong token, or the group is unknown or over, or nobody is at `rendezvous`.
        NoNetwork: this machine does not let the rank listen or take calls.
    """
    deadline = Deadline.after(deadline_s)
    channel = DirectChannel.open(rendezvous, group, rank, size, token, deadline)
    return Communicator(channel, group, deadline_s)
