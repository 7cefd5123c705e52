"""The page of a full run, and the figures of any run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Final

import benchmarks.sinks as method
from benchmarks.sinks.cases import CASES, TARGETS

Speeds = dict[str, dict[str, list[float]]]  # of a case: ours, again and peer, round by round
Memories = dict[str, list[dict[str, float]]]  # of a case: rows, mib, rows_per_s at each tenth

_FLAT_MIB: Final = 32  # what may be added on the second half of the way


def headline(speeds: Speeds, memories: Memories) -> dict[str, float]:
    """The figures by name; that of Kafka is of JSON."""
    figures: dict[str, float] = {}
    for case, found in speeds.items():
        name = case.removesuffix("_json")
        figures[f"{name}_rows_per_s"] = round(median(found["ours"]))
        figures[f"{name}_vs_peer"] = round(_ratio(found), 2)
    if memories:
        figures["memory_growth_mib"] = round(max(map(_growth, memories.values())), 1)
    return figures


def lines(name: str, speeds: Speeds, memories: Memories) -> Iterator[str]:
    """What a case has given, for the terminal."""
    for side, rounds in speeds[name].items():
        shown = " ".join(f"{each:.0f}" for each in rounds)
        yield f"{name:<16} {side:<6} {median(rounds):9.0f} rows/s  ({shown})"
    for unit in ("mib", "rows_per_s") if name in memories else ():
        shown = " ".join(f"{each[unit]:.0f}" for each in memories[name])
        yield f"{name:<16} {unit} at each tenth: {shown}"


def write(where: Mapping[str, str], speeds: Speeds, memories: Memories) -> str:
    """The page."""
    on = "\n".join(f"| {name} | {value} |" for name, value in where.items())
    return f"""# Sinks

Written by `python -m benchmarks.sinks` on {time.strftime("%Y-%m-%d", time.gmtime())}; one run, \
nothing left out.

```
{(method.__doc__ or "").strip()}
```

## Rows a second

Of ready records, until they are durable: the median of {_rounds(speeds)} rounds, and in brackets
the lowest and the highest. The ratio is of ours to the peer; above 1 ours is faster.

{chr(10).join(_speed_table(speeds))}

A peer has less to do: it gets rows in the form that its library takes, and it knows neither upsert
nor keys, outbox or places on the sky. In turn, aiokafka's `send` makes a future for each message,
where our sink hands over whole batches.

## Targets

{chr(10).join(_targets(speeds, memories))}

## Memory

Resident MiB of the process that writes, and its rows a second in the first and in the last tenth.
The Kafka sink remembers its last 200,000 to 400,000 results, the sinks of files have a page cache
for their keys of 16 MiB; both are full before the half.

{chr(10).join(_memory_table(memories))}

## Machine

| machine | |
|---|---|
{on}
"""


def _rounds(speeds: Speeds) -> int:
    return min(len(found["ours"]) for found in speeds.values())


def _speed_table(speeds: Speeds) -> Iterator[str]:
    yield "| sink | rows a write | rows/s | peer, rows/s | ratio | again, rows/s |"
    yield "|---|---|---|---|---|---|"
    for name, found in speeds.items():
        ours, peer, again = (_range(found[side]) for side in ("ours", "peer", "again"))
        batch = CASES[name].batch
        yield f"| {name} | {batch:,} | {ours} | {peer} | {_ratio(found):.2f} | {again} |"


def _targets(speeds: Speeds, memories: Memories) -> Iterator[str]:
    yield "| what | target | reached | |"
    yield "|---|---|---|---|"
    for name, target in TARGETS.items():
        reached = median(speeds[name]["ours"])
        verdict = "met" if reached >= target else "**missed**"
        yield f"| {name}, rows/s | at least {target:,} | {_number(reached)} | {verdict} |"
    grown = max(map(_growth, memories.values()))
    verdict = "met" if grown <= _FLAT_MIB else "**missed**"
    what = "memory added from the half to the end, MiB, the most of any sink"
    yield f"| {what} | at most {_FLAT_MIB} | {grown:.1f} | {verdict} |"


def _memory_table(memories: Memories) -> Iterator[str]:
    yield "| sink | rows | at a tenth | at the half | at the end | rows/s, first | rows/s, last |"
    yield "|---|---|---|---|---|---|---|"
    for name, points in memories.items():
        tenth, half, end = points[0], points[len(points) // 2 - 1], points[-1]
        cells = [
            name,
            f"{end['rows']:,}",
            *(f"{each['mib']:.0f}" for each in (tenth, half, end)),
            *(_number(each["rows_per_s"]) for each in (tenth, end)),
        ]
        yield f"| {' | '.join(cells)} |"


def _growth(points: list[dict[str, float]]) -> float:
    return points[-1]["mib"] - points[len(points) // 2 - 1]["mib"]


def _ratio(found: Mapping[str, list[float]]) -> float:
    return median(a / b for a, b in zip(found["ours"], found["peer"], strict=True))


def _range(rounds: list[float]) -> str:
    return f"{_number(median(rounds))} ({_number(min(rounds))} to {_number(max(rounds))})"


def _number(value: float) -> str:
    """Three figures: more are noise."""
    return f"{float(f'{value:.3g}'):,.0f}"
