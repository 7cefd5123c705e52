"""The page of a full run, all of it from the figures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import benchmarks.fmi as method
from benchmarks.fmi import original
from benchmarks.fmi.cases import (
    ALL,
    ALLREDUCE,
    BARE_REDIS,
    DIRECT,
    OPENMPI,
    REDIS,
    SET_UP,
    SOCKET,
    STREAM,
    SYSTEMS,
    Case,
    Figures,
    headline,
)
from benchmarks.fmi.runs import Bench

RANKS: Final = (2, 4, 8)
COMPARED: Final = ((DIRECT, OPENMPI), (DIRECT, SOCKET), (REDIS, BARE_REDIS))


class Target(NamedTuple):
    """What was to be reached."""

    what: str
    value: float
    limit: float
    at_least: bool = False

    def row(self) -> str:
        """Its line in the table."""
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        sign = "at least" if self.at_least else "at most"
        verdict = "met" if met else "**missed**"
        return f"| {self.what} | {sign} {self.limit:g} | {self.value:.3g} | {verdict} |"


def targets(figures: Figures) -> list[Target]:
    """All of them, with what was reached."""
    reached = headline(figures)
    theirs_s = original.median_s(2, ALLREDUCE, original.PYTHON_DIRECT)
    assert theirs_s is not None
    faster = theirs_s / figures.median_s((2, ALLREDUCE, DIRECT))
    return [
        Target("ping 8 B, times a socket's", reached["ping_8B_vs_socket"], 1.5),
        Target(
            "stream 16 MiB, share of a socket's bandwidth",
            reached["bandwidth_16MiB_vs_socket"],
            0.8,
            at_least=True,
        ),
        Target(
            "allreduce 1 MiB of 2 ranks, times Open MPI's",
            reached["allreduce_1MiB_vs_openmpi"],
            1.3,
        ),
        Target(
            f"the same, how many times faster than {original.PYTHON_DIRECT} †",
            faster,
            20,
            at_least=True,
        ),
        Target("barrier of 8 ranks, times Open MPI's", reached["barrier8_vs_openmpi"], 1.5),
        Target("set-up of 8 ranks, ms", reached["setup8_ms"], 50),
        Target("redis ping 8 B, times bare requests'", reached["redis_ping_8B_vs_bare"], 1.5),
    ]


def lines(figures: Figures) -> Iterator[str]:
    """Each figure in a line, for the terminal."""
    for ranks, case, system in figures.rounds:
        value = _measured(figures, ranks, case, system)
        yield f"{ranks} ranks  {case!s:<17} {system:<16} {value} {_unit(case)}"


def write(where: dict[str, str], bench: Bench) -> str:
    """The page."""
    figures = bench.figures
    met = targets(figures)
    outside = {
        f"others' processor time, {n} ranks": f"{100 * s:.1f} %" for n, s in bench.outside.items()
    }
    on = "\n".join(f"| {name} | {value} |" for name, value in (where | outside).items())
    by_ranks = "\n\n".join(
        f"## {ranks} ranks\n\n" + "\n".join(_table(figures, ranks)) for ranks in RANKS
    )
    return f"""# Message passing

Written by `python -m benchmarks.fmi` on {time.strftime("%Y-%m-%d", time.gmtime())}; one run, \
nothing left out.

```
{(method.__doc__ or "").strip()}
```

{bench.rounds} rounds of about {bench.round_s:g} s for each system; {bench.set_ups} set-ups.

## Targets

| what | target | reached | |
|---|---|---|---|
{chr(10).join(target.row() for target in met)}

## Ours to its peer

How many times longer ours takes; below 1 it is faster.

{chr(10).join(_ratios(figures))}

{by_ranks}

Microseconds, of the stream GB/s: the median, and in brackets the lowest tenth (of the stream the
highest). Each message of a gather has the size that is named.

† Measured earlier on a machine of the same kind, not in this run.

## The original

{(original.__doc__ or "").strip()}

## Machine

| machine | |
|---|---|
{on}
"""


def _ratios(figures: Figures) -> Iterator[str]:
    heads = [f"{ours} / {peer}, {n}" for ours, peer in COMPARED for n in RANKS]
    yield "| | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 1) + "|"
    for case in ALL:
        if case == SET_UP:
            continue
        cells = [
            f"{figures.ratio(n, case, ours, peer):.2f}" if (n, case, peer) in figures else "–"
            for ours, peer in COMPARED
            for n in RANKS
        ]
        yield f"| {case} | " + " | ".join(cells) + " |"


def _table(figures: Figures, ranks: int) -> Iterator[str]:
    here = [each for each in SYSTEMS if any((ranks, case, each) in figures for case in ALL)]
    theirs = [each for each in original.SYSTEMS if original.median_s(ranks, ALLREDUCE, each)]
    yield "| | " + " | ".join(here + [f"{each} †" for each in theirs]) + " |"
    yield "|---" * (1 + len(here) + len(theirs)) + "|"
    for case in ALL:
        cells = [_measured(figures, ranks, case, each) for each in here]
        for each in theirs:
            seconds = original.median_s(ranks, case, each)
            cells.append("–" if seconds is None else _number(case, seconds))
        yield f"| {case}, {_unit(case)} | " + " | ".join(cells) + " |"


def _measured(figures: Figures, ranks: int, case: Case, system: str) -> str:
    key = ranks, case, system
    if key not in figures:
        return "–"
    return f"{_number(case, figures.median_s(key))} ({_number(case, figures.lowest_s(key))})"


def _unit(case: Case) -> str:
    return "GB/s" if case == STREAM else "µs"


def _number(case: Case, seconds: float) -> str:
    value = case.nbytes / seconds / 1e9 if case == STREAM else seconds * 1e6
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
