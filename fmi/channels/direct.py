"""The channels over the network: TCP from rank to rank, or through the relay of the rendezvous."""

from __future__ import annotations

from dataclasses import dataclass

from fmi.channels.stream import StreamChannel
from fmi.deadline import Deadline
from fmi.frames import run_id
from fmi.meeting.mesh import Ways, open_mesh
from fmi.meeting.tls import Tls


@dataclass(frozen=True, slots=True)
class Direct:
    """TCP between the ranks, through NATs that keep ports.

    `rendezvous` is "host:port", `token` what its `admit` returned for the group. A pair that cannot
    connect talks through the relay, unless `relay` is False. A rendezvous that goes away while the
    ranks meet is waited for for `restart_s`.
    """

    rendezvous: str
    token: str
    relay: bool = True
    tls: Tls | None = None
    restart_s: float = 5.0
    name = "direct"

    def open(self, group: str, rank: int, size: int, deadline: Deadline) -> StreamChannel:
        """See `Transport.open`."""
        ways = Ways.DIRECT_OR_RELAY if self.relay else Ways.DIRECT
        return _open(self, group, rank, size, deadline, ways)


@dataclass(frozen=True, slots=True)
class Relay:
    """Everything through the relay, which runs at the rendezvous: ranks only call out."""

    rendezvous: str
    token: str
    tls: Tls | None = None
    restart_s: float = 5.0
    name = "relay"

    def open(self, group: str, rank: int, size: int, deadline: Deadline) -> StreamChannel:
        """See `Transport.open`."""
        return _open(self, group, rank, size, deadline, Ways.RELAY)


def _open(
    way: Direct | Relay, group: str, rank: int, size: int, deadline: Deadline, ways: Ways
) -> StreamChannel:
    sockets = open_mesh(
        way.rendezvous,
        group,
        rank,
        size,
        way.token,
        deadline,
        ways=ways,
        tls=way.tls,
        restart_s=way.restart_s,
    )
    return StreamChannel(rank, size, run_id(group, way.token), sockets)
