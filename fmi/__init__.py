"""Message passing between the functions of one group: ranks, channels, collectives.

    with fmi.connect("127.0.0.1:4000", "group-7", rank, size, token, deadline_s=30) as ranks:
        job = ranks.bcast(job)
        parts = ranks.gather(work(job))

Knows nothing of astronomy, and usable on its own. `fmi.rendezvous.Rendezvous` is run by whoever
starts the ranks.
"""

from fmi.communicator import Communicator, connect
from fmi.errors import FmiError, NoNetwork, PeerLost, ProtocolError, Refused

__all__ = [
    "Communicator",
    "FmiError",
    "NoNetwork",
    "PeerLost",
    "ProtocolError",
    "Refused",
    "connect",
]
