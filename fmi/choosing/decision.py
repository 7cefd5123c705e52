"""The choice of a channel: what the next calls will be, what each channel would take, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self, get_args

from fmi.choosing.models import Costs
from fmi.choosing.traffic import traffic

Hint = Literal["fast", "cheap"]

_MIB: Final = 1 << 20
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Workload:
    """The call that matters most: `bytes` as in `traffic.traffic`, in functions of `memory_gib`."""

    operation: str = "allreduce"
    bytes: int = _MIB
    memory_gib: float = 2.0

    def __post_init__(self) -> None:
        traffic(self.operation, 1, self.bytes)
        if self.memory_gib <= 0:
            raise ValueError(f"a function has more than {self.memory_gib:g} GiB of memory")

    def __str__(self) -> str:
        if self.operation == "barrier":
            return "a barrier"
        article = "an" if self.operation[0] in "aeiou" else "a"
        return f"{article} {self.operation} of {size_text(self.bytes)}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What the workload takes on one channel: per call, in seconds and dollars."""

    seconds: float
    dollars: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Which channel, and why. `left_out` says why a channel was no candidate."""

    name: str
    reason: str
    hint: Hint
    ranks: int
    workload: Workload
    figures: Mapping[str, Figures]
    costs: Mapping[str, Costs]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values: for JSON, and to send it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        return cls(
            **{
                **plain,
                "workload": Workload(**plain["workload"]),
                "figures": {name: Figures(**each) for name, each in plain["figures"].items()},
                "costs": {name: Costs(**each) for name, each in plain["costs"].items()},
            }
        )


def choose(
    costs: Mapping[str, Costs],
    workload: Workload,
    ranks: int,
    hint: Hint,
    left_out: Mapping[str, str] | None = None,
) -> Choice:
    """Take the channel with the lowest predicted time (`fast`) or price (`cheap`).

    Of equal ones the first: `costs` is in the order of preference.

    Raises:
        ValueError: there is no channel, or no such hint.
    """
    check_hint(hint)
    if not costs:
        raise ValueError("there is no channel to choose from: give one at least")
    figures = {
        name: Figures(
            each.seconds(workload.operation, ranks, workload.bytes),
            each.dollars(workload.operation, ranks, workload.bytes, workload.memory_gib),
        )
        for name, each in costs.items()
    }
    name = min(figures, key=lambda each: _key(figures[each], hint))
    reason = _reason(name, figures, workload, ranks, hint)
    return Choice(name, reason, hint, ranks, workload, figures, dict(costs), dict(left_out or {}))


def check_hint(hint: str) -> None:
    """See that a hint is one.

    Raises:
        ValueError: it is none.
    """
    if hint not in get_args(Hint):
        raise ValueError(f"the hint is 'fast' or 'cheap', not {hint!r}")


def _key(figures: Figures, hint: Hint) -> float:
    return figures.seconds if hint == "fast" else figures.dollars


def _reason(
    name: str, figures: Mapping[str, Figures], workload: Workload, ranks: int, hint: Hint
) -> str:
    own, others = figures[name], [each for each in figures if each != name]
    about = f"{workload} in a group of {ranks}"
    if not others:
        return f"{name} is the only channel there is for {about}"
    second = min(others, key=lambda each: _key(figures[each], hint))
    best, next_best = _key(own, hint), _key(figures[second], hint)
    if best == next_best:
        return f"{name} comes before {second}, which is as {hint}, for {about}"
    text = seconds_text if hint == "fast" else million_text
    said = f"{name} is the {hint}est for {about}: {text(best)}, {second} {text(next_best)}"
    other: Hint = "cheap" if hint == "fast" else "fast"
    rival = min(others, key=lambda each: _key(figures[each], other))
    if _key(figures[rival], other) < _key(own, other):
        text = million_text if hint == "fast" else seconds_text
        there, here = text(_key(figures[rival], other)), text(_key(own, other))
        said += f"; {rival} would be {other}er ({there} instead of {here})"
    return said


def seconds_text(seconds: float) -> str:
    """A time as a person reads it: three digits, in the unit that fits."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-6:.3g} µs"


def million_text(dollars: float) -> str:
    """The price of a million calls."""
    million = dollars * _MILLION
    return f"${million:,.0f} per million" if million >= 100 else f"${million:.3g} per million"


def size_text(size: int) -> str:
    """A number of bytes, in the largest unit in which it is a whole number."""
    for base, units in ((1024, ("GiB", "MiB", "KiB")), (1000, ("GB", "MB", "kB"))):
        for power, unit in zip((3, 2, 1), units, strict=True):
            if size and size % base**power == 0:
                return f"{size // base**power} {unit}"
    return f"{size} B"
