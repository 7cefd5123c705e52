"""Random programs that check every value they get, and ranks that run one until one is killed.

Run as a program it takes one trial per line, and forks the ranks of each: a fork is quick where
numpy and fmi are loaded, and safe where no thread runs.
"""

import faulthandler
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import accumulate

import numpy as np

import fmi
from fmi.channels.redis import Redis

DEADLINE_MARGIN_S = 1.0  # for a machine that is busy
_SIZES, _WEIGHTS = ((0, 64), (1000, 20_000), (135_000, 200_000)), (5, 4, 1)  # of 8 bytes
_REMEMBERED = 4
_STEPS_AFTER_SHRINK = 10


class WrongValueError(Exception):
    """An operation returned something else than it must."""


class Program:
    """The same steps on every rank; what every rank puts in is known to all, from the seed."""

    def __init__(self, ranks, seed):
        self.ranks, self.draw, self.steps = ranks, random.Random(seed), 0
        self.step = "the beginning"
        self._results = deque()

    def run(self, steps=10**9):
        for self.steps in range(steps):
            operation = self.draw.choice(_OPERATIONS)
            self.step = f"step {self.steps}: {operation.__name__}"
            operation(self)

    def inputs(self, count=None):
        """What every rank puts in: arrays of one kind and length."""
        if count is None:
            count = self.draw.randint(*self.draw.choices(_SIZES, _WEIGHTS)[0])
        salt, dtype = self.draw.getrandbits(32), self.draw.choice(("f8", "i8"))
        self.step += f" of {count} {dtype}"
        numbers = np.arange(salt, salt + count) / 7
        return [(numbers / (rank + 1)).astype(dtype) for rank in range(self.ranks.size)]

    def root(self):
        root = self.draw.randrange(self.ranks.size)
        self.step += f", root {root}"
        return root

    @contextmanager
    def part(self, color):
        """A part of the group. Who is lost in it is called by the rank in the whole group."""
        part = self.ranks.split(color)
        try:
            yield part
        except fmi.PeerLost as lost:
            in_the_whole = (self.ranks.members.index(rank) for rank in lost.in_group)
            raise fmi.PeerLost(in_the_whole, f"in a part: {lost.why}") from None

    def check(self, got, expected):
        """See that it is right, and some steps later that nothing was written over it."""
        self._compare(got, expected)
        self._results.append((self.step, got, expected))
        if len(self._results) > _REMEMBERED:
            step, *both = self._results.popleft()
            self._compare(*both, f" (written over since {step})")

    def _compare(self, got, expected, since=""):
        if isinstance(expected, list):
            if not isinstance(got, list) or len(got) != len(expected):
                raise WrongValueError(f"{self.step}: {got!r:.200} for {expected!r:.200}")
            for one, other in zip(got, expected, strict=True):
                self._compare(one, other, since)
        elif isinstance(expected, np.ndarray):
            same = isinstance(got, np.ndarray) and got.dtype == expected.dtype
            if not same or not np.array_equal(got, expected):
                raise WrongValueError(f"{self.step}: {got!r:.200} for {expected!r:.200}{since}")
        elif got != expected:
            raise WrongValueError(f"{self.step}: {got!r:.200} for {expected!r:.200}{since}")


def ring(do):
    given, ranks, tag = do.inputs(), do.ranks, do.draw.randrange(100)
    left, right = (ranks.rank - 1) % ranks.size, (ranks.rank + 1) % ranks.size
    do.check(ranks.sendrecv(given[ranks.rank], right, tag, left, tag), given[left])


def ring_into_memory_of_our_own(do):
    given, ranks = do.inputs(), do.ranks
    left, right = (ranks.rank - 1) % ranks.size, (ranks.rank + 1) % ranks.size
    out = np.empty_like(given[left])
    do.check(ranks.sendrecv(given[ranks.rank], right, 1, left, 1, out), given[left])


def pairs_that_both_send_first(do):
    given, ranks = do.inputs(), do.ranks
    other = ranks.size - 1 - ranks.rank  # the one in the middle sends to itself
    ranks.send(given[ranks.rank], other)
    do.check(ranks.recv(other), given[other])


def chain(do):
    (given, *_), ranks = do.inputs(), do.ranks
    got = ranks.recv(ranks.rank - 1) if ranks.rank else given
    if ranks.rank + 1 < ranks.size:
        ranks.send(got, ranks.rank + 1)
    do.check(got, given)


