"""What the ranks that are left can do: collect, agree on who is lost, and go on without them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from fmi.deadline import Deadline
from fmi.errors import PeerLost, ProtocolError
from fmi.frames import Operation, decode, encode
from fmi.mailbox import Frame

if TYPE_CHECKING:
    from fmi.communicator import Communicator

# A root that collects and then tells who is lost must be done before those it tells give up: they
# wait for one deadline. What these two leave of it is for ranks that do not call at one moment.
GATHER_SHARE: Final = 0.6
REPORT_SHARE: Final = 0.2
_DECIDE_SHARE: Final = 0.5  # of what is left, for the survivors to report to the one who decides
_REPORT: Final = 1
_JOIN, _DECIDED = 1, 2


def gather(
    ranks: Communicator, obj: Any, root: int, wait_s: float | None
) -> tuple[dict[int, Any] | None, tuple[int, ...]]:
    """Collect at the root what the ranks that are still there send.

    Returns the parts by rank (None elsewhere than at the root) and the lost ranks. The root takes
    each part as it comes, and waits `wait_s` seconds at most; 60 % of `deadline_s` unless said
    otherwise, so that `agree` can tell the others in time. The others wait `wait_s`, or else
    `deadline_s`, for the root to take their part.

    Raises:
        PeerLost: the root is gone (raised on the others).
    """
    with _tolerant(ranks, 0) as call:
        if ranks.rank != root:
            call.send_within(root, encode(obj), ranks.deadline(wait_s))
            return None, ()
        share_s = GATHER_SHARE * ranks.deadline_s if wait_s is None else wait_s
        parts = call.collect(Deadline.after(share_s))
    values = {rank: frame.value() for rank, frame in parts.items()}
    values[root] = obj
    return dict(sorted(values.items())), _not_among(ranks, values)


def agree(
    ranks: Communicator, lost: Sequence[int], root: int, wait_s: float | None
) -> tuple[int, ...]:
    """A barrier for the ranks that are left: all learn from the root who is lost.

    They report to the root, and the root sends all that reported one and the same list, which
    every one of them returns: `lost` as the root passes it, and who did not report. The root waits
    for reports for 20 % of `wait_s` at most, the others wait `wait_s` seconds for the list;
    `deadline_s` unless said otherwise. After a `gather` all are told in time if those that are left
    called it within 15 % of `deadline_s` of each other.

    A rank that dies after its report is in nobody's list: the next operation finds it. If the root
    dies while it sends the list, some have it and the others raise. No number of rounds would
    change that for the last one.

    Raises:
        PeerLost: the root is gone, or silent for `wait_s`.
    """
    deadline = ranks.deadline(wait_s)
    with _tolerant(ranks, _REPORT) as call:
        if ranks.rank != root:
            call.send_within(root, encode(None), deadline)
            agreed = tuple(call.take(root, deadline).value())
            ranks.mailbox.lost.update(ranks.members[each] for each in agreed)
            return agreed
        ranks.mailbox.lost.update(ranks.members[each] for each in lost)
        reported = call.collect(Deadline.after(REPORT_SHARE * deadline.left_or_zero()))
        agreed = _not_among(ranks, {root, *reported})
        ranks.mailbox.lost.update(ranks.members[each] for each in agreed)
        for dest in reported:
            with suppress(PeerLost):  # the others have this list already, or will
                call.send_within(dest, encode(agreed), deadline)
        return agreed


class _tolerant:  # noqa: N801  reads as a verb where it is used
    """A round among survivors: a rank that is lost costs its own part and nothing else.

    Unlike in a `Call`, nobody else is told, and what another rank reported ends nothing.
    """

    def __init__(self, ranks: Communicator, tag: int) -> None:
        self._ranks, self._tag, self._number = ranks, tag, ranks.next_call()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, PeerLost):
            self._ranks.mailbox.lost.update(error.ranks)
            raise self._ranks.local(error) from None

    def send_within(self, dest: int, encoded: Any, deadline: Deadline) -> None:
        """Send to a rank."""
        ranks = self._ranks
        ranks.mailbox.send(
            ranks.members[dest], ranks.context, Operation.SURVIVORS, self._number, self._tag,
            encoded, deadline,
        )  # fmt: skip

    def take(self, source: int, deadline: Deadline) -> Frame:
        """Wait for one rank.

        Raises:
            PeerLost: it is gone.
            ProtocolError: it calls another operation.
        """
        ranks, member = self._ranks, self._ranks.members[source]
        while True:
            frame = ranks.mailbox.part(ranks.context, member)
            if frame is not None:
                return self._checked(frame)
            ranks.mailbox.await_from((member,), None, deadline)

    def collect(self, deadline: Deadline) -> dict[int, Frame]:
        """What each other rank says until the deadline; those that are lost are left out."""
        ranks, mailbox = self._ranks, self._ranks.mailbox
        waiting = {m: r for r, m in enumerate(ranks.members) if r != ranks.rank}
        parts = dict[int, Frame]()
        while True:
            for member, rank in list(waiting.items()):
                frame = None if member in mailbox.lost else mailbox.part(ranks.context, member)
                if frame is not None:
                    parts[rank] = self._checked(frame)
                if frame is not None or member in mailbox.lost:
                    del waiting[member]
            if not waiting:
                return parts
            try:
                mailbox.await_from(tuple(waiting), None, deadline)
            except PeerLost as error:
                over = not deadline.left_or_zero()
                mailbox.lost.update(waiting if over else waiting.keys() & set(error.ranks))

    def _checked(self, frame: Frame) -> Frame:
        header = frame.header
        if (header.operation, header.number, header.tag) != (
            Operation.SURVIVORS,
            self._number,
            self._tag,
        ):
            raise ProtocolError(
                f"rank {self._ranks.rank} is in call {self._number} (among survivors) and another "
                f"one in call {header.number} ({Operation(header.operation).name.lower()}): "
                "the ranks call different operations"
            )
        return frame


def _not_among(ranks: Communicator, present: Collection[int]) -> tuple[int, ...]:
    return tuple(rank for rank in range(ranks.size) if rank not in present)


def shrink(ranks: Communicator) -> Communicator:
    """A communicator of the ranks that are left.

    All report to the lowest rank that is left; that one decides who is in and tells them. If it
    dies meanwhile, the next lowest takes its place. A rank that anybody has given up is out. A
    barrier of the new communicator shows that all are there; if one died since, they shrink again.

    Raises:
        PeerLost: this rank was given up by the others, or nobody answers until the deadline.
    """
    deadline = ranks.deadline()
    mailbox, own = ranks.mailbox, ranks.members[ranks.rank]
    mailbox.lost.update(each for each in ranks.members if mailbox.gone(each) and each != own)
    joined: dict[int, int] = {}
    asked: set[int] = set()
    while True:
        left = [each for each in ranks.members if each not in mailbox.lost]
        if left[0] == own:
            members, context = _decide(ranks, joined, deadline)
            break
        if left[0] not in asked:
            asked.add(left[0])
            with suppress(PeerLost):
                given_up = sorted(mailbox.lost)
                _say(ranks, left[0], _JOIN, (given_up, mailbox.next_context), deadline)
        decision = _await_decision(ranks, left[0], joined, deadline)
        if decision is not None:
            members, context = decision
            break
    if own not in members:
        raise PeerLost((ranks.rank,), "the others went on without this rank: it was too slow")
    mailbox.next_context = context + 1
    mailbox.lost.update(set(ranks.members) - set(members))
    smaller = ranks.part(members, context)
    try:
        smaller.barrier()
    except PeerLost:
        return shrink(smaller)
    return smaller


def _decide(
    ranks: Communicator, joined: dict[int, int], deadline: Deadline
) -> tuple[list[int], int]:
    """As the lowest rank left: wait for the others, and tell them who is in."""
    mailbox, own = ranks.mailbox, ranks.members[ranks.rank]
    share = Deadline.after(_DECIDE_SHARE * deadline.left_or_zero())
    while True:
        _take_in(ranks, joined)
        missing = [
            each
            for each in ranks.members
            if each != own and each not in mailbox.lost and each not in joined
        ]
        if not missing:
            break
        try:
            mailbox.await_from(missing, None, share)
        except PeerLost as error:
            over = not share.left_or_zero()
            mailbox.lost.update(missing if over else error.ranks)
    context = max([mailbox.next_context, *joined.values()])
    members = [each for each in ranks.members if each == own or each in joined]
    members = [each for each in members if each not in mailbox.lost]
    for each in joined:
        with suppress(PeerLost):
            _say(ranks, each, _DECIDED, (members, context), deadline)
    return members, context


def _await_decision(
    ranks: Communicator, decider: int, joined: dict[int, int], deadline: Deadline
) -> tuple[list[int], int] | None:
    """What `decider` decided; None if it is gone, or another one must decide."""
    mailbox = ranks.mailbox
    while decider not in mailbox.lost:
        decision = _take_in(ranks, joined)
        if decision is not None:
            return decision
        if not deadline.left_or_zero():
            raise PeerLost((ranks.members.index(decider),), "it does not say who is left")
        try:
            mailbox.await_from((decider,), None, deadline)
        except PeerLost as error:
            mailbox.lost.update(error.ranks)
            mailbox.lost.add(decider)
    return None


def _take_in(ranks: Communicator, joined: dict[int, int]) -> tuple[list[int], int] | None:
    """What arrived: reports are noted, a decision is returned."""
    mailbox, own = ranks.mailbox, ranks.members[ranks.rank]
    while mailbox.about_survivors:
        frame = mailbox.about_survivors.popleft()
        if frame.header.context != ranks.context:
            continue
        first, context = decode(frame.header.kind, frame.description, frame.payload)
        if frame.header.tag == _DECIDED:
            return first, context
        joined[frame.header.source] = context
        mailbox.lost.update(set(first) - {own})
    return None


def _say(ranks: Communicator, dest: int, what: int, value: Any, deadline: Deadline) -> None:
    ranks.mailbox.tell(
        dest, ranks.context, Operation.SHRINK, encode(value), deadline.left_or_zero(), what
    )
