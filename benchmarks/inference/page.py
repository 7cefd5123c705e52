"""The page of a full run. Its figures are from that run, but for those that it says are not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final

import benchmarks.inference as method
from benchmarks.inference import accuracy, fresh
from benchmarks.inference.figures import Rounds

# What was to be reached: (figure, limit, at least).
_TARGETS: Final = (
    ("fraction_of_matrix_rate", 0.8, True),
    ("vs_cai_loop", 4.0, True),
    ("vs_cai_loop_bfloat16", 4.0, True),
    ("batch1_ms", 15.0, False),
    ("cold_start_s", 2.5, False),
    ("estimator_share", 0.05, False),
)


def lines(rounds: Rounds) -> Iterator[str]:
    """Each side in a line, for the terminal."""
    for name in rounds.found:
        low, high = rounds.spread(name)
        yield f"{name:<32} {rounds.rate(name):8.1f}  ({low:.1f} to {high:.1f})"


def write(
    where: dict[str, str], rounds: Rounds, figures: dict[str, Any], started: dict[str, Any]
) -> str:
    """The page."""
    count = len(next(iter(rounds.found.values()))["rates"])
    on = where | {"openvino": version("openvino"), "numpy": version("numpy")}
    starts = ", ".join(f"{each:.2f}" for each in sorted(started["cold_starts_s"]))
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return f"""# Inference

Written by `python -m benchmarks.inference` on {date}; one run, nothing left out.

```
{(method.__doc__ or "").strip()}
```

{count} rounds.

## Figures

| figure | value |
|---|---|
{_table(figures)}

| target | limit | reached | |
|---|---|---|---|
{chr(10).join(_targets(figures))}

Four times the loop of CAI is more than a core can do in float32 if that loop alone takes more than
a quarter of the matrix rate, as it does here. In bfloat16 it is another question.

## Every side

Images a processor second (matrices: GFLOP a processor second): the median over the rounds, the
lowest and the highest.

| side and batch | median | lowest | highest |
|---|---|---|---|
{chr(10).join(_sides(rounds))}

`any size only`: without the second graph that ours has for full chunks of 32. `8-bit weights`: the
large matrices as 8-bit integers, activations rounded to 8 bits in groups of 64 as they come.
{accuracy.paragraph()}

## Start and memory

Cold starts in seconds, sorted: {starts}. Most of it is the two graphs, which are made
from the tensors at every start (0.3 s each, by hand on this machine), the folding (0.2 s), the
weights (0.1 s) and imports. A compiled graph that is stored and read back saves 0.1 s: too little
to keep an artefact that has to match weights, library and processor. So nothing is cached, a
read-only file system is enough, and no cache can be wrong.

## Size of a function

Bytes on disk, in MiB, of all packages that a function has imported when it has answered its first
event, as pip installs them:

| | MiB |
|---|---|
{chr(10).join(_sizes(started["modules"]))}

An image may leave out what is not needed of openvino, which are other devices, formats and headers:

```sh
cd "$(python -c 'import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)')"
rm -rf include tools libs/*gpu_plugin* libs/*npu_plugin* libs/*frontend* libs/cache.json
```

## Machine

| machine | |
|---|---|
{_table(on)}
"""


def _table(rows: dict[str, Any]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def _targets(figures: dict[str, Any]) -> Iterator[str]:
    for name, limit, at_least in _TARGETS:
        if name in figures:
            met = figures[name] >= limit if at_least else figures[name] <= limit
            sign = "at least" if at_least else "at most"
            verdict = "met" if met else "**missed**"
            yield f"| {name} | {sign} {limit:g} | {figures[name]:.3g} | {verdict} |"


def _sides(rounds: Rounds) -> Iterator[str]:
    for name in rounds.found:
        low, high = rounds.spread(name)
        yield f"| {name} | {rounds.rate(name):.1f} | {low:.1f} | {high:.1f} |"


def _sizes(modules: list[str]) -> Iterator[str]:
    sizes = fresh.image_bytes(modules)
    spare = sizes.pop("of openvino, not needed")
    for name, size in sorted(sizes.items(), key=lambda each: -each[1]):
        yield f"| {name} | {size / 2**20:.1f} |"
    total = sum(sizes.values())
    yield f"| **all** | **{total / 2**20:.0f}** |"
    yield f"| **without what is not needed of openvino** | **{(total - spare) / 2**20:.0f}** |"
