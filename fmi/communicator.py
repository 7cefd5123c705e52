"""The communicator: what a rank says to the others. Blocking, as worker code is.

Names and meanings follow mpi4py where they can. Every operation has a deadline; when it passes,
or a peer is gone, every rank that is left gets an error that names the rank to blame, and the
communicator is over for all of them; `shrink` gives them a new one. Ranks that call different
operations, or the same with arrays that differ, get a `ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmi import collectives, reducing, survivors
from fmi.call import Call
from fmi.deadline import Deadline
from fmi.errors import FmiError, ProtocolError
from fmi.frames import (
    MAX_TAG,
    Kind,
    Operation,
    bytes_of,
    check_tag,
    decode,
    describe,
    encode,
)
from fmi.mailbox import Frame, Posted
from fmi.membership import Membership
from fmi.reductions import SUM, Function, Op, code_of

ANY_SOURCE: Final = -1
ANY_TAG: Final = -1
_OP_CODES: Final = 16
_WORTH_POSTING: Final = 4096  # bytes; below, a copy is cheaper
_SEND: Final = int(Operation.SEND)


class Communicator(Membership):
    """One rank of a group. A context manager: leaving it leaves the group.

    What can be sent: numpy arrays (contiguous ones are not copied; dtype and shape arrive with
    them), bytes, and what msgpack can hold, arrays inside included. `deadline_s` bounds each
    operation and may be changed between two of them, alike on all ranks. It belongs to one
    thread; only `interrupt` may be called from another.
    """

    # Point to point.

    def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send `obj` to rank `dest`. When it returns, `obj` may be changed again."""
        try:
            if not 0 <= tag <= MAX_TAG:
                check_tag(tag)
            member = self.member(dest)
            if self.mailbox.failures:
                self.mailbox.raise_if_failed(self.context)
            deadline = Deadline.after(self.deadline_s)
            self.mailbox.send(member, self.context, _SEND, 0, tag, encode(obj), deadline)
        except FmiError as error:
            raise self.failed(error) from None

    def recv(
        self,
        source: int = ANY_SOURCE,
        tag: int = ANY_TAG,
        out: NDArray[Any] | None = None,
        status: Status | None = None,
    ) -> Any:
        """Receive the next message of rank `source` with `tag`; of any, unless said otherwise.

        `out` is an array that takes the message: dtype and shape must be the sender's. `status`
        is told where the message came from.
        """
        try:
            frame = self._receive(source, tag, out)
            if status is not None:
                status.source = self.rank_of[frame.header.source]
                status.tag = frame.header.tag
            if out is None:
                return decode(frame.header.kind, frame.description, frame.payload)
            self.mailbox.unpost()
            return _into(out, frame)
        except FmiError as error:
            raise self.failed(error) from None

    def sendrecv(
        self,
        obj: Any,
        dest: int,
        sendtag: int = 0,
        source: int = ANY_SOURCE,
        recvtag: int = ANY_TAG,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """Send to one rank and receive from another (or the same), both at the same time."""
        if out is not None and source >= 0 and recvtag >= 0:
            self._post(self.member(source), recvtag, out)
        self.send(obj, dest, sendtag)
        return self.recv(source, recvtag, out)

    # One to all, all to one, all to all.

    def bcast(self, obj: Any = None, root: int = 0) -> Any:
        """Give the root's `obj` to every rank."""
        with Call(self, Operation.BCAST, self._root(root)) as call:
            if self.rank == root:
                collectives.bcast(call, encode(obj), root)
                return obj
            return decode(*collectives.bcast(call, None, root))

    def scatter(self, objs: Sequence[Any] | None = None, root: int = 0) -> Any:
        """Give the n-th of the root's `objs` to rank n."""
        with Call(self, Operation.SCATTER, self._root(root)) as call:
            if self.rank != root:
                return decode(*collectives.scatter(call, None, root))
            parts = self._one_each(objs)
            collectives.scatter(call, [encode(each) for each in parts], root)
            return parts[root]

    def scatterv(
        self,
        array: NDArray[Any] | None = None,
        counts: Sequence[int] | None = None,
        root: int = 0,
    ) -> NDArray[Any]:
        """Cut the root's array by rows: rank n gets the next `counts[n]`; evenly if not said."""
        rows = None
        if self.rank == root and array is not None:
            rows = np.split(array, np.cumsum(self._counts(len(array), counts))[:-1])
        part: NDArray[Any] = self.scatter(rows, root)
        return part.copy() if self.rank == root else part

    def gather(self, obj: Any, root: int = 0) -> list[Any] | None:
        """Collect every rank's `obj` at the root, in rank order; None elsewhere."""
        with Call(self, Operation.GATHER, self._root(root)) as call:
            parts = collectives.gather(call, encode(obj), root)
            if parts is None:
                return None
            return [obj if r == root else decode(*each) for r, each in enumerate(parts)]

    def gatherv(self, array: NDArray[Any], root: int = 0) -> NDArray[Any] | None:
        """Join the rows of every rank's array at the root, in rank order; None elsewhere."""
        parts = self.gather(array, root)
        return None if parts is None else self._joined(parts)

    def allgather(self, obj: Any) -> list[Any]:
        """Collect every rank's `obj` at every rank, in rank order."""
        with Call(self, Operation.ALLGATHER) as call:
            parts = collectives.allgather(call, encode(obj))
            return [obj if r == self.rank else decode(*each) for r, each in enumerate(parts)]

    def allgatherv(self, array: NDArray[Any]) -> NDArray[Any]:
        """Join the rows of every rank's array at every rank, in rank order."""
        return self._joined(self.allgather(array))

    def alltoall(self, objs: Sequence[Any]) -> list[Any]:
        """Give the n-th of `objs` to rank n; returns what each rank gave to this one."""
        with Call(self, Operation.ALLTOALL) as call:
            parts = self._one_each(objs)
            got = collectives.alltoall(call, [encode(each) for each in parts])
            return [parts[r] if r == self.rank else decode(*each) for r, each in enumerate(got)]

    def alltoallv(self, array: NDArray[Any], counts: Sequence[int] | None = None) -> NDArray[Any]:
        """Give the next `counts[n]` rows to rank n; returns the rows that came, in rank order."""
        rows = np.split(array, np.cumsum(self._counts(len(array), counts))[:-1])
        return self._joined(self.alltoall(rows))

    def barrier(self) -> None:
        """Wait until every rank is here."""
        with Call(self, Operation.BARRIER) as call:
            collectives.barrier(call)

    # Reductions. All fold from the left, by rank: see `reductions`.

    def reduce(self, obj: Any, op: Op | Function = SUM, root: int = 0) -> Any:
        """Fold every rank's `obj` at the root; None elsewhere.

        With a built-in operation arrays are folded element by element and must be alike. A
        function of your own gets whole values: `op(left, right)`.
        """
        with Call(self, Operation.REDUCE, self._root(root) * _OP_CODES + code_of(op)) as call:
            if isinstance(op, Op) and isinstance(obj, np.ndarray):
                return reducing.reduce(call, obj, op, root)
            return reducing.reduce_values(call, obj, op, root)

    def allreduce(self, obj: Any, op: Op | Function = SUM, out: NDArray[Any] | None = None) -> Any:
        """Fold every rank's `obj`; every rank gets the result. `out` may be `obj` itself."""
        with Call(self, Operation.ALLREDUCE, code_of(op)) as call:
            if isinstance(op, Op) and isinstance(obj, np.ndarray):
                result = np.empty_like(obj, order="C") if out is None else _like(out, obj)
                reducing.allreduce(call, obj, op, result)
                return result
            folded = reducing.reduce_values(call, obj, op, 0)
            encoded = encode(folded) if self.rank == 0 else None
            return decode(*collectives.bcast(call, encoded, 0))

    def reduce_scatter(
        self,
        array: NDArray[Any],
        counts: Sequence[int] | None = None,
        op: Op | Function = SUM,
    ) -> NDArray[Any]:
        """Fold every rank's array; rank n gets the n-th part of the rows of the result."""
        with Call(self, Operation.REDUCE_SCATTER, code_of(op)) as call:
            return reducing.reduce_scatter(call, array, self._counts(len(array), counts), op)

    def scan(self, obj: Any, op: Op | Function = SUM) -> Any:
        """Fold of this rank's `obj` and those of all ranks before it."""
        return self._scan(Operation.SCAN, obj, op)[1]

    def exscan(self, obj: Any, op: Op | Function = SUM) -> Any:
        """Fold of the `obj` of all ranks before this one; None on rank 0."""
        return self._scan(Operation.EXSCAN, obj, op)[0]

    # The group.

    def split(self, color: int | None, key: int = 0) -> Communicator | None:
        """A communicator of those ranks that say the same `color`, by `key` and then by rank.

        None for a rank that says None.
        """
        with Call(self, Operation.SPLIT) as call:
            said = encode((color, key, self.mailbox.next_context))
            answers = [decode(*each) for each in collectives.allgather(call, said)]
        colors = sorted({each[0] for each in answers if each[0] is not None})
        first = max(each[2] for each in answers)
        self.mailbox.next_context = first + len(colors)
        if color is None:
            return None
        chosen = sorted((each[1], r) for r, each in enumerate(answers) if each[0] == color)
        members = [self.members[r] for _, r in chosen]
        return self.part(members, first + colors.index(color), parent=self)

    def shrink(self) -> Communicator:
        """A communicator of the ranks that are left, after a `PeerLost`; all of them call it.

        Raises:
            PeerLost: this rank was given up by the others, or they do not answer.
        """
        return survivors.shrink(self)

    def gather_survivors(
        self, obj: Any, root: int = 0, wait_s: float | None = None
    ) -> tuple[dict[int, Any] | None, tuple[int, ...]]:
        """Collect at the root what the ranks that are still there send; see `survivors.gather`."""
        return survivors.gather(self, obj, root, wait_s)

    def agree_on_lost(
        self, lost: Sequence[int] = (), root: int = 0, wait_s: float | None = None
    ) -> tuple[int, ...]:
        """A barrier for those that are left: all learn who is lost; see `survivors.agree`."""
        return survivors.agree(self, lost, root, wait_s)

    def _receive(self, source: int, tag: int, out: NDArray[Any] | None) -> Frame:
        member = None if source == ANY_SOURCE else self.member(source)
        wanted = None if tag == ANY_TAG else tag
        mailbox, context = self.mailbox, self.context
        if mailbox.failures:
            mailbox.raise_if_failed(context)
        frame = mailbox.message(context, member, wanted)
        if frame is not None:
            return frame
        if wanted is not None:
            check_tag(wanted)
        if out is not None and member is not None and wanted is not None:
            self._post(member, wanted, out)
        deadline = self.deadline()
        while True:
            sources = (member,) if member is not None else self.others()
            mailbox.await_from(sources, context, deadline)
            frame = mailbox.message(context, member, wanted)
            if frame is not None:
                return frame
            mailbox.see_that_not_all_are_in_a_call(context, sources)

    def _post(self, member: int, tag: int, out: NDArray[Any]) -> None:
        worth_it = out.nbytes >= _WORTH_POSTING and out.flags.c_contiguous and out.flags.writeable
        if worth_it and not self.mailbox.expects(member):
            self.mailbox.post(member, Posted(self.context, _SEND, 0, tag, bytes_of(out)))

    def _scan(self, operation: Operation, obj: Any, op: Op | Function) -> tuple[Any, Any]:
        with Call(self, operation, code_of(op)) as call:
            if isinstance(op, Op) and isinstance(obj, np.ndarray):
                return reducing.scan(call, obj, op)
            return reducing.scan_values(call, obj, op)

    def _root(self, root: int) -> int:
        self.member(root)
        return root

    def _one_each(self, objs: Sequence[Any] | None) -> Sequence[Any]:
        if objs is None or len(objs) != self.size:
            given = "nothing" if objs is None else f"{len(objs)} objects"
            raise ValueError(f"one object for each of the {self.size} ranks is needed, not {given}")
        return objs

    def _counts(self, rows: int, counts: Sequence[int] | None) -> Sequence[int]:
        if counts is None:
            return collectives.even(rows, self.size)
        if len(counts) != self.size or sum(counts) != rows or min(counts) < 0:
            raise ValueError(f"counts must be {self.size} numbers that add up to {rows} rows")
        return counts

    def _joined(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        first = parts[0]
        for rank, each in enumerate(parts):
            if each.dtype != first.dtype or each.shape[1:] != first.shape[1:]:
                raise self.failed(
                    ProtocolError(
                        f"the arrays of ranks 0 and {rank} cannot be joined: {first.dtype}, "
                        f"{first.shape} and {each.dtype}, {each.shape}"
                    )
                )
        return np.concatenate(parts)


class Status:
    """Where a message came from."""

    source: int = ANY_SOURCE
    tag: int = ANY_TAG


def _into(out: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """See that a received array is in `out`.

    Raises:
        ProtocolError: it is another one.
    """
    if frame.header.kind != Kind.ARRAY or frame.description != describe(out.dtype, out.shape):
        raise ProtocolError(
            f"the message is not an array of {out.dtype}, shape {out.shape}, as `out` is"
        )
    in_place = isinstance(frame.payload, memoryview) and id(frame.payload.obj) == id(out)
    if not in_place:
        np.copyto(out, frame.value())
    return out


def _like(out: NDArray[Any], array: NDArray[Any]) -> NDArray[Any]:
    if out.dtype != array.dtype or out.shape != array.shape or not out.flags.c_contiguous:
        raise ValueError(f"out must be a contiguous array of {array.dtype}, shape {array.shape}")
    return out
