"""Measuring: teams side by side, round by round."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import psutil

from benchmarks.fmi.cases import (
    ALLREDUCE,
    ASYNCIO,
    BARE_REDIS,
    DIRECT,
    OPENMPI,
    SET_UP,
    SOCKET,
    Case,
    Figures,
)
from benchmarks.fmi.quiet import Outside
from benchmarks.fmi.rank import warm_up
from benchmarks.fmi.servers import Meeting, free_port
from benchmarks.fmi.teams import Team

FEWEST: Final = 5  # iterations of a round, and rounds
MOST: Final = 1000
AHEAD_S: Final = 0.05  # for the ranks to hear when they are let go


@dataclass(slots=True)
class Bench:
    """How long to measure, what is needed for it, and what came out."""

    meeting: Meeting
    store_port: int
    folder: Path
    rounds: int
    round_s: float  # of each system in each round, about
    set_ups: int
    until: float  # monotonic; later, no case gets more rounds than it must have
    limit_s: int  # after which ranks end by themselves
    figures: Figures = field(default_factory=Figures)
    outside: dict[int, float] = field(default_factory=dict)  # share of the cores, by ranks

    def compare(self, ranks: int, plan: dict[Case, Collection[str]]) -> None:
        """Measure with so many ranks: the systems of each case side by side."""
        systems = dict.fromkeys(chain.from_iterable(plan.values()))
        with ExitStack() as stack:
            teams = {
                system: stack.enter_context(Team(system, ranks, self.limit_s)) for system in systems
            }
            outside = Outside()
            # Before the ranks have other connections.
            self._set_ups([teams[system] for system in plan.get(SET_UP, ())])
            for team in teams.values():
                team.ask("join", where=self.where(team.system, ranks))
            for case, chosen in plan.items():
                if case != SET_UP:
                    self._side_by_side(case, [teams[system] for system in chosen])
            if OPENMPI in teams:
                check_tcp(teams[OPENMPI])
            self.outside[ranks] = outside.share()

    def where(self, system: str, ranks: int) -> dict[str, Any]:
        """What the ranks of a system must know to find each other."""
        if system == OPENMPI:
            return {}
        if system == SOCKET:
            return {"ports": [free_port() for _ in range(ranks // 2)]}
        if system == BARE_REDIS:
            return {"port": self.store_port}
        channel = DIRECT if system == ASYNCIO else system
        url, folder = f"redis://127.0.0.1:{self.store_port}", mkdtemp(dir=self.folder)
        return {"channel": channel, "url": url, "folder": folder, **self.meeting.admit(ranks)}

    def _set_ups(self, teams: list[Team]) -> None:
        for team in teams:
            self.figures.rounds[team.size, SET_UP, team.system] = []
        for _ in range(self.set_ups):
            for team in teams:
                where = self.where(team.system, team.size)
                at = time.monotonic() + AHEAD_S
                done = max(team.ask("set_up", where=where, at=at))
                self.figures.rounds[team.size, SET_UP, team.system].append([done - at])

    def _side_by_side(self, case: Case, teams: list[Team]) -> None:
        counts = {team: self._round(team, case, FEWEST) for team in teams}
        for team in teams:
            self.figures.rounds[team.size, case, team.system] = []  # that one was to count
        for number in range(self.rounds):
            if number >= FEWEST and time.monotonic() > self.until:
                break
            for team in reversed(teams) if number % 2 else teams:
                counts[team] = self._round(team, case, counts[team])

    def _round(self, team: Team, case: Case, iterations: int) -> int:
        """One round of one system; returns how many iterations would have filled it."""
        started = time.perf_counter()
        times = measure(team, case, iterations)
        each_s = (time.perf_counter() - started) / (iterations + warm_up(iterations))
        self.figures.rounds.setdefault((team.size, case, team.system), []).append(times)
        return min(MOST, max(FEWEST, round(self.round_s / each_s)))


def measure(team: Team, case: Case, iterations: int) -> list[float]:
    """Seconds of each iteration of a team."""
    answers = team.ask("measure", what=case.what, nbytes=case.nbytes, iterations=iterations)
    timed = [times for times in answers if times]
    if case.by_pairs:
        return list(chain.from_iterable(timed))
    return [max(of_ranks) for of_ranks in zip(*timed, strict=True)]


def check_tcp(team: Team) -> None:
    """See that the bytes of an allreduce go through the loopback interface.

    Raises:
        RuntimeError: they take another way, so the comparison would not be what it says.
    """
    before, iterations = _over_loopback(), 20
    measure(team, ALLREDUCE, iterations)
    if _over_loopback() - before < iterations * ALLREDUCE.nbytes:
        raise RuntimeError(f"{team.system} does not use TCP here")


def _over_loopback() -> int:
    sent: int = psutil.net_io_counters(pernic=True)["lo"].bytes_sent
    return sent
