"""The algorithms of reductions. Each is a function of a `Call`, and knows nothing of channels.

All fold from the left, by rank (see `reductions`), so what moves is values or blocks of them, and
never the sums of some ranks. Arrays of `LARGE` bytes and more are cut into one block per rank: each
rank sends each block to the rank that folds it, and hands its folded block to all. Every byte
crosses the network twice, the least there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmi.call import Call
from fmi.collectives import (
    SEGMENT,
    allgather,
    array_of,
    as_encoded,
    bcast,
    even,
    exchange,
    gather,
    take_into,
    value_of,
)
from fmi.frames import Encoded, Kind, bytes_of, encode
from fmi.reductions import Function, Op, fold, fold_into

LARGE: Final = 32 * 1024
_BLOCK, _FOLDED = 3, 4  # steps of a reduction of large arrays


def allreduce(call: Call, array: NDArray[Any], op: Op, out: NDArray[Any]) -> None:
    """Fold equal arrays into `out` (which may be `array`) on every rank."""
    encoded = encode(array)
    if call.size == 1:
        np.copyto(out, array)
    elif array.nbytes >= LARGE and array.size >= call.size:
        _fold_blocks(call, encoded, array, op, out, None)
    else:
        _allreduce_small(call, encoded, array, op, out)


def _allreduce_small(
    call: Call, encoded: Encoded, array: NDArray[Any], op: Op, out: NDArray[Any]
) -> None:
    """Folded by rank 0; of two ranks by both, in one round instead of two."""
    if call.size == 2:
        parts = _allgather_alike(call, encoded)
    else:
        gathered = _gather_alike(call, encoded, 0)
        if gathered is None:
            got = bcast(call, None, 0)
            call.check_like(0, got, encoded)
            np.copyto(out, array_of(got))
            return
        parts = gathered
    if np.may_share_memory(out, array):
        parts[call.rank] = encode(array.copy())
    fold_into(out, [array_of(each) for each in parts], op)
    if call.size > 2:
        bcast(call, encode(out), 0)


def reduce(call: Call, array: NDArray[Any], op: Op, root: int) -> NDArray[Any] | None:
    """Fold equal arrays at the root."""
    encoded = encode(array)
    out = np.empty_like(array, order="C") if call.rank == root else None
    if call.size > 1 and array.nbytes >= LARGE and array.size >= call.size:
        _fold_blocks(call, encoded, array, op, out, root)
        return out
    parts = _gather_alike(call, encoded, root)
    if out is not None and parts is not None:
        fold_into(out, [array_of(each) for each in parts], op)
    return out


def reduce_values(call: Call, obj: Any, op: Op | Function, root: int) -> Any:
    """Fold whole values at the root; None elsewhere."""
    parts = gather(call, encode(obj), root)
    if parts is None:
        return None
    if isinstance(op, Op):
        for source, each in enumerate(parts):
            if each.kind == Kind.ARRAY:
                call.check_like(source, each, parts[root])
    return fold(map(value_of, parts), op)


def reduce_scatter(
    call: Call, array: NDArray[Any], counts: Sequence[int], op: Op | Function
) -> NDArray[Any]:
    """Fold equal arrays; rank n gets the n-th part of the rows."""
    whole = encode(array)
    borders = [0, *itertools.accumulate(counts)]
    rows = [np.ascontiguousarray(array[a:b]) for a, b in itertools.pairwise(borders)]
    parts = [Encoded(Kind.ARRAY, whole.description, bytes_of(each)) for each in rows]
    mine = rows[call.rank]
    got = exchange(call, parts, like=whole)
    blocks = [np.frombuffer(each.payload, array.dtype).reshape(mine.shape) for each in got]
    if not isinstance(op, Op):
        return np.asarray(fold(blocks, op))
    out = np.empty_like(mine)
    fold_into(out, blocks, op)
    return out


def scan(call: Call, array: NDArray[Any], op: Op) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Fold equal arrays up the chain of ranks, segment by segment.

    Returns the fold of what is before this rank (None on rank 0), and with its own.
    """
    whole = encode(array)
    before = np.empty_like(array, order="C") if call.rank else None
    result = np.array(array, order="C")
    mine, flat = array.reshape(-1), result.reshape(-1)
    items = max(1, SEGMENT // array.itemsize)
    for step, start in enumerate(range(0, max(1, array.size), items)):
        part = slice(start, start + items)
        if before is not None:
            segment = before.reshape(-1)[part]
            _receive_into(call, call.rank - 1, segment, whole, step)
            fold_into(flat[part], (segment, mine[part]), op)
        if call.rank + 1 < call.size:
            call.send(
                call.rank + 1, Encoded(Kind.ARRAY, whole.description, bytes_of(flat[part])), step
            )
    return before, result


def scan_values(call: Call, obj: Any, op: Op | Function) -> tuple[Any, Any]:
    """`scan` of whole values."""
    before = value_of(as_encoded(call.recv(call.rank - 1))) if call.rank else None
    result = op(before, obj) if call.rank else obj
    if call.rank + 1 < call.size:
        call.send(call.rank + 1, encode(result))
    return before, result


def _fold_blocks(
    call: Call,
    whole: Encoded,
    array: NDArray[Any],
    op: Op,
    out: NDArray[Any] | None,
    root: int | None,
) -> None:
    """Reduce a large array: each rank folds one block of all, and hands it to the root, or to all.

    `out` is None where nothing is handed to. The messages carry the description of the whole
    array, so that ranks which come with another one notice.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    borders = [0, *itertools.accumulate(even(flat.size, call.size))]
    cuts = [slice(a, b) for a, b in itertools.pairwise(borders)]
    result = out.reshape(-1) if out is not None else None
    rounds = _rounds(call, cuts, root) if result is not None else []
    arrived = call.scratch(call.size, flat[cuts[call.rank]])
    for source in call.others():
        call.expect(source, bytes_of(arrived[source]), _BLOCK)
    if result is not None:
        for each in itertools.chain.from_iterable(rounds):
            call.expect(each.other, bytes_of(result[each.theirs]), each.step)
    _collect_block(call, whole, flat, cuts, arrived)
    folded = result[cuts[call.rank]] if result is not None else np.empty_like(arrived[0])
    fold_into(folded, arrived, op)
    if result is None and root is not None:
        call.send(root, _part(whole, folded), _FOLDED)
    elif result is not None:
        _hand_out(call, whole, result, rounds)


def _collect_block(
    call: Call,
    whole: Encoded,
    flat: NDArray[Any],
    cuts: Sequence[slice],
    arrived: NDArray[Any],
) -> None:
    """Send each block to the rank that folds it; `arrived` gets this rank's block of all."""
    arrived[call.rank] = flat[cuts[call.rank]]  # a copy: the result may go where the array is
    for dest in call.others():
        call.send(dest, _part(whole, flat[cuts[dest]]), _BLOCK)
    for source, frame in call.recv_each(call.others(), _BLOCK).items():
        call.check_like(source, as_encoded(frame), whole)
        take_into(frame, bytes_of(arrived[source]))


def _hand_out(
    call: Call, whole: Encoded, result: NDArray[Any], rounds: Sequence[Sequence[_Handed]]
) -> None:
    for handed in rounds:
        for each in handed:
            if each.own is not None:
                call.send(each.other, _part(whole, result[each.own]), each.step)
        for each in handed:
            take_into(call.recv(each.other, each.step), bytes_of(result[each.theirs]))


def _part(whole: Encoded, block: NDArray[Any]) -> Encoded:
    """A block as it travels: with the description of the whole array."""
    return Encoded(Kind.ARRAY, whole.description, bytes_of(block))


class _Handed(NamedTuple):
    """Folded blocks that come from another rank, for which it may get our own."""

    other: int
    step: int
    own: slice | None
    theirs: slice


def _rounds(call: Call, cuts: Sequence[slice], root: int | None) -> list[list[_Handed]]:
    """How folded blocks come to this rank, which is the root, or any if there is none.

    To the root each sends its own. To all: ranks exchange what they have with the next one, then
    with the next pair, and so on, which takes the fewest messages; where the number of ranks is no
    power of two, each with each.
    """
    if root is not None or call.size & (call.size - 1):
        own = cuts[call.rank] if root is None else None
        return [[_Handed(other, _FOLDED, own, cuts[other]) for other in call.others()]]
    rounds, count = list[list[_Handed]](), 1
    while count < call.size:
        other = call.rank ^ count
        own, theirs = (
            slice(cuts[first].start, cuts[first + count - 1].stop)
            for first in (call.rank & -count, other & -count)
        )
        rounds.append([_Handed(other, _FOLDED + len(rounds), own, theirs)])
        count *= 2
    return rounds


def _receive_into(call: Call, source: int, into: NDArray[Any], whole: Encoded, step: int) -> None:
    view = bytes_of(into)
    call.expect(source, view, step)
    frame = call.recv(source, step)
    call.check_like(source, as_encoded(frame), whole)
    take_into(frame, view)


def _gather_alike(call: Call, encoded: Encoded, root: int) -> list[Encoded] | None:
    """`gather` of arrays that must have one dtype and shape."""
    parts = gather(call, encoded, root)
    _check_alike(call, parts or (), encoded)
    return parts


def _allgather_alike(call: Call, encoded: Encoded) -> list[Encoded]:
    """`allgather` of arrays that must have one dtype and shape."""
    parts = allgather(call, encoded)
    _check_alike(call, parts, encoded)
    return parts


def _check_alike(call: Call, parts: Sequence[Encoded], encoded: Encoded) -> None:
    for source, each in enumerate(parts):
        call.check_like(source, each, encoded)
