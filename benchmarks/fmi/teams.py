"""The processes of one system's ranks, and how the harness talks to them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.fmi.cases import OPENMPI

START_S: Final = 60.0
ANSWER_S: Final = 120.0
LEAVE_S: Final = 5.0
_ROOT: Final = Path(__file__).parents[2]
_MPIRUN: Final = (
    # Two cores may have eight ranks, and the user may be root in a container.
    *("--allow-run-as-root", "--oversubscribe", "--bind-to", "none"),
    # TCP over the loopback interface, and no shared memory: neither between ranks nor in
    # collective operations.
    *("--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"),
    *("--mca", "coll", "^sm"),
)


class Team:
    """The ranks of one system: started when entered, gone when left."""

    def __init__(self, system: str, size: int, limit_s: int) -> None:
        self.system, self.size = system, size
        self._limit_s = limit_s
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ranks: list[Any] = []
        self._close = ExitStack()

    def __enter__(self) -> Self:
        try:
            with socket.create_server(("127.0.0.1", 0), backlog=self.size) as listener:
                listener.settimeout(START_S)
                self._start(listener.getsockname()[1])
                ranks = dict(self._greet(listener) for _ in range(self.size))
        except BaseException:
            self._end()
            raise
        self._ranks = [ranks[rank] for rank in range(self.size)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def ask(self, do: str, **arguments: Any) -> list[Any]:
        """Have every rank do one thing; returns their answers, in rank order.

        Raises:
            RuntimeError: a rank ended.
            TimeoutError: a rank is silent for `ANSWER_S`.
        """
        line = json.dumps({"do": do, **arguments}) + "\n"
        for talk in self._ranks:
            talk.write(line)
            talk.flush()
        return [self._answer(talk) for talk in self._ranks]

    def _start(self, port: int) -> None:
        rank = [sys.executable, "-m", "benchmarks.fmi.rank", self.system, str(self.size)]
        rank += [str(port), str(self._limit_s)]
        if self.system == OPENMPI:
            commands = [[check_openmpi(), *_MPIRUN, "-n", str(self.size), *rank]]
        else:
            commands = [[*rank, str(number)] for number in range(self.size)]
        for command in commands:
            self._processes.append(
                subprocess.Popen(
                    command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                )
            )

    def _greet(self, listener: socket.socket) -> tuple[int, Any]:
        try:
            connection = listener.accept()[0]
        except TimeoutError:
            raise RuntimeError(f"the ranks of {self.system} do not start") from None
        connection.settimeout(ANSWER_S)
        talk = self._close.enter_context(self._close.enter_context(connection).makefile("rw"))
        return self._answer(talk), talk

    def _answer(self, talk: Any) -> Any:
        line = talk.readline()
        if not line:
            raise RuntimeError(f"a rank of {self.system} ended; its error is above")
        return json.loads(line)

    def _end(self) -> None:
        """Hang up, which ends the ranks; end those that have not heard."""
        self._close.close()
        # mpirun that is terminated, and not killed, ends its ranks.
        for end in (subprocess.Popen.terminate, subprocess.Popen.kill):
            until = time.monotonic() + LEAVE_S
            for process in self._processes:
                try:
                    process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    end(process)
        for process in self._processes:
            process.wait()


def check_openmpi() -> str:
    """Where `mpirun` is; ends the benchmark with a message where it is not."""
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if not found or not find_spec("mpi4py"):
        raise SystemExit(
            "Open MPI is measured beside ours and is not here: it comes with "
            "pip install 'lookback[bench]' (mpi4py and openmpi)"
        )
    return found
