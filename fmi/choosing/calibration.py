"""Measuring a channel at the start: a few messages to and fro, between all pairs of ranks at once.

Each pair measures for itself. What counts is the slowest one, as a collective waits for it. That
is found in one place, from what all measured, so that no two ranks believe different figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmi.choosing.models import UNKNOWN, Costs
from fmi.frames import MAX_TAG

if TYPE_CHECKING:
    from fmi.communicator import Communicator

LARGE: Final = 512 * 1024  # bytes
BURST: Final = 8  # messages in a row
_TAG: Final = MAX_TAG
_SLOW_S: Final = 10e-3  # with such a latency there is time for the shortest plan only
_CROWDED: Final = 1.25  # a message so many times slower beside those of others shares its way


class Measured(NamedTuple):
    """What one rank measured, in seconds. All but `large` is empty where it had only to answer."""

    small: Sequence[float] = ()  # there and back
    burst: Sequence[float] = ()  # `BURST` small messages there, one back
    large: Sequence[float] = ()  # `LARGE` bytes both ways at once, while all pairs do the same
    alone: Sequence[float] = ()  # `LARGE` bytes there and back, while all other pairs wait


def calibrate(ranks: Communicator, before: Costs = UNKNOWN) -> Costs:
    """Measure the channel of `ranks`; all of them call it, and all get the same costs.

    Prices, and what cannot be seen with so few ranks, stay as rank 0 has them in `before`. A
    channel that is slow there gets three exchanges, any other one some dozen: some milliseconds.

    Raises:
        FmiError: as any other operation of a communicator.
    """
    parts = ranks.gather(measure(ranks, thorough=ranks.bcast(is_quick(before))))
    costs = combine([Measured(*each) for each in parts], before) if parts else None
    return Costs(**ranks.bcast(asdict(costs) if costs else None))


def is_quick(costs: Costs) -> bool:
    """Whether there is time to measure such a channel thoroughly."""
    return costs.latency_s < _SLOW_S


def measure(ranks: Communicator, *, thorough: bool) -> Measured:
    """What this rank sees of the channel. All ranks call it, with the same `thorough`.

    If not, there are two exchanges of small messages and one of large ones, and of an odd number
    of ranks the last one does not take part.
    """
    small, large = np.full(8, 1, np.uint8), np.full(LARGE, 1, np.uint8)
    measured = Measured()
    for pair in _pairs(ranks, thorough):
        if thorough:
            pair.exchange(small, 1)  # the first one finds nothing ready
        mine = pair.exchange(small, 5 if thorough else 1)
        if burst := pair.exchange(small, 3 if thorough else 1, BURST):
            measured = Measured(mine, burst)
    first = next(_pairs(ranks, thorough=False))
    if not thorough:
        return measured._replace(large=first.swap(large, 1))
    ranks.barrier()
    measured = measured._replace(large=first.swap(large, 3))
    ranks.barrier()
    if ranks.rank in (0, 1):
        measured = measured._replace(alone=first.exchange(large, 3))
    ranks.barrier()
    return measured


def combine(parts: Sequence[Measured], before: Costs) -> Costs:
    """The costs for all, from what each rank measured: those of the slowest pair."""
    asked = [each for each in parts if each.small]
    if not asked:
        return before
    latency_s = max(median(each.small) for each in asked) / 2
    pairs = list(zip(parts[::2], parts[1::2], strict=False))
    together = max(_per_byte_both_ways(*pair) for pair in pairs)
    alone = [_per_byte(each) for each in asked if each.alone]
    crowded = bool(alone) and together > _CROWDED * alone[0]
    # What all of them got together is the least that their common way can carry.
    of_all = together / (2 * len(pairs))
    return replace(
        before,
        latency_s=latency_s,
        byte_s=alone[0] if crowded else together,
        message_s=max(_per_message(each) for each in asked),
        shared_byte_s=of_all if crowded else min(before.shared_byte_s, of_all),
        source=f"measured with {len(parts)} ranks",
    )


def _per_byte_both_ways(asking: Measured, answering: Measured) -> float:
    """Seconds per byte of a swap. The two began it apart, so one waited longer and one less."""
    took = (median(asking.large) + median(answering.large)) / 2
    return max(0.0, took - median(asking.small) / 2) / LARGE


def _per_byte(measured: Measured) -> float:
    return max(0.0, median(measured.alone) - median(measured.small)) / 2 / LARGE


def _per_message(measured: Measured) -> float:
    """Seconds that a rank is busy. Work does not vary as a way does: the shortest is the true."""
    return max(0.0, min(measured.burst) - min(measured.small)) / (BURST - 1)


class _Pair:
    """Two ranks, of which one asks and takes the time, and the other one answers."""

    def __init__(self, ranks: Communicator, other: int, *, asks: bool) -> None:
        self._ranks, self._other, self._asks = ranks, other, asks

    def exchange(self, array: NDArray[np.uint8], times: int, burst: int = 1) -> list[float]:
        """Seconds for `array` to go there `burst` times and back once; for the one that asks."""
        into = np.empty_like(array)
        return [took for _ in range(times) if (took := self._once(array, into, burst))]

    def swap(self, array: NDArray[np.uint8], times: int) -> list[float]:
        """Seconds until both have what the other one sent at the same time."""
        into, took = np.empty_like(array), list[float]()
        for _ in range(times):
            began = time.perf_counter()
            self._ranks.sendrecv(array, self._other, _TAG, self._other, _TAG, into)
            took.append(time.perf_counter() - began)
        return took

    def _once(self, array: NDArray[np.uint8], into: NDArray[np.uint8], burst: int) -> float:
        ranks, other = self._ranks, self._other
        if not self._asks:
            for _ in range(burst):
                ranks.recv(other, _TAG, into)
            ranks.send(array, other, _TAG)
            return 0.0
        began = time.perf_counter()
        for _ in range(burst):
            ranks.send(array, other, _TAG)
        ranks.recv(other, _TAG, into)
        return time.perf_counter() - began


class _Alone:
    """The pair of a rank that has no partner."""

    def exchange(self, array: NDArray[np.uint8], times: int, burst: int = 1) -> list[float]:  # noqa: ARG002
        return []

    def swap(self, array: NDArray[np.uint8], times: int) -> list[float]:  # noqa: ARG002
        return []


def _pairs(ranks: Communicator, thorough: bool) -> Iterator[_Pair | _Alone]:
    """Ranks 0 and 1, 2 and 3, ...; then the one that is left over, and rank 0."""
    rank, size = ranks.rank, ranks.size
    yield _Pair(ranks, rank ^ 1, asks=not rank & 1) if rank ^ 1 < size else _Alone()
    if thorough and size % 2 and size > 1:
        last = size - 1
        paired = rank in (0, last)
        yield _Pair(ranks, last - rank, asks=rank == last) if paired else _Alone()