def from_anybody(do):
    given, ranks, root = do.inputs(), do.ranks, do.root()
    if ranks.rank != root:
        ranks.send(given[ranks.rank], root, tag=7)
    else:
        status = fmi.Status()
        for _ in range(ranks.size - 1):
            got = ranks.recv(tag=7, status=status)
            do.check(got, given[status.source])
    ranks.barrier()  # or a fast rank's next message would be taken for this one


def bcast(do):
    given, root = do.inputs(), do.root()
    do.check(do.ranks.bcast(given[root] if do.ranks.rank == root else None, root), given[root])


def bcast_of_an_object(do):
    root, job = do.root(), {"job": do.draw.getrandbits(40), "parts": [1, None, "three"]}
    do.check(do.ranks.bcast(job if do.ranks.rank == root else None, root), job)


def gather(do):
    given, ranks, root = do.inputs(), do.ranks, do.root()
    do.check(ranks.gather(given[ranks.rank], root), given if ranks.rank == root else None)


def allgather(do):
    given = do.inputs()
    do.check(do.ranks.allgather(given[do.ranks.rank]), given)


def scatter(do):
    given, ranks, root = do.inputs(), do.ranks, do.root()
    do.check(ranks.scatter(given if ranks.rank == root else None, root), given[ranks.rank])


def alltoall(do):
    given, ranks = do.inputs(), do.ranks
    parts = [given[ranks.rank] + dest for dest in range(ranks.size)]
    do.check(ranks.alltoall(parts), [each + ranks.rank for each in given])


def reduced(do):
    given, ranks, root = do.inputs(), do.ranks, do.root()
    mine = given[ranks.rank].copy()
    got = ranks.reduce(mine, fmi.SUM, root)
    do.check(got, reduce(np.add, given) if ranks.rank == root else None)
    do.check(mine, given[ranks.rank])


def allreduce(do):
    given, ranks = do.inputs(), do.ranks
    mine = given[ranks.rank].copy()
    do.check(ranks.allreduce(mine), reduce(np.add, given))
    do.check(mine, given[ranks.rank])


def allreduce_in_place(do):
    given, ranks = do.inputs(), do.ranks
    mine = given[ranks.rank].copy()
    do.check(ranks.allreduce(mine, fmi.MAX, out=mine), reduce(np.maximum, given))


def allreduce_of_texts(do):
    ranks, salt = do.ranks, do.draw.getrandbits(16)
    texts = [f"{salt}+{rank}" for rank in range(ranks.size)]
    got = ranks.allreduce(texts[ranks.rank], lambda left, right: f"({left},{right})")
    do.check(got, reduce(lambda left, right: f"({left},{right})", texts))


def reduce_scatter(do):
    given, ranks = do.inputs(), do.ranks
    parts = np.array_split(reduce(np.add, given), ranks.size)
    do.check(ranks.reduce_scatter(given[ranks.rank]), parts[ranks.rank])


def scan(do):
    given, ranks = do.inputs(), do.ranks
    do.check(ranks.scan(given[ranks.rank]), list(accumulate(given, np.add))[ranks.rank])


def exscan(do):
    given, ranks = do.inputs(), do.ranks
    expected = [None, *accumulate(given, np.add)][ranks.rank]
    do.check(ranks.exscan(given[ranks.rank]), expected)


def barrier(do):
    do.ranks.barrier()


def allreduce_in_halves(do):
    given, ranks = do.inputs(), do.ranks
    mine = ranks.rank % 2
    with do.part(mine) as part:
        do.check(part.allreduce(given[ranks.rank]), reduce(np.add, given[mine::2]))


