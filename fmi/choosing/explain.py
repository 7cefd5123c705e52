"""How a choice of a channel is shown to a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fmi.choosing.decision import Choice, seconds_text

_MILLION: Final = 1_000_000
_HEAD: Final = ("channel", "a call", "a million calls", "latency", "bandwidth", "in all", "figures")
_DEFAULTS: Final = (
    "Figures marked default were measured between functions on AWS Lambda, long ago and not by "
    "you:\n--measure takes those of your channels."
)
_LOCAL: Final = (
    "What is marked measured was measured with ranks on this machine, which share its cores."
)


def explained(choice: Choice) -> str:
    """A table of what each channel would take, and the choice with its reason."""
    work = choice.workload
    title = f"{work} in a group of {choice.ranks}, in functions of {work.memory_gib:g} GiB"
    lines = [title[0].upper() + title[1:], "", *_table(choice), ""]
    lines += [f"{name} was left out: {why}." for name, why in choice.left_out.items()]
    lines.append(f"Choice: {choice.name}. {choice.reason}.")
    lines += ["", *_notes(choice)]
    return "\n".join(lines).rstrip()


def _table(choice: Choice) -> Iterator[str]:
    rows = [_HEAD, *(_row(choice, name) for name in choice.figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        marked = "> " if row[0] == choice.name else "  "
        cells = (cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        yield "  ".join((marked + row[0].ljust(widths[0]), *cells, row[-1]))


def _row(choice: Choice, name: str) -> Sequence[str]:
    figures, costs = choice.figures[name], choice.costs[name]
    return (
        name,
        seconds_text(figures.seconds),
        f"${figures.dollars * _MILLION:,.2f}",
        seconds_text(costs.latency_s),
        _rate(costs.byte_s),
        _rate(costs.shared_byte_s),
        costs.source,
    )


def _rate(byte_s: float) -> str:
    """Bytes per second; a dash where nothing is known to limit them."""
    return f"{1e-6 / byte_s:,.0f} MB/s" if byte_s else "-"


def _notes(choice: Choice) -> Iterator[str]:
    sources = {each.source for each in choice.costs.values()}
    if "default" in sources:
        yield _DEFAULTS
    if any(source.startswith("measured") for source in sources):
        yield _LOCAL
