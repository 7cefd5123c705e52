"""Ours and the peers behind one interface: `measure` returns the seconds of each iteration.

The loops are the same for all that block, so that none is timed in another way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.fmi.cases import ASYNCIO, BARE_REDIS, OPENMPI, SOCKET

Array = NDArray[np.float64]


class System(Protocol):
    """One rank of a system, connected to the others."""

    def measure(self, what: str, nbytes: int, iterations: int) -> list[float]:
        """Seconds of each iteration; empty on ranks that do not time it."""

    def close(self) -> None:
        """Leave the others."""


class Blocking(ABC):
    """The loops over blocking calls."""

    rank: int
    size: int

    @abstractmethod
    def send(self, data: Array, dest: int) -> None:
        """Send one message."""

    @abstractmethod
    def recv(self, out: Array, source: int) -> None:
        """Receive one message into `out`."""

    @abstractmethod
    def close(self) -> None:
        """Leave the others."""

    def barrier(self) -> None:
        """Wait for all."""
        raise NotImplementedError

    def bcast(self, data: Array) -> None:
        """Rank 0's data for everybody."""
        raise NotImplementedError

    def allreduce(self, data: Array, out: Array) -> None:
        """The sum for everybody."""
        raise NotImplementedError

    def gather(self, data: Array, parts: Array) -> None:
        """Everybody's data for rank 0, in `parts` where the system can."""
        raise NotImplementedError

    def measure(self, what: str, nbytes: int, iterations: int) -> list[float]:
        """Run the loop that belongs to `what`."""
        match what:
            case "ping":
                return self._ping(nbytes, iterations)
            case "stream":
                return self._stream(nbytes, iterations)
            case "barrier":
                times = [_seconds(self.barrier) for _ in range(iterations)]
                return [] if self.rank else times
            case _:
                return self._collective(what, nbytes, iterations)

    def _ping(self, nbytes: int, iterations: int) -> list[float]:
        data, out, peer = filled(nbytes), empty(nbytes), self.rank ^ 1
        if self.rank % 2:
            for _ in range(iterations):
                self.recv(out, peer)
                self.send(data, peer)
            return []
        times = []
        for _ in range(iterations):
            started = perf_counter()
            self.send(data, peer)
            self.recv(out, peer)
            times.append((perf_counter() - started) / 2)
        assert np.array_equal(out, data)
        return times

    def _stream(self, nbytes: int, iterations: int) -> list[float]:
        ack, peer = filled(8), self.rank ^ 1
        if self.rank % 2:
            out = empty(nbytes)
            for _ in range(iterations):
                self.recv(out, peer)
                self.send(ack, peer)
            assert np.array_equal(out, filled(nbytes))
            return []
        data, times = filled(nbytes), []
        for _ in range(iterations):
            started = perf_counter()
            self.send(data, peer)
            self.recv(ack, peer)
            times.append(perf_counter() - started)
        return times

    def _collective(self, what: str, nbytes: int, iterations: int) -> list[float]:
        data, out, parts = filled(nbytes), empty(nbytes), empty(self.size * nbytes)
        calls: dict[str, Callable[[], object]] = {
            "bcast": lambda: self.bcast(data),
            "allreduce": lambda: self.allreduce(data, out),
            "gather": lambda: self.gather(data, parts),
        }
        call, times = calls[what], []
        for _ in range(iterations):
            self.barrier()
            times.append(_seconds(call))
        assert what != "allreduce" or np.array_equal(out, self.size * data)
        return times


def filled(nbytes: int) -> Array:
    """A message of this size."""
    return np.arange(nbytes // 8, dtype=np.float64) + 1


def empty(nbytes: int) -> Array:
    """Room for one."""
    return np.zeros(nbytes // 8)


def _seconds(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def load(name: str) -> Callable[[int, int, dict[str, Any]], System]:
    """Import a system and nothing else; returns what connects a rank of it to the others.

    That takes the rank, how many there are, and where the others are to be found.
    """
    if name == OPENMPI:
        from benchmarks.fmi.openmpi import OpenMpi

        return OpenMpi
    if name in (SOCKET, BARE_REDIS):
        from benchmarks.fmi import bare

        return bare.Socket if name == SOCKET else bare.Redis
    from benchmarks.fmi.ours import Ours, OursAsyncio

    return OursAsyncio if name == ASYNCIO else Ours