_OPERATIONS = [
    ring, ring_into_memory_of_our_own, pairs_that_both_send_first, chain, from_anybody, bcast,
    bcast_of_an_object, gather, allgather, scatter, alltoall, reduced, allreduce,
    allreduce_in_place, allreduce_of_texts, reduce_scatter, scan, exscan, barrier,
    allreduce_in_halves,
]  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A program, and who is struck when."""

    name: str
    seed: int
    size: int
    over: list  # what `_TRANSPORTS` takes
    victim: int
    after_s: float  # all are connected; if `meets`, after all were started
    signal: int = signal.SIGKILL
    deadline_s: float = 5.0
    patience_s: float | None = None  # other than the channel's
    meets: bool = False  # strike while they meet
    goes_on: bool = False  # those that are left `shrink` and go on


_TRANSPORTS = {"direct": fmi.Direct, "relay": fmi.Relay, "shared": fmi.Shared, "redis": Redis}


def strike(trial):
    """Start the ranks, strike one, and return what the others say: when, and what they saw.

    Each is {"what": "lost", "ranks", "raised_s", "left_s", "step"} if all is well; seconds are
    those since the strike.
    """
    pids, pipes = zip(*(_start(trial, rank) for rank in range(trial.size)), strict=True)
    try:
        if not trial.meets:
            for pipe in pipes:
                _line(pipe, trial.deadline_s + DEADLINE_MARGIN_S)
        time.sleep(trial.after_s)
        struck_at = time.monotonic()
        os.kill(pids[trial.victim], trial.signal)
        # Twice: for the loss, and for leaving or going on.
        give_up_at = struck_at + 2 * (trial.deadline_s + DEADLINE_MARGIN_S)
        reports = {}
        for rank, (pid, pipe) in enumerate(zip(pids, pipes, strict=True)):
            if rank != trial.victim:
                reports[rank] = _report(pid, pipe, struck_at, give_up_at)
        return reports
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for pipe in pipes:
            pipe.close()


def _start(trial, rank):
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, os.fdopen(read, "rb", buffering=0)
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as say:
        try:
            faulthandler.register(signal.SIGUSR1, file=say)
            print(json.dumps(_run(trial, rank, say)), file=say)
        finally:
            os._exit(0)


def _run(trial, rank, say):
    told = {"step": "the meeting"}
    program = None
    try:
        transport = _TRANSPORTS[trial.over[0]](*trial.over[1:])
        with fmi.connect_blocking(
            trial.name, rank, trial.size, transport, deadline_s=trial.deadline_s
        ) as ranks:
            if trial.patience_s is not None:
                ranks.mailbox.channel.patience_s = trial.patience_s
            if not trial.meets:
                print("connected", file=say)
            program = Program(ranks, trial.seed)
            try:
                program.run()
            except fmi.PeerLost as lost:
                told |= {"ranks": lost.ranks, "why": lost.why, "raised_at": time.monotonic()}
                if not trial.goes_on:
                    raise
                _go_on(ranks, trial.seed + 1, told)
        told["what"] = "went on" if trial.goes_on else "returned"
    except fmi.PeerLost as lost:
        if "raised_at" not in told:
            told |= {"ranks": lost.ranks, "why": lost.why, "raised_at": time.monotonic()}
        told["what"] = f"lost {lost}" if trial.goes_on else "lost"
    except WrongValueError as error:
        told |= {"what": "wrong value", "why": str(error)}
    except BaseException:  # noqa: BLE001  whatever it is, it is told
        told |= {"what": "another error", "why": traceback.format_exc()}
    told["left_at"] = time.monotonic()
    if program:
        told["step"] = program.step
    return told


def _go_on(ranks, seed, told):
    smaller = ranks.shrink()
    told["members"] = smaller.members
    told["shrunk_at"] = time.monotonic()
    Program(smaller, seed).run(_STEPS_AFTER_SHRINK)


def _line(pipe, seconds):
    """The next line that a rank says; nothing if it is over, or says none for so long."""
    line, end = b"", time.monotonic() + seconds
    while not line.endswith(b"\n"):
        if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            break
        if not (more := pipe.read(1 << 16)):
            break
        line += more
    return line


def _report(pid, pipe, struck_at, give_up_at):
    line = _line(pipe, give_up_at - time.monotonic())
    if not line.startswith(b"{"):
        os.kill(pid, signal.SIGUSR1)  # let it say where it is
        stack = b""
        while more := _line(pipe, 0.3):
            stack += more
        return {"what": "hangs", "why": (line + stack).decode()}
    told = json.loads(line)
    for moment in ("raised", "shrunk", "left"):
        if (at := told.pop(f"{moment}_at", None)) is not None:
            told[f"{moment}_s"] = at - struck_at
    return told


def main():
    for line in sys.stdin:
        print(json.dumps(strike(Trial(**json.loads(line)))), flush=True)


def as_line(trial):
    """How `main` is told of a trial."""
    return json.dumps(asdict(trial)).encode() + b"\n"


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
