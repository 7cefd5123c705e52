"""Being one of a group: who the others are, how to leave, and how all learn what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from fmi.channels.protocol import Channel
from fmi.choosing.decision import Choice
from fmi.deadline import Deadline
from fmi.errors import Aborted, FmiError, PeerLost, ProtocolError
from fmi.frames import Operation, encode
from fmi.mailbox import Mailbox
from fmi.notes import write_failure
from fmi.pulse import Pulse

_TELL_S: Final = 0.25  # to tell one rank of a failure


class Membership:
    """What a communicator is besides its operations. `members` are ranks of the channel."""

    def __init__(
        self,
        mailbox: Mailbox,
        pulse: Pulse,
        members: Sequence[int],
        context: int,
        deadline_s: float,
        parent: Membership | None = None,
    ) -> None:
        self.mailbox, self.members, self.context = mailbox, tuple(members), context
        self._parent = parent
        if parent:
            mailbox.parents[context] = parent.context
        self.rank, self.size = self.members.index(mailbox.channel.rank), len(self.members)
        self.deadline_s = deadline_s
        self.choice: Choice | None = None  # why it is on this channel, where there were several
        self._pulse, self._calls, self._told, self._left = pulse, 0, False, False
        self.rank_of = {member: rank for rank, member in enumerate(self.members)}

    @classmethod
    def over(cls, channel: Channel, deadline_s: float) -> Self:
        """The communicator of all ranks on a channel that is open."""
        mailbox = Mailbox(channel)
        return cls(mailbox, Pulse(mailbox).start(), range(channel.size), 0, deadline_s)

    def abort(self, why: str = "abort was called") -> None:
        """End the work of all ranks: whatever they are in raises `Aborted`, here and there."""
        self._tell(Aborted(self.mailbox.channel.rank, why))

    def interrupt(self, why: str) -> None:
        """Let whatever this rank waits for raise `Aborted`. May be called from another thread."""
        self.mailbox.end(why)

    def close(self) -> None:
        """Leave the group. What was sent still arrives; waits for that until the deadline.

        Raises:
            ProtocolError: another rank took part in a call that this one never made.
        """
        forgotten = None
        if not self._left and not self.mailbox.failure(self.context):
            with suppress(FmiError):
                self.mailbox.channel.wait(self.others(), 0)
            forgotten = next(self.mailbox.leftovers(self.context), None)
        self.leave("it left the group", done=True)
        if forgotten:
            header = forgotten.header
            raise ProtocolError(
                f"rank {self.rank_of[header.source]} takes part in call {header.number} "
                f"({Operation(header.operation).name.lower()}), which rank {self.rank} never made"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.leave(f"it failed: {type(error).__name__}: {error}"[:500])

    # For the rest of this package.

    def part(self, members: Sequence[int], context: int, parent: Membership | None = None) -> Self:
        """A communicator of some of the channel's ranks; `parent` needs all of them."""
        return type(self)(self.mailbox, self._pulse, members, context, self.deadline_s, parent)

    def deadline(self, wait_s: float | None = None) -> Deadline:
        """When an operation that begins now must be over."""
        return Deadline.after(self.deadline_s if wait_s is None else wait_s)

    def next_call(self) -> int:
        """The number of the next collective: the same on every rank."""
        self._calls = (self._calls + 1) & 0xFFFFFFFF
        return self._calls

    def failed(self, error: FmiError) -> FmiError:
        """The error to raise: all ranks are told, and what another one reported goes first."""
        self.mailbox.unpost()
        with suppress(FmiError):
            self.mailbox.channel.wait(self.members, 0)
        known = self.mailbox.failure(self.context) or self._with_reason(error)
        self._tell(known)
        return self.local(known)

    def _with_reason(self, error: FmiError) -> FmiError:
        """What a lost rank said when it left tells more than that it does not answer."""
        if isinstance(error, PeerLost) and len(error.ranks) == 1:
            return PeerLost(error.ranks, self.mailbox.gone(error.ranks[0]) or error.why)
        return error

    def local(self, error: FmiError) -> FmiError:
        """An error with ranks of this communicator in place of the channel's."""
        if isinstance(error, PeerLost):
            ranks = [self.rank_of[each] for each in error.ranks if each in self.rank_of]
            return PeerLost(ranks, error.why, error.ranks)
        if isinstance(error, Aborted):
            return Aborted(self.rank_of.get(error.rank, error.rank), error.why)
        return type(error)(*error.args)

    def _tell(self, error: FmiError) -> None:
        """Let all other ranks know, once; who lost a rank of a part lost it for the whole."""
        self.mailbox.failures.setdefault(self.context, error)
        if isinstance(error, PeerLost):
            self.mailbox.lost.update(set(error.ranks) - {self.members[self.rank]})
        if self._told:
            return
        self._told = True
        if self._parent and isinstance(error, PeerLost):
            self._parent._tell(error)  # noqa: SLF001
        notice = write_failure(error)
        # Who was given up may only be slow, and is told, too, when all others know.
        for member in sorted(self.members, key=self.mailbox.lost.__contains__):
            if member == self.members[self.rank] or self.mailbox.gone(member):
                continue
            with suppress(FmiError):
                self.mailbox.tell(member, self.context, Operation.FAILED, notice, _TELL_S)

    def leave(self, why: str, *, done: bool = False) -> None:
        """Leave the group, and let the others know why."""
        if self.context or self._left:
            return  # a part of a group ends with it
        self._left = True
        self._pulse.stop()
        deadline = self.deadline()
        notice = encode((done, why))
        for member in self.members:
            if member in self.mailbox.lost or self.mailbox.gone(member):
                continue
            if member != self.members[self.rank]:
                with suppress(FmiError):
                    self.mailbox.tell(member, 0, Operation.LEAVE, notice, deadline.left_or_zero())
        self.mailbox.channel.close(deadline, self.mailbox.lost)

    def member(self, rank: int) -> int:
        """The channel's number of a rank.

        Raises:
            ValueError: there is no such rank.
        """
        if not 0 <= rank < self.size:
            raise ValueError(f"there is no rank {rank}: the group has ranks 0 to {self.size - 1}")
        return self.members[rank]

    def others(self) -> tuple[int, ...]:
        """Of whom a message may still come; all, if of nobody."""
        others = [each for each in self.members if each != self.members[self.rank]]
        return tuple(each for each in others if each not in self.mailbox.done) or tuple(others)
