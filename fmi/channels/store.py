"""How ranks that share nothing but a store meet: they agree on a run that no earlier one had.

A store keeps what a crashed run left, and a group may come again under its old name. So nothing
that lies there is believed, unless it names a number that was drawn just now:

1. Rank 0 draws a number, the run, and writes it on the group's page, the hall.
2. The others answer every run they find in the hall, those of dead ranks too, each with a number
   of its own. What they write to a dead run nobody reads.
3. Rank 0 counts the answers to its run. None of them is older than the run.
4. It writes its verdict, which lists the numbers of all it is for. A rank obeys the verdict that
   lists its number, so none that was written for others.

Access to the store is all that is asked of a rank; there is no token. Two runs of one group name
at the same time are the caller's mistake. Where they are seen (one rank there twice, rank 0 too)
all are refused; they never read each other's messages, as those lie under their run.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import msgpack

from fmi.deadline import Deadline
from fmi.errors import PeerLost, ProtocolError, Refused
from fmi.frames import run_id

NUMBER: Final = 8  # bytes

# What rank 0 leaves of the time, for its verdict to reach the others before they give up.
_VERDICT_SHARE: Final = 0.15
_VERDICT_S: Final = 1.0


class Board(Protocol):
    """Pages in a store: all may write, and all read everything. A page begins when written to."""

    def write(self, page: str, note: bytes) -> None:
        """Add a note.

        Raises:
            ChannelBroken: the store does not work.
        """

    def read(self, pages: Collection[str], seconds: float) -> list[tuple[str, bytes]]:
        """Notes on these pages that were not returned before, each with its page.

        Waits for one for `seconds`.

        Raises:
            ChannelBroken: the store does not work.
        """

    def erase(self, page: str) -> None:
        """Take back what this rank wrote on a page.

        Raises:
            ChannelBroken: the store does not work.
        """


def answers(run: bytes) -> str:
    """The page that rank 0 reads during the meeting of a run."""
    return f"{run.hex()}/answers"


def verdict(run: bytes) -> str:
    """The page on which rank 0 tells the others what came of it."""
    return f"{run.hex()}/verdict"


def meet(board: Board, group: str, rank: int, size: int, deadline: Deadline) -> bytes:
    """Wait for all ranks of `group`; the number of the run on which they agreed.

    The answer of each rank to that run stays until it is erased: as long as one is there, a rank
    is, too.

    Raises:
        PeerLost: some ranks did not come; raised on every rank that did.
        Refused: the ranks do not agree on the group's size, or one is there twice.
        ChannelBroken: the store does not work.
    """
    meeting = _Meeting(board, f"hall/{run_id(group).hex()}", rank, size, deadline)
    agreed = b""
    try:
        agreed = meeting.attend() if rank else meeting.lead()
    finally:
        for run in meeting.answered - {agreed}:
            board.erase(answers(run))
    return agreed


class _Answer(NamedTuple):
    """What a rank says to a run that it found in the hall."""

    rank: int
    size: int
    number: bytes  # its own, drawn for this meeting
    left_s: float  # how long it will wait

    def pack(self) -> bytes:
        return bytes(msgpack.packb(self))


class _Verdict(NamedTuple):
    """What came of a meeting. All is well if nobody is missing and there is no objection."""

    numbers: list[bytes]  # whom it is for
    missing: list[int]
    objection: str

    def pack(self) -> bytes:
        return bytes(msgpack.packb(self))

    def obey(self) -> None:
        if self.objection:
            raise Refused(self.objection)
        if self.missing:
            raise PeerLost(self.missing, "it did not come to the meeting of the group in time")


@dataclass(slots=True)
class _Meeting:
    board: Board
    hall: str
    rank: int
    size: int
    deadline: Deadline
    number: bytes = field(default_factory=lambda: secrets.token_bytes(NUMBER))  # rank 0's: the run
    answered: set[bytes] = field(default_factory=set)  # runs
    verdicts: dict[str, bytes] = field(default_factory=dict)  # pages to read, and their runs

    def attend(self) -> bytes:
        """What all ranks but 0 do."""
        while left := self.deadline.left_or_zero():
            for page, note in self.board.read((self.hall, *self.verdicts), left):
                if page == self.hall:
                    self._find(note)
                elif told := self._for_us(note):
                    told.obey()
                    return self.verdicts[page]
        raise PeerLost((0,), "it did not come to the meeting of the group, or died there")

    def lead(self) -> bytes:
        """What rank 0 does. If it finds another run in the hall it answers it, too.

        If that is alive it sees rank 0 twice, and its objection comes back to here.
        """
        own, came, objection = answers(self.number), dict[int, set[bytes]](), ""
        end = _before(self.deadline.left_or_zero())
        self._answer(self.number)
        self.board.write(self.hall, self.number)
        try:
            while len(came) < self.size and not objection and (left := end.left_or_zero()):
                for page, note in self.board.read((self.hall, own, *self.verdicts), left):
                    if page == own:
                        answer = _Answer(*_unpack(note))
                        came.setdefault(answer.rank, set()).add(answer.number)
                        objection = objection or self._objection(answer, came)
                        end = min(end, _before(answer.left_s), key=lambda each: each.at)
                    elif page == self.hall:
                        self._find(note)
                    elif told := self._for_us(note):
                        objection = told.objection
        finally:
            self.board.erase(self.hall)
        numbers = [number for each in came.values() for number in each]
        told = _Verdict(numbers, sorted(set(range(self.size)) - came.keys()), objection)
        self.board.write(verdict(self.number), told.pack())
        told.obey()
        return self.number

    def _find(self, run: bytes) -> None:
        """Answer a run of the hall, if it is not this rank's own."""
        if len(run) == NUMBER and run != self.number:
            self.verdicts[verdict(run)] = run
            self._answer(run)

    def _answer(self, run: bytes) -> None:
        self.answered.add(run)
        answer = _Answer(self.rank, self.size, self.number, self.deadline.left_or_zero())
        self.board.write(answers(run), answer.pack())

    def _for_us(self, note: bytes) -> _Verdict | None:
        told = _Verdict(*_unpack(note))
        return told if self.number in told.numbers else None

    def _objection(self, answer: _Answer, came: dict[int, set[bytes]]) -> str:
        if answer.size != self.size or not 0 <= answer.rank < self.size:
            return (
                f"rank {answer.rank} wants a group of {answer.size}, rank 0 one of {self.size}: "
                "give every rank the same size"
            )
        if len(came[answer.rank]) > 1:
            return (
                f"rank {answer.rank} is there twice: give every run that is under way a group name "
                "of its own, and every rank its own number"
            )
        return ""


def _before(left_s: float) -> Deadline:
    """When rank 0 must speak for one that waits so long to hear it."""
    return Deadline.after(left_s - min(_VERDICT_S, _VERDICT_SHARE * left_s))


def _unpack(note: bytes) -> list[Any]:
    try:
        fields = msgpack.unpackb(note)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"a note of the group's meeting cannot be read: {error}") from error
    if not isinstance(fields, list):
        raise ProtocolError("a note of the group's meeting is none of this release")
    return fields
