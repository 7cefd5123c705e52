"""What can go wrong between ranks.

FmiError
├── PeerLost           ranks are gone, or silent until the deadline; carries which
├── Aborted            a rank called `abort`, or failed; carries which
├── Refused            the rendezvous, the relay or a peer does not let this rank in
├── NoNetwork          this machine does not let the rank listen or take calls
├── ChannelBroken      the store or server that carries the messages does not work
└── ProtocolError      the ranks do not run the same program: order, shape or size differ
"""

from __future__ import annotations

from collections.abc import Iterable


class FmiError(Exception):
    """Root of the errors of this package."""


class PeerLost(FmiError):
    """Ranks that are gone, or said nothing until the deadline.

    `ranks` are those of the communicator, `in_group` the same as the whole group numbers them. A
    part of a group ends with the group, also when none of its own ranks is lost: then `ranks` is
    empty.
    """

    def __init__(
        self, ranks: Iterable[int], why: str, in_group: Iterable[int] | None = None
    ) -> None:
        self.ranks, self.why = tuple(sorted(set(ranks))), why
        self.in_group = self.ranks if in_group is None else tuple(sorted(set(in_group)))
        who = ", ".join(map(str, self.ranks or self.in_group))
        super().__init__(f"lost rank {who}{'' if self.ranks else ' of the whole group'}: {why}")


class Aborted(FmiError):
    """A rank ended the work of all: it called `abort`, or failed in the middle of an operation."""

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(f"rank {rank} ended the work of the group: {why}")
        self.rank, self.why = rank, why


class Refused(FmiError):
    """The rendezvous, the relay or a peer does not let this rank in."""


class NoNetwork(FmiError):
    """The machine does not let a rank listen or take calls."""


class ChannelBroken(FmiError):
    """What carries the messages does not work: a store that is down, full, or not ours."""


class ProtocolError(FmiError):
    """The ranks do not run the same program: operation, order, shape or size differ.

    Also: what was to be sent does not travel.
    """
