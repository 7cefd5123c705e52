"""Sides in processes of their own: all join at once, then run one after the other."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple

from benchmarks.delivery.gate import GO, READY

LIMIT_S: Final = 900
Plan = Mapping[str, dict[str, Any]]  # arguments of each side


class Measured(NamedTuple):
    """What one run of a side gave."""

    events: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Events a second, by the clock."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of the processor for each event."""
        return 1e6 * self.cpu_s / self.events


@dataclass(slots=True)
class Compared:
    """Sides that were measured together, round by round."""

    rounds: list[dict[str, Measured]] = field(default_factory=list)

    def of(self, side: str) -> list[Measured]:
        """All runs of one side."""
        return [each[side] for each in self.rounds]

    def rate(self, side: str) -> float:
        """Events a second: the median over the rounds."""
        return statistics.median(each.rate for each in self.of(side))

    def cpu_us(self, side: str) -> float:
        """Microseconds of the processor for each event: the median over the rounds."""
        return statistics.median(each.cpu_us for each in self.of(side))

    def ratio(self, one: str, other: str) -> float:
        """How many times as fast `one` is, round by round."""
        return statistics.median(each[one].rate / each[other].rate for each in self.rounds)

    def cpu_ratio(self, one: str, other: str) -> float:
        """The same in time of the processor: what other programs on the core do not change."""
        return statistics.median(each[other].cpu_us / each[one].cpu_us for each in self.rounds)

    def best(self, sides: Sequence[str]) -> str:
        """The fastest of these."""
        return max(sides, key=self.rate)

    @property
    def sides(self) -> list[str]:
        """All that were measured."""
        return list(self.rounds[0])


class Side:
    """A process that waits behind its gate, once for each of its rounds."""

    def __init__(self, name: str, core: int, rounds: Sequence[dict[str, Any]]) -> None:
        """`rounds`: the arguments of each."""
        self.name = name
        self._rounds = len(rounds)
        command = ["timeout", str(LIMIT_S), sys.executable, "-m", "benchmarks.delivery.side"]
        self._process = subprocess.Popen(
            [*command, name, str(core), json.dumps(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Until it has its first events in hand, of every round."""
        for _ in range(self._rounds):
            if self._line() != READY:
                raise self._failed()

    def run(self) -> Measured:
        """Let it go for one round, and wait for its figures."""
        if self._process.stdin is None:
            raise RuntimeError("the side has no standard input")
        self._process.stdin.write(GO + "\n")
        self._process.stdin.flush()
        line = self._line()
        if not line.startswith("{"):
            raise self._failed()
        figures = json.loads(line)
        self._rounds -= 1
        if not self._rounds:
            self._process.wait()  # what it does on leaving must not fall into another's round
        return Measured(figures["events"], figures["seconds"], figures["cpu_s"])

    def end(self) -> None:
        """Whatever it does now, it ends."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        return self._process.stdout.readline().strip() if self._process.stdout else ""

    def _failed(self) -> SystemExit:
        _, errors = self._process.communicate()
        return SystemExit(f"{self.name} could not be measured: {errors[-3000:]}")


def core() -> int:
    """The core of all sides. Servers and the harness are moved to the others: see `leave`."""
    return max(os.sched_getaffinity(0))


def leave(side_core: int) -> None:
    """Let this process, and the servers that it starts, use the other cores, where there are."""
    if others := os.sched_getaffinity(0) - {side_core}:
        os.sched_setaffinity(0, others)


def measure(
    comparisons: Sequence[Sequence[Plan]], side_core: int, *, shared: bool = False
) -> list[Compared]:
    """Comparisons of several rounds each: all sides start at once, and run one after the other.

    `shared`: one process takes all rounds of a side, which starts sooner; else each has its own.
    """
    start = _shared if shared else _fresh
    with ExitStack() as stack:
        started = [start(stack, plans, side_core) for plans in comparisons]
        for side in dict.fromkeys(chain.from_iterable(chain.from_iterable(started))):
            side.wait_until_ready()
        return [Compared([_run(*each) for each in enumerate(rounds)]) for rounds in started]


def _fresh(stack: ExitStack, plans: Sequence[Plan], side_core: int) -> list[list[Side]]:
    return [
        [_start(stack, name, side_core, [arguments]) for name, arguments in plan.items()]
        for plan in plans
    ]


def _shared(stack: ExitStack, plans: Sequence[Plan], side_core: int) -> list[list[Side]]:
    names = list(plans[0])
    sides = [_start(stack, name, side_core, [plan[name] for plan in plans]) for name in names]
    return [sides for _ in plans]


def _start(stack: ExitStack, name: str, side_core: int, rounds: Sequence[dict[str, Any]]) -> Side:
    side = Side(name, side_core, rounds)
    stack.callback(side.end)
    return side


def _run(number: int, sides: list[Side]) -> dict[str, Measured]:
    """A round: each side once; every second one in reverse, so that no side is always first."""
    found = {side.name: side.run() for side in (reversed(sides) if number % 2 else sides)}
    return {side.name: found[side.name] for side in sides}
