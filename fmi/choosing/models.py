"""What a channel costs: seconds and dollars, the only two units here.

The time of an operation is

    rounds x latency + queued messages x handling + the longer of
    bytes through the busiest rank / its bandwidth and all bytes / what the ranks share,

with the numbers of messages and bytes that `traffic` reads off the algorithms. Adding up arrays
is left out: it costs 0.05 ms per MiB, and the same on every channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fmi.choosing.traffic import Traffic, traffic

GIB_SECOND_DOLLARS: Final = 1.66667e-5  # AWS Lambda, eu-central-1
_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one channel costs. Times in seconds, prices in dollars.

    Attributes:
        latency_s: from `send` on one rank to the end of `recv` on another, for a small message.
        byte_s: per byte between two ranks that have the channel to themselves: 1 / bandwidth.
        message_s: for which a further message keeps a rank busy that sends or receives many.
        shared_byte_s: per byte of all ranks through what they share (a store, a relay, the cores
            of one host): 1 / aggregate bandwidth. 0: they share nothing.
        put_dollars, get_dollars: per request that writes, and that reads or looks.
        gets: requests of the second kind for each message, those that come too early included.
        gb_dollars: per 10^9 bytes that are sent.
        server_dollars_h: per hour of the server. It is counted while a call runs, as though no
            other group used it; the hours it idles are nobody's.
        source: where the times come from, for whoever reads the figures.
    """

    latency_s: float
    byte_s: float
    message_s: float
    shared_byte_s: float = 0.0
    put_dollars: float = 0.0
    get_dollars: float = 0.0
    gets: float = 1.0
    gb_dollars: float = 0.0
    server_dollars_h: float = 0.0
    source: str = "given"

    def seconds(self, operation: str, ranks: int, size: int) -> float:
        """How long a call of `operation` takes, for arguments as in `traffic.traffic`."""
        return self._seconds(traffic(operation, ranks, size))

    def dollars(self, operation: str, ranks: int, size: int, memory_gib: float) -> float:
        """What a call costs: functions of `memory_gib` that wait, requests, traffic and server."""
        what = traffic(operation, ranks, size)
        seconds = self._seconds(what)
        functions = ranks * seconds * memory_gib * GIB_SECOND_DOLLARS
        requests = what.messages * (self.put_dollars + self.gets * self.get_dollars)
        moved = what.total / 1e9 * self.gb_dollars
        return functions + requests + moved + seconds * self.server_dollars_h / _HOUR_S

    def _seconds(self, what: Traffic) -> float:
        moving = max(what.busiest * self.byte_s, what.total * self.shared_byte_s)
        return what.rounds * self.latency_s + what.queued * self.message_s + moving


# Latency and bandwidth of direct, redis and s3 are the fits that the authors of FMI (ICS'23) made
# to their measurements between AWS Lambda functions of 2 GiB, and the prices are those that they
# took, of eu-central-1. The servers are one ElastiCache node, and one small machine for rendezvous
# and relay. Traffic is free within an availability zone: give `gb_dollars` where ranks and server
# are in different ones (0.02 when this was written). Nobody has measured the relay there: it is
# twice the way of direct, through one machine. How long a message keeps a rank busy, and memory
# and shared, were measured with this package on one host of two cores; for s3 it is a request of
# 40 ms of which eight run at a time.
DEFAULTS: Final[Mapping[str, Costs]] = MappingProxyType(
    {
        "memory": Costs(latency_s=30e-6, byte_s=1 / 3e9, message_s=15e-6, source="default"),
        "shared": Costs(latency_s=20e-6, byte_s=1 / 2e9, message_s=15e-6, source="default"),
        "direct": Costs(
            latency_s=0.34e-3,
            byte_s=1 / 400e6,
            message_s=15e-6,
            server_dollars_h=0.0134,
            source="default",
        ),
        "relay": Costs(
            latency_s=0.68e-3,
            byte_s=1 / 200e6,
            message_s=30e-6,
            shared_byte_s=1 / 200e6,
            server_dollars_h=0.0134,
            source="default",
        ),
        "redis": Costs(
            latency_s=5.2e-3,
            byte_s=1 / 100e6,
            message_s=60e-6,
            shared_byte_s=1 / 400e6,
            server_dollars_h=0.038,
            source="default",
        ),
        "s3": Costs(
            latency_s=40.4e-3,
            byte_s=1 / 50e6,
            message_s=5e-3,
            put_dollars=5.4e-6,
            get_dollars=4.3e-7,
            gets=3.0,
            source="default",
        ),
    }
)

# Of a channel that this package does not know: free, and as slow as a network may be.
UNKNOWN: Final = Costs(latency_s=1e-3, byte_s=1 / 100e6, message_s=50e-6, source="a guess")


def costs_of(channel: str, given: Mapping[str, Costs] | None = None) -> Costs:
    """The costs of a channel until it is calibrated: those that are given, or the defaults."""
    return (given or {}).get(channel) or DEFAULTS.get(channel, UNKNOWN)
