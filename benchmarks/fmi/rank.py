"""One rank's process: does what the harness tells it, and reports seconds.

    python -m benchmarks.fmi.rank SYSTEM SIZE HARNESS_PORT LIMIT_S [RANK]

A command and its answer are a line of JSON each. An error ends the process, with its traceback,
and so the measurement.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from benchmarks.fmi import systems


def main() -> None:
    """Serve the harness until it hangs up."""
    system, size, port, limit_s = sys.argv[1], *map(int, sys.argv[2:5])
    # Whatever happens to the harness, no rank outlives it for long, and one that hangs says where.
    faulthandler.dump_traceback_later(limit_s, exit=True)
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", sys.argv[-1]))
    # A rank stands for a machine of its own, so it gets a core of its own where there are enough:
    # a scheduler that puts two on one core makes a message a third as long as between two.
    cores = sorted(os.sched_getaffinity(0))
    if size <= len(cores):
        os.sched_setaffinity(0, {cores[rank]})
    with socket.create_connection(("127.0.0.1", port)) as connection:
        commands, answers = connection.makefile("r"), connection.makefile("w")
        serve = _Rank(system, rank, size)
        answer: Any = rank
        with suppress(ConnectionError):  # the harness has given up
            while True:
                answers.write(json.dumps(answer) + "\n")
                answers.flush()
                line = commands.readline()
                if not line:
                    break
                command: dict[str, Any] = json.loads(line)
                answer = getattr(serve, command.pop("do"))(**command)
        serve.leave()


def warm_up(iterations: int) -> int:
    """How many more are made before, and not counted."""
    return 3 + iterations // 10


class _Rank:
    """What a command does."""

    def __init__(self, system: str, rank: int, size: int) -> None:
        self._rank, self._size = rank, size
        self._connect = systems.load(system)
        self._system: systems.System | None = None

    def join(self, where: dict[str, Any]) -> None:
        """Connect to the other ranks."""
        self._system = self._connect(self._rank, self._size, where)

    def measure(self, what: str, nbytes: int, iterations: int) -> list[float]:
        """Seconds of each iteration that this rank has timed."""
        assert self._system is not None
        before = warm_up(iterations)
        return self._system.measure(what, nbytes, before + iterations)[before:]

    def set_up(self, where: dict[str, Any], at: float) -> float:
        """Join a group of its own at the moment `at`; returns the moment it was done."""
        from benchmarks.fmi.ours import connect

        time.sleep(max(0.0, at - time.monotonic()))
        with connect(self._rank, self._size, where) as comm:
            done = time.monotonic()
            comm.barrier()  # so that none leaves before all are there
        return done

    def leave(self) -> None:
        """Take leave of the other ranks."""
        if self._system:
            self._system.close()


if __name__ == "__main__":
    main()
