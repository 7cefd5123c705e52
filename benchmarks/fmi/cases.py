"""What is measured, and what came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20

# Systems, as tables call them.
DIRECT: Final = "direct"
ASYNCIO: Final = "direct, asyncio"
SHARED: Final = "shared"
REDIS: Final = "redis"
OPENMPI: Final = "openmpi"
SOCKET: Final = "socket"
BARE_REDIS: Final = "bare redis"
SYSTEMS: Final = (DIRECT, ASYNCIO, SHARED, REDIS, OPENMPI, SOCKET, BARE_REDIS)


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one size."""

    what: str
    nbytes: int = 0

    def __str__(self) -> str:
        """As in the first column of a table."""
        return f"{self.what} {_size(self.nbytes)}" if self.nbytes else self.what

    @property
    def by_pairs(self) -> bool:
        """Whether two ranks talk, and the first of them times it."""
        return self.what in ("ping", "stream")


def _size(nbytes: int) -> str:
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if nbytes >= unit:
            return f"{nbytes // unit} {name}"
    return f"{nbytes} B"


PING: Final = Case("ping", 8)
STREAM: Final = Case("stream", 16 * MIB)
ALLREDUCE: Final = Case("allreduce", MIB)
BARRIER: Final = Case("barrier")
SET_UP: Final = Case("set-up")
ALL: Final = (
    SET_UP,
    PING,
    Case("ping", KIB),
    Case("ping", MIB),
    STREAM,
    *(Case(what, size) for what in ("bcast", "allreduce", "gather") for size in (KIB, MIB)),
    BARRIER,
)


def covers(system: str, case: Case) -> bool:
    """Whether a system has this operation here."""
    if case == SET_UP:
        return system in (DIRECT, SHARED, REDIS)
    if system in (SOCKET, BARE_REDIS):
        return case.by_pairs
    return system != ASYNCIO or case.by_pairs or case.what == "allreduce"


Key = tuple[int, Case, str]  # ranks, case, system


@dataclass(slots=True)
class Figures:
    """Seconds of each iteration, by round."""

    rounds: dict[Key, list[list[float]]] = field(default_factory=dict)

    def __contains__(self, key: Key) -> bool:
        return key in self.rounds

    def median_s(self, key: Key) -> float:
        """Median over all iterations."""
        return median(self._all(key))

    def lowest_s(self, key: Key) -> float:
        """The lowest tenth: what it takes when little else runs."""
        times = self._all(key)
        return quantiles(times, n=10, method="inclusive")[0] if len(times) > 1 else times[0]

    def ratio(self, ranks: int, case: Case, system: str, peer: str) -> float:
        """How many times longer `system` takes than `peer`: median over the rounds."""
        pairs = zip(self.rounds[ranks, case, system], self.rounds[ranks, case, peer], strict=True)
        return median(median(one) / median(other) for one, other in pairs)

    def _all(self, key: Key) -> list[float]:
        return [seconds for times in self.rounds[key] for seconds in times]


def headline(figures: Figures) -> dict[str, float]:
    """What the targets are about: times ours / peer, bandwidth ours / peer, and milliseconds."""
    return {
        "ping_8B_vs_socket": figures.ratio(2, PING, DIRECT, SOCKET),
        "bandwidth_16MiB_vs_socket": 1 / figures.ratio(2, STREAM, DIRECT, SOCKET),
        "allreduce_1MiB_vs_openmpi": figures.ratio(2, ALLREDUCE, DIRECT, OPENMPI),
        "barrier8_vs_openmpi": figures.ratio(8, BARRIER, DIRECT, OPENMPI),
        "setup8_ms": 1000 * figures.median_s((8, SET_UP, DIRECT)),
        "redis_ping_8B_vs_bare": figures.ratio(2, PING, REDIS, BARE_REDIS),
    }
