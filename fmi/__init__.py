"""Message passing between the functions of one group: ranks, channels, collectives.

    with fmi.connect_blocking("group-7", rank, size, fmi.Direct(address, token)) as ranks:
        total = ranks.allreduce(work(ranks.bcast(job)))

Knows nothing of astronomy, and usable on its own. `fmi.Rendezvous` is run by whoever
starts the ranks.
"""

from fmi.aio import AsyncCommunicator
from fmi.channels.direct import Direct, Relay
from fmi.channels.memory import Memory
from fmi.channels.redis import Redis
from fmi.channels.s3 import S3
from fmi.channels.shared import Shared
from fmi.choosing.calibration import calibrate
from fmi.choosing.decision import Choice, Workload
from fmi.choosing.models import Costs
from fmi.communicator import ANY_SOURCE, ANY_TAG, Communicator, Status
from fmi.connecting import connect, connect_blocking
from fmi.errors import (
    Aborted,
    ChannelBroken,
    FmiError,
    NoNetwork,
    PeerLost,
    ProtocolError,
    Refused,
)
from fmi.meeting.rendezvous import Limits, Rendezvous
from fmi.meeting.tls import Tls
from fmi.reductions import BAND, BOR, BXOR, LAND, LOR, LXOR, MAX, MIN, PROD, SUM, Op

__all__ = [
    "ANY_SOURCE",
    "ANY_TAG",
    "BAND",
    "BOR",
    "BXOR",
    "LAND",
    "LOR",
    "LXOR",
    "MAX",
    "MIN",
    "PROD",
    "S3",
    "SUM",
    "Aborted",
    "AsyncCommunicator",
    "ChannelBroken",
    "Choice",
    "Communicator",
    "Costs",
    "Direct",
    "FmiError",
    "Limits",
    "Memory",
    "NoNetwork",
    "Op",
    "PeerLost",
    "ProtocolError",
    "Redis",
    "Refused",
    "Relay",
    "Rendezvous",
    "Shared",
    "Status",
    "Tls",
    "Workload",
    "calibrate",
    "connect",
    "connect_blocking",
]
