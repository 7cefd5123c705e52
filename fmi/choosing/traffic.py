"""What an operation puts on the wire, read off the algorithms in `collectives` and `reducing`.

A description in numbers that no channel appears in: how many messages follow one another, how many
a rank must handle one by one, how many bytes pass the busiest rank, and how much all of it is
together. `models` turns them into seconds and dollars.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fmi.collectives import FLAT, SEGMENT
from fmi.reducing import LARGE


@dataclass(frozen=True, slots=True)
class Traffic:
    """The messages of one operation, on all ranks together.

    `rounds`: messages that wait for one another. `queued`: further messages that the busiest rank
    handles one by one in those rounds, sent or received. `busiest`: bytes that pass one rank, one
    after another. `total`: bytes of all messages. `messages`: their number.
    """

    rounds: int = 0
    queued: int = 0
    busiest: float = 0.0
    total: float = 0.0
    messages: int = 0

    def __add__(self, then: Traffic) -> Traffic:
        """One after the other."""
        return Traffic(
            self.rounds + then.rounds,
            self.queued + then.queued,
            self.busiest + then.busiest,
            self.total + then.total,
            self.messages + then.messages,
        )


NOTHING: Final = Traffic()


def traffic(operation: str, ranks: int, size: int) -> Traffic:
    """The messages of one call of `operation` by `ranks` ranks.

    `size` is in bytes: of one object, as a rank passes it to the call. That is what the root has
    for bcast, one of the parts for scatter and alltoall, one rank's array for all others.

    Raises:
        ValueError: there is no such operation, or less than one rank or no bytes.
    """
    if operation not in OPERATIONS:
        raise ValueError(
            f"there is no operation {operation!r}: take one of {', '.join(OPERATIONS)}"
        )
    if ranks < 1 or size < 0:
        raise ValueError(f"{ranks} ranks and {size} bytes cannot be: at least 1 and 0 are needed")
    return OPERATIONS[operation](ranks, size) if ranks > 1 else NOTHING


def _send(_: int, size: float) -> Traffic:
    return Traffic(1, 0, size, size, 1)


def _sendrecv(n: int, size: float) -> Traffic:
    return Traffic(1, 0, size, n * size, n)


def _barrier(n: int, _: float) -> Traffic:
    if n <= FLAT:
        return _fan(n, 0) + _fan(n, 0)
    return Traffic(_depth(n), 0, 0, 0, n * _depth(n))


def _bcast(n: int, size: float) -> Traffic:
    if n == 2 or size <= SEGMENT:
        return _down_tree(n, size)
    return _down_tree(n, 0) + _chain(n, size)


def _scatter(n: int, size: float) -> Traffic:
    return _fan(n, size)


def _gather(n: int, size: float) -> Traffic:
    if n <= FLAT:
        return _fan(n, size)
    # A part moves once for each level that it is below the root.
    moves = sum(rank.bit_count() for rank in range(n))
    return Traffic(_depth(n), 0, (n - 1) * size, moves * size, n - 1)


def _allgather(n: int, size: float) -> Traffic:
    return _exchange(n, size) if n == 2 else _gather(n, size) + _bcast(n, n * size)


def _exchange(n: int, size: float) -> Traffic:
    """Each rank sends a part to each."""
    return Traffic(1, 2 * (n - 2), (n - 1) * size, n * (n - 1) * size, n * (n - 1))


def _reduce(n: int, size: float) -> Traffic:
    return _gather(n, size) if size < LARGE else _exchange(n, size / n) + _fan(n, size / n)


def _allreduce(n: int, size: float) -> Traffic:
    if size < LARGE:
        return _exchange(n, size) if n == 2 else _gather(n, size) + _bcast(n, size)
    if n & (n - 1):
        return _exchange(n, size / n) + _exchange(n, size / n)
    moved = (n - 1) / n * size  # in rounds that double what each has
    doubling = Traffic(_depth(n), 0, moved, n * moved, n * _depth(n))
    return _exchange(n, size / n) + doubling


def _reduce_scatter(n: int, size: float) -> Traffic:
    return _exchange(n, size / n)


def _chain(n: int, size: float) -> Traffic:
    """From rank to rank, in segments that follow each other."""
    segments = max(1, math.ceil(size / SEGMENT))
    first = min(size, SEGMENT)
    return Traffic(
        rounds=n - 1,
        queued=2 * (segments - 1),  # each is received and sent on
        busiest=(n - 2) * first + size,
        total=(n - 1) * size,
        messages=(n - 1) * segments,
    )


def _fan(n: int, size: float) -> Traffic:
    """From one rank to all others, or from all others to one."""
    return Traffic(1, n - 2, (n - 1) * size, (n - 1) * size, n - 1)


def _down_tree(n: int, size: float) -> Traffic:
    if n <= FLAT:
        return _fan(n, size)
    return Traffic(_depth(n), 0, _depth(n) * size, (n - 1) * size, n - 1)


def _depth(n: int) -> int:
    return (n - 1).bit_length()


OPERATIONS: Final[dict[str, Callable[[int, float], Traffic]]] = {
    "send": _send,
    "sendrecv": _sendrecv,
    "bcast": _bcast,
    "scatter": _scatter,
    "gather": _gather,
    "allgather": _allgather,
    "alltoall": _exchange,
    "barrier": _barrier,
    "reduce": _reduce,
    "allreduce": _allreduce,
    "reduce_scatter": _reduce_scatter,
    "scan": _chain,
    "exscan": _chain,
}
