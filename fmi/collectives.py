"""The algorithms. Each is a function of a `Call`, and knows nothing of channels.

Which one is taken depends on the number of ranks and, where all ranks know it, on the size. Up to
`FLAT` ranks the root talks to each rank itself: a message costs a rank some microseconds, and a
tree that saves some of them adds a network's latency per level. Above, binomial trees. Arrays of
`LARGE` bytes and more are cut: what is reduced into one block per rank (each rank sends each block
to the rank that folds it, then each sends its folded block to all: every byte crosses the network
twice, the least there is), what is handed from rank to rank into segments that follow each other
down the chain.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from fmi.call import NOTHING, Call
from fmi.errors import ProtocolError
from fmi.frames import Buffer, Encoded, Kind, bytes_of, decode, empty_view, encode
from fmi.mailbox import Frame
from fmi.reductions import Function, Op, fold, fold_into

FLAT: Final = 16
LARGE: Final = 32 * 1024
SEGMENT: Final = 512 * 1024

_WHOLE, _ANNOUNCED, _SEGMENT = 0, 1, 2  # steps of a broadcast
_BLOCK, _FOLDED = 3, 4  # steps of a reduction of large arrays


def barrier(call: Call) -> None:
    """Nobody leaves before all have come: gathered and released by rank 0, or by dissemination."""
    if call.size <= FLAT:
        if call.rank:
            call.send(0, NOTHING, step=0)
            call.recv(0, 1)
            return
        call.recv_each(range(1, call.size))
        for dest in range(1, call.size):
            call.send(dest, NOTHING, step=1)
        return
    distance = 1
    while distance < call.size:
        call.send((call.rank + distance) % call.size, NOTHING, step=distance)
        call.recv((call.rank - distance) % call.size, distance)
        distance *= 2


def bcast(call: Call, encoded: Encoded | None, root: int) -> Encoded:
    """The root's message to all: whole down a tree; when large, announced there and segmented."""
    parent, children = _tree(call, root)
    if encoded is not None:  # the root
        large = call.size > 2 and len(encoded.payload) > SEGMENT
        if not large:
            for child in children:
                call.send(child, encoded, _WHOLE)
            return encoded
        announced = _announce(encoded)
        for child in children:
            call.send(child, announced, _ANNOUNCED)
        return _pass_on(call, encoded, root)
    frame = call.recv(parent if parent is not None else root, _WHOLE, _ANNOUNCED)
    step = frame.header.tag & 0xFFFF
    got = Encoded(frame.header.kind, frame.description, frame.payload)
    for child in children:
        call.send(child, got, step)
    if step == _WHOLE:
        return got
    kind, description, size = msgpack.unpackb(frame.payload)
    return _pass_on(call, Encoded(kind, description, empty_view(size)), root)


def gather(call: Call, encoded: Encoded, root: int) -> list[Encoded] | None:
    """Every rank's message at the root, in rank order."""
    if call.size <= FLAT:
        if call.rank != root:
            call.send(root, encoded)
            return None
        frames = call.recv_each([rank for rank in range(call.size) if rank != root])
        return [encoded if rank == root else _as_encoded(frames[rank]) for rank in range(call.size)]
    parent, children = _tree(call, root)
    parts = {call.rank: encoded}
    for frame in call.recv_each(children).values():
        parts.update(_unpack(frame.payload))
    if parent is not None:
        call.send(parent, _pack(parts))
        return None
    return [parts[rank] for rank in range(call.size)]


def scatter(call: Call, parts: Sequence[Encoded] | None, root: int) -> Encoded:
    """The root's n-th message to rank n."""
    if parts is None:
        return _as_encoded(call.recv(root))
    for dest in call.others():
        call.send(dest, parts[dest])
    return parts[root]


def allgather(call: Call, encoded: Encoded) -> list[Encoded]:
    """Every rank's message at every rank."""
    if call.size == 2:  # one round instead of two
        return _exchange(call, [encoded, encoded])
    gathered = gather(call, encoded, 0)
    packed = None if gathered is None else _pack(dict(enumerate(gathered)))
    parts = _unpack(bcast(call, packed, 0).payload)
    return [encoded if rank == call.rank else parts[rank] for rank in range(call.size)]


