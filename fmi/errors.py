"""What can go wrong between ranks.

FmiError
├── PeerLost           a rank is gone or silent; carries which
├── Refused            the rendezvous or a peer does not let this rank in
├── NoNetwork          this machine does not let the rank listen
└── ProtocolError      the ranks do not run the same program: order, tag or size differ
"""

from __future__ import annotations


class FmiError(Exception):
    """Root of the errors of this package."""


class PeerLost(FmiError):
    """Ranks that closed their connection, or said nothing until the deadline."""

    def __init__(self, ranks: tuple[int, ...], why: str) -> None:
        super().__init__(f"lost rank {', '.join(map(str, ranks))}: {why}")
        self.ranks = ranks


class Refused(FmiError):
    """The rendezvous or a peer does not let this rank in: wrong token, closed or full group."""


class NoNetwork(FmiError):
    """The machine does not let a rank listen or take calls."""


class ProtocolError(FmiError):
    """The ranks do not run the same program: operation, order or size differ.

    Also: what was to be sent does not travel.
    """
