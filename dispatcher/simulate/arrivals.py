"""When events arrive: models of surveys, and patterns that show what a policy is worth.

An `Arrivals` is two arrays: seconds since the night began, rising, and how many events come then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Random = np.random.Generator
_TICK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`times`: seconds, rising; `counts`: events at each."""

    times: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def events(self) -> int:
        """All of them."""
        return int(self.counts.sum())

    @property
    def last_s(self) -> float:
        """When the last ones come."""
        return float(self.times[-1]) if len(self.times) else 0.0

    def share(self, number: int, of: int) -> Arrivals:
        """What one of `of` consumers of the same stream gets."""
        counts = self.counts // of + (number < self.counts % of)
        some = counts > 0
        return Arrivals(self.times[some], counts[some])

    def __add__(self, other: Arrivals) -> Arrivals:
        times = np.concatenate([self.times, other.times])
        order = np.argsort(times, kind="stable")
        return Arrivals(times[order], np.concatenate([self.counts, other.counts])[order])


def at_rate(
    rate: Callable[[NDArray[np.float64]], NDArray[np.float64]], seconds: float, draw: Random
) -> Arrivals:
    """A Poisson stream of `rate(t)` events a second, in ticks of 0.1 s."""
    times = np.arange(0, seconds, _TICK_S)
    counts = draw.poisson(np.maximum(rate(times), 0) * _TICK_S)
    some = counts > 0
    return Arrivals(times[some], counts[some])


def steady(rate: float, seconds: float, draw: Random) -> Arrivals:
    """So many events a second on average."""
    return at_rate(lambda times: np.full_like(times, rate), seconds, draw)


def visits(count: int, each: int, draw: Random, every_s: float = 37.0) -> Arrivals:
    """LSST (DMTN-102): a visit each 37 s; its alerts come within 2 s, after it was processed."""
    parts = 20
    start = np.arange(count) * every_s
    times = (start[:, None] + np.linspace(0, 2, parts)[None, :]).ravel()
    sizes = np.maximum(1, draw.normal(each, each / 10, count)).astype(np.int64)
    counts = (sizes[:, None] // parts + (np.arange(parts) < sizes[:, None] % parts)).ravel()
    some = counts > 0
    return Arrivals(times[some], counts[some])


def ztf_night(draw: Random, events: int = 300_000, hours: float = 9.0) -> Arrivals:
    """ZTF: an exposure each 40 s or so, a few hundred alerts of it, bursts near the Galaxy."""
    count = int(hours * 3600 / 40)
    weights = draw.lognormal(0, 0.8, count)
    sizes = draw.poisson(events * weights / weights.sum())
    times = np.sort(np.arange(count) * 40.0 + draw.uniform(0, 8, count))
    some = sizes > 0
    return Arrivals(times[some], sizes[some].astype(np.int64))


def dump_2021(draw: Random, events: int = 90_000) -> Arrivals:
    """2021-09-23 (Pitt-Google): 90,000 alerts within 5 to 10 minutes, on top of a usual night."""
    minutes = draw.uniform(5, 10)
    usual = steady(8.0, 3600, draw)
    dump = steady(events / (60 * minutes), 60 * minutes, draw)
    return usual + Arrivals(dump.times + 1200, dump.counts)


def _bursts(draw: Random) -> Arrivals:
    gaps = draw.exponential(60, 40)
    return Arrivals(np.cumsum(gaps), draw.integers(50, 1500, 40))


def _on_off(draw: Random) -> Arrivals:
    return at_rate(lambda t: np.where(t % 120 < 30, 60.0, 0.5), 2400, draw)


def _ramp(draw: Random) -> Arrivals:
    return at_rate(lambda t: 40 * t / 1800, 1800, draw)


def _wave(draw: Random) -> Arrivals:
    return at_rate(lambda t: 20 * (1 + np.sin(2 * np.pi * t / 900)), 2700, draw)


def _heavy_gaps(draw: Random) -> Arrivals:
    times = np.cumsum(2 * draw.pareto(1.5, 600))
    return Arrivals(times, draw.integers(1, 60, 600))


PATTERNS: Final[Mapping[str, Callable[[Random], Arrivals]]] = {
    "trickle": lambda draw: steady(0.2, 7200, draw),
    "steady-3": lambda draw: steady(3, 3600, draw),
    "steady-30": lambda draw: steady(30, 1200, draw),
    "steady-270": lambda draw: steady(270, 300, draw),
    "bursts": _bursts,
    "on-off": _on_off,
    "ramp": _ramp,
    "wave": _wave,
    "visits-100": lambda draw: visits(60, 100, draw),
    "visits-2000": lambda draw: visits(20, 2000, draw),
    "heavy-gaps": _heavy_gaps,
    "dump-and-quiet": lambda draw: (
        steady(1, 1200, draw) + Arrivals(np.array([600.0]), np.array([5000]))
    ),
}
"""Twelve ways to arrive, of some minutes to two hours each."""

NIGHTS: Final[Mapping[str, Callable[[Random], Arrivals]]] = {
    "ztf-night": ztf_night,
    "lsst-night": lambda draw: visits(1000, 10_000, draw),
    "lsst-hour": lambda draw: visits(97, 10_000, draw),
    "dump-2021": dump_2021,
}
"""Nights and incidents."""


def named(name: str, seed: int) -> Arrivals:
    """The arrivals of that name.

    Raises:
        KeyError: there is none.
    """
    return {**PATTERNS, **NIGHTS}[name](np.random.default_rng(seed))