def alltoall(call: Call, parts: Sequence[Encoded]) -> list[Encoded]:
    """The n-th message of each rank to rank n."""
    return _exchange(call, parts)


def allreduce(call: Call, array: NDArray[Any], op: Op, out: NDArray[Any]) -> None:
    """Fold equal arrays into `out` (which may be `array`) on every rank."""
    encoded = encode(array)
    if call.size == 1:
        np.copyto(out, array)
    elif array.nbytes < LARGE or array.size < call.size:
        parts = allgather_alike(call, encoded)
        if np.may_share_memory(out, array):
            parts[call.rank] = encode(array.copy())
        fold_into(out, [_array(each) for each in parts], op)
    else:
        _fold_blocks(call, encoded, array, op, out, to=range(call.size))


def reduce(call: Call, array: NDArray[Any], op: Op, root: int) -> NDArray[Any] | None:
    """Fold equal arrays at the root."""
    encoded = encode(array)
    out = np.empty_like(array, order="C") if call.rank == root else None
    if call.size > 1 and array.nbytes >= LARGE and array.size >= call.size:
        _fold_blocks(call, encoded, array, op, out, to=(root,))
        return out
    parts = gather_alike(call, encoded, root)
    if out is not None and parts is not None:
        fold_into(out, [_array(each) for each in parts], op)
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
    return fold(map(_value, parts), op)


def reduce_scatter(
    call: Call, array: NDArray[Any], counts: Sequence[int], op: Op | Function
) -> NDArray[Any]:
    """Fold equal arrays; rank n gets the n-th part of the rows."""
    whole = encode(array)
    borders = [0, *itertools.accumulate(counts)]
    rows = [np.ascontiguousarray(array[a:b]) for a, b in itertools.pairwise(borders)]
    parts = [Encoded(Kind.ARRAY, whole.description, bytes_of(each)) for each in rows]
    mine = rows[call.rank]
    got = _exchange(call, parts, like=whole)
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
    before = _value(_as_encoded(call.recv(call.rank - 1))) if call.rank else None
    result = op(before, obj) if call.rank else obj
    if call.rank + 1 < call.size:
        call.send(call.rank + 1, encode(result))
    return before, result


def gather_alike(call: Call, encoded: Encoded, root: int) -> list[Encoded] | None:
    """`gather` of arrays that must have one dtype and shape."""
    parts = gather(call, encoded, root)
    _check_alike(call, parts or (), encoded)
    return parts


def allgather_alike(call: Call, encoded: Encoded) -> list[Encoded]:
    """`allgather` of arrays that must have one dtype and shape."""
    parts = allgather(call, encoded)
    _check_alike(call, parts, encoded)
    return parts


def even(total: int, size: int) -> list[int]:
    """Cut `total` into counts that differ by one at most, larger ones first."""
    small, larger = divmod(total, size)
    return [small + (rank < larger) for rank in range(size)]


def _tree(call: Call, root: int) -> tuple[int | None, list[int]]:
    """Parent and children of this rank: all at the root up to `FLAT` ranks, else a binomial tree.

    The children with the largest trees come first.
    """
    if call.size <= FLAT:
        if call.rank != root:
            return root, []
        return None, [rank for rank in range(call.size) if rank != root]
    own = (call.rank - root) % call.size
    bit, children = 1, list[int]()
    while bit < call.size and not own & bit:
        if own + bit < call.size:
            children.append((own + bit + root) % call.size)
        bit *= 2
    parent = None if own == 0 else (own - bit + root) % call.size
    return parent, children[::-1]


def _pass_on(call: Call, encoded: Encoded, root: int) -> Encoded:
    """Segments down the chain that begins at the root; `encoded.payload` is filled on the way."""
    own = (call.rank - root) % call.size
    before, behind = (call.rank - 1) % call.size, (call.rank + 1) % call.size
    view = memoryview(encoded.payload)
    parts = [view[start : start + SEGMENT] for start in range(0, len(view), SEGMENT)]
    if own:
        call.expect(before, parts[0], _SEGMENT)
    for number, part in enumerate(parts):
        if own:
            _take_into(call.recv(before, _SEGMENT + number), part)
            if number + 1 < len(parts):
                call.expect(before, parts[number + 1], _SEGMENT + number + 1)
        if own + 1 < call.size:
            call.send(behind, Encoded(Kind.BYTES, b"", part), _SEGMENT + number)
    return encoded


