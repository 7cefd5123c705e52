"""The library itself, over each of its channels."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Final

import numpy as np

import fmi
from benchmarks.fmi.systems import Array, Blocking, empty, filled

DEADLINE_S: Final = 30.0


def transport(where: dict[str, Any]) -> Any:
    """How to reach the others, from what the harness has told."""
    match where["channel"]:
        case "direct":
            return fmi.Direct(where["rendezvous"], where["token"])
        case "shared":
            return fmi.Shared(where["folder"])
        case "redis":
            return fmi.Redis(where["url"])
    raise ValueError(f"a channel that is not measured: {where}")


def connect(rank: int, size: int, where: dict[str, Any]) -> Any:
    """The blocking communicator."""
    return fmi.connect_blocking(where["group"], rank, size, transport(where), deadline_s=DEADLINE_S)


class Ours(Blocking):
    """The blocking interface."""

    def __init__(self, rank: int, size: int, where: dict[str, Any]) -> None:
        self.rank, self.size = rank, size
        self._comm = connect(rank, size, where)

    def send(self, data: Array, dest: int) -> None:
        """Send one message."""
        self._comm.send(data, dest)

    def recv(self, out: Array, source: int) -> None:
        """Receive one message into `out`."""
        self._comm.recv(source, 0, out)

    def barrier(self) -> None:
        """Wait for all."""
        self._comm.barrier()

    def bcast(self, data: Array) -> None:
        """Rank 0's data for everybody."""
        self._comm.bcast(None if self.rank else data, 0)

    def allreduce(self, data: Array, out: Array) -> None:
        """The sum for everybody."""
        self._comm.allreduce(data, fmi.SUM, out=out)

    def gather(self, data: Array, parts: Array) -> None:  # noqa: ARG002
        """Everybody's data for rank 0, in arrays that the library allocates."""
        self._comm.gather(data, 0)

    def close(self) -> None:
        """Leave the group."""
        self._comm.close()


class OursAsyncio:
    """The asyncio interface. Its loop runs while it is measured, and rests while others are."""

    def __init__(self, rank: int, size: int, where: dict[str, Any]) -> None:
        self._rank, self._size = rank, size
        self._loop = asyncio.Runner()
        self._context = fmi.connect(
            where["group"], rank, size, transport(where), deadline_s=DEADLINE_S
        )
        self._comm = self._loop.run(self._context.__aenter__())

    def measure(self, what: str, nbytes: int, iterations: int) -> list[float]:
        """Run the loop that belongs to `what`: those of `Blocking`, with `await`."""
        loops = {"ping": self._ping, "stream": self._stream, "allreduce": self._allreduce}
        return self._loop.run(loops[what](nbytes, iterations))

    def close(self) -> None:
        """Leave the group."""
        self._loop.run(self._context.__aexit__(None, None, None))
        self._loop.close()

    async def _ping(self, nbytes: int, iterations: int) -> list[float]:
        comm, peer, data, out = self._comm, self._rank ^ 1, filled(nbytes), empty(nbytes)
        if self._rank % 2:
            for _ in range(iterations):
                await comm.recv(peer, 0, out)
                await comm.send(data, peer)
            return []
        times = []
        for _ in range(iterations):
            started = perf_counter()
            await comm.send(data, peer)
            await comm.recv(peer, 0, out)
            times.append((perf_counter() - started) / 2)
        assert np.array_equal(out, data)
        return times

    async def _stream(self, nbytes: int, iterations: int) -> list[float]:
        comm, peer, ack = self._comm, self._rank ^ 1, filled(8)
        if self._rank % 2:
            out = empty(nbytes)
            for _ in range(iterations):
                await comm.recv(peer, 0, out)
                await comm.send(ack, peer)
            assert np.array_equal(out, filled(nbytes))
            return []
        data, times = filled(nbytes), []
        for _ in range(iterations):
            started = perf_counter()
            await comm.send(data, peer)
            await comm.recv(peer, 0, ack)
            times.append(perf_counter() - started)
        return times

    async def _allreduce(self, nbytes: int, iterations: int) -> list[float]:
        comm, data, out, times = self._comm, filled(nbytes), empty(nbytes), []
        for _ in range(iterations):
            await comm.barrier()
            started = perf_counter()
            await comm.allreduce(data, fmi.SUM, out=out)
            times.append(perf_counter() - started)
        assert np.array_equal(out, self._size * data)
        return times
