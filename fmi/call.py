"""One call of a collective: its messages, and the check that all ranks make the same call."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from fmi.errors import FmiError, ProtocolError
from fmi.frames import Encoded, Kind, Operation, described
from fmi.mailbox import Frame, Posted
from fmi.notes import Which, different_calls

if TYPE_CHECKING:
    from fmi.communicator import Communicator

NOTHING: Final = Encoded(Kind.BYTES, b"", b"")
_STEPS: Final = 1 << 16


class Call:
    """What an algorithm works with. Ranks are those of the communicator.

    `detail` is what all ranks must agree on besides the operation (the root, or what is folded
    with); it travels in the tag of every message, together with the step of the algorithm.
    """

    __slots__ = ("_context", "_deadline", "_detail", "_mailbox", "_members", "_number", "_op",
                 "_ranks", "rank", "size")  # fmt: skip

    def __init__(self, ranks: Communicator, operation: Operation, detail: int = 0) -> None:
        self.rank, self.size = ranks.rank, ranks.size
        self._ranks, self._op, self._detail = ranks, int(operation), detail << 16
        self._members, self._mailbox, self._context = ranks.members, ranks.mailbox, ranks.context
        self._number = ranks.next_call()
        self._deadline = ranks.deadline()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._mailbox.unpost()
        if isinstance(error, FmiError):
            raise self._ranks.failed(error) from None

    def which(self) -> Which:
        """Which call this is."""
        return Which(self._context, self._op, self._number, self._detail >> 16)

    def others(self) -> list[int]:
        """All other ranks, beginning behind this one, so that not all turn to the same one."""
        return [(self.rank + i) % self.size for i in range(1, self.size)]

    def send(self, dest: int, encoded: Encoded, step: int = 0) -> None:
        """Send a part of this call."""
        if self._mailbox.failures:
            self._mailbox.raise_if_failed(self._context)
        self._mailbox.send(
            self._members[dest],
            self._context,
            self._op,
            self._number,
            self._detail | step % _STEPS,
            encoded,
            self._deadline,
        )

    def expect(self, source: int, view: memoryview, step: int = 0) -> None:
        """Let a part that will be received be written into `view`, if it has its length.

        Parts of one source must be expected in the order in which they come.
        """
        tag = self._detail | step % _STEPS
        posted = Posted(self._context, self._op, self._number, tag, view)
        self._mailbox.post(self._members[source], posted)

    def scratch(self, rows: int, like: NDArray[Any]) -> NDArray[Any]:
        """So many rows of the shape of `like`, for what is not handed out."""
        view = self._mailbox.scratch(rows * like.nbytes)
        return np.ndarray((rows, *like.shape), like.dtype, view)

    def recv(self, source: int, *steps: int) -> Frame:
        """Wait for the part of `source`, which must be one of `steps` (0 unless said).

        Raises:
            ProtocolError: it makes another call.
        """
        member = self._members[source]
        if self._mailbox.failures:
            self._mailbox.raise_if_failed(self._context)
        while True:
            frame = self._mailbox.part(self._context, member)
            if frame is not None:
                self._check(frame, source, steps or (0,))
                return frame
            self._mailbox.await_from((member,), self._context, self._deadline, self)

    def recv_each(self, sources: Collection[int], step: int = 0) -> dict[int, Frame]:
        """Wait for one part of each of `sources`."""
        mailbox, context = self._mailbox, self._context
        waiting = {self._members[source]: source for source in sources}
        frames = dict[int, Frame]()
        mailbox.raise_if_failed(context)
        arrived: Collection[int] = tuple(waiting)
        while True:
            for member in arrived:
                frame = mailbox.part(context, member) if member in waiting else None
                if frame is not None:
                    source = waiting.pop(member)
                    self._check(frame, source, (step,))
                    frames[source] = frame
            if not waiting:
                return frames
            mailbox.arrivals = arrived = []
            try:
                mailbox.await_from(tuple(waiting), context, self._deadline, self)
            finally:
                mailbox.arrivals = None

    def _check(self, frame: Frame, source: int, steps: Collection[int]) -> None:
        header = frame.header
        ours = header.operation == self._op and header.number == self._number
        for step in steps:
            if ours and header.tag == self._detail | step % _STEPS:
                return
        theirs = Which(header.context, header.operation, header.number, header.tag >> 16)
        raise different_calls(self.rank, self.which(), source, theirs)

    def check_like(self, source: int, got: Encoded, own: Encoded) -> None:
        """See that rank `source` came with an array like ours.

        Raises:
            ProtocolError: dtype or shape differ.
        """
        if got.kind != own.kind or got.description != own.description:
            raise ProtocolError(
                f"in call {self._number} ({_name(self._op)}) rank {source} takes part with "
                f"{_what(got)}, rank {self.rank} with {_what(own)}"
            )


def _name(operation: int) -> str:
    return Operation(operation).name.lower()


def _what(encoded: Encoded) -> str:
    if encoded.kind != Kind.ARRAY:
        return "an object that is no array"
    dtype, shape, _ = described(encoded.description)
    return f"an array of {dtype}, shape {shape}"