def _exchange(call: Call, parts: Sequence[Encoded], like: Encoded | None = None) -> list[Encoded]:
    """Every rank sends its n-th part to rank n."""
    for dest in call.others():
        call.send(dest, parts[dest], _BLOCK)
    frames = call.recv_each(call.others(), _BLOCK)
    if like:
        for source, frame in frames.items():
            call.check_like(source, _as_encoded(frame), like)
    return [
        parts[rank] if rank == call.rank else _as_encoded(frames[rank]) for rank in range(call.size)
    ]


def _fold_blocks(
    call: Call,
    whole: Encoded,
    array: NDArray[Any],
    op: Op,
    out: NDArray[Any] | None,
    to: Sequence[int],
) -> None:
    """Reduce a large array: each rank folds one block of all, and sends it to the ranks in `to`.

    The messages carry the description of the whole array, so that ranks which come with another
    one notice.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    borders = [0, *itertools.accumulate(even(flat.size, call.size))]
    cuts = [slice(a, b) for a, b in itertools.pairwise(borders)]
    mine = cuts[call.rank]
    result = out.reshape(-1) if out is not None else None
    arrived = call.scratch(call.size, flat[mine])
    arrived[call.rank] = flat[mine]  # a copy: `out` may be `array`
    for source in call.others():
        call.expect(source, bytes_of(arrived[source]), _BLOCK)
        if result is not None:
            call.expect(source, bytes_of(result[cuts[source]]), _FOLDED)
    for dest in call.others():
        call.send(dest, Encoded(Kind.ARRAY, whole.description, bytes_of(flat[cuts[dest]])), _BLOCK)
    for source, frame in call.recv_each(call.others(), _BLOCK).items():
        call.check_like(source, _as_encoded(frame), whole)
        _take_into(frame, bytes_of(arrived[source]))
    folded = result[mine] if result is not None else np.empty_like(arrived[0])
    fold_into(folded, arrived, op)
    for dest in call.others():
        if dest in to:
            call.send(dest, Encoded(Kind.ARRAY, whole.description, bytes_of(folded)), _FOLDED)
    if result is not None:
        for source, frame in call.recv_each(call.others(), _FOLDED).items():
            _take_into(frame, bytes_of(result[cuts[source]]))


def _receive_into(call: Call, source: int, into: NDArray[Any], whole: Encoded, step: int) -> None:
    view = bytes_of(into)
    call.expect(source, view, step)
    frame = call.recv(source, step)
    call.check_like(source, _as_encoded(frame), whole)
    _take_into(frame, view)


def _take_into(frame: Frame, view: memoryview) -> None:
    """See that a part is where it belongs; mostly it was received there."""
    if frame.payload is view or frame.payload == b"":
        return
    if len(frame.payload) != len(view):
        raise ProtocolError(f"a part of {len(frame.payload)} bytes came, not of {len(view)}")
    view[:] = frame.payload


def _check_alike(call: Call, parts: Sequence[Encoded], encoded: Encoded) -> None:
    for source, each in enumerate(parts):
        call.check_like(source, each, encoded)


def _announce(encoded: Encoded) -> Encoded:
    head = (int(encoded.kind), encoded.description, len(encoded.payload))
    return Encoded(Kind.BYTES, b"", msgpack.packb(head))


def _as_encoded(frame: Frame) -> Encoded:
    return Encoded(frame.header.kind, frame.description, frame.payload)


def _value(encoded: Encoded) -> Any:
    return decode(*encoded)


def _array(encoded: Encoded) -> NDArray[Any]:
    array: NDArray[Any] = decode(*encoded)
    return array


def _pack(parts: dict[int, Encoded]) -> Encoded:
    """Several messages as one."""
    return Encoded(
        Kind.BYTES,
        b"",
        msgpack.packb(
            [(rank, int(kind), what, bytes(raw)) for rank, (kind, what, raw) in parts.items()]
        ),
    )


def _unpack(payload: Buffer) -> dict[int, Encoded]:
    return {
        rank: Encoded(kind, what, bytearray(raw))
        for rank, kind, what, raw in msgpack.unpackb(payload)
    }
