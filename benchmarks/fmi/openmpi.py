"""mpi4py, its calls for buffers. Started by `mpirun`."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from benchmarks.fmi.systems import Array, Blocking


class OpenMpi(Blocking):
    """Importing mpi4py has connected the ranks."""

    def __init__(self, rank: int, size: int, where: dict[str, Any]) -> None:  # noqa: ARG002
        self._comm = MPI.COMM_WORLD
        self.rank, self.size = rank, size
        assert (rank, size) == (self._comm.rank, self._comm.size)

    def send(self, data: Array, dest: int) -> None:
        """Send one message."""
        self._comm.Send(data, dest)

    def recv(self, out: Array, source: int) -> None:
        """Receive one message into `out`."""
        self._comm.Recv(out, source, 0)

    def barrier(self) -> None:
        """Wait for all."""
        self._comm.Barrier()

    def bcast(self, data: Array) -> None:
        """Rank 0's data for everybody."""
        self._comm.Bcast(data, 0)

    def allreduce(self, data: Array, out: Array) -> None:
        """The sum for everybody."""
        self._comm.Allreduce(data, out, MPI.SUM)

    def gather(self, data: Array, parts: Array) -> None:
        """Everybody's data for rank 0."""
        self._comm.Gather(data, None if self.rank else parts, 0)

    def close(self) -> None:
        """MPI ends with the process."""
