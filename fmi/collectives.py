"""The algorithms that move messages. Each is a function of a `Call`, and knows nothing of channels.

Which one is taken depends on the number of ranks and, where all ranks know it, on the size. Up to
`FLAT` ranks the root talks to each rank itself: a message costs a rank some microseconds, and a
tree that saves some of them adds a network's latency per level. Above, binomial trees. A broadcast
of more than `SEGMENT` bytes goes down the chain of ranks in segments that follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgpack
from numpy.typing import NDArray

from fmi.call import NOTHING, Call
from fmi.errors import ProtocolError
from fmi.frames import Buffer, Encoded, Kind, decode, empty_view
from fmi.mailbox import Frame

FLAT: Final = 16
SEGMENT: Final = 512 * 1024

_WHOLE, _ANNOUNCED, _SEGMENT = 0, 1, 2  # steps of a broadcast
_PART: Final = 3  # the step of an exchange


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
        return [encoded if rank == root else as_encoded(frames[rank]) for rank in range(call.size)]
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
        return as_encoded(call.recv(root))
    for dest in call.others():
        call.send(dest, parts[dest])
    return parts[root]


def allgather(call: Call, encoded: Encoded) -> list[Encoded]:
    """Every rank's message at every rank."""
    if call.size == 2:  # one round instead of two
        return exchange(call, [encoded, encoded])
    gathered = gather(call, encoded, 0)
    packed = None if gathered is None else _pack(dict(enumerate(gathered)))
    parts = _unpack(bcast(call, packed, 0).payload)
    return [encoded if rank == call.rank else parts[rank] for rank in range(call.size)]


def alltoall(call: Call, parts: Sequence[Encoded]) -> list[Encoded]:
    """The n-th message of each rank to rank n."""
    return exchange(call, parts)


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
            take_into(call.recv(before, _SEGMENT + number), part)
            if number + 1 < len(parts):
                call.expect(before, parts[number + 1], _SEGMENT + number + 1)
        if own + 1 < call.size:
            call.send(behind, Encoded(Kind.BYTES, b"", part), _SEGMENT + number)
    return encoded


def exchange(call: Call, parts: Sequence[Encoded], like: Encoded | None = None) -> list[Encoded]:
    """Every rank sends its n-th part to rank n."""
    for dest in call.others():
        call.send(dest, parts[dest], _PART)
    frames = call.recv_each(call.others(), _PART)
    if like:
        for source, frame in frames.items():
            call.check_like(source, as_encoded(frame), like)
    return [
        parts[rank] if rank == call.rank else as_encoded(frames[rank]) for rank in range(call.size)
    ]


def take_into(frame: Frame, view: memoryview) -> None:
    """See that a part is where it belongs; mostly it was received there."""
    if frame.payload is view or frame.payload == b"":
        return
    if len(frame.payload) != len(view):
        raise ProtocolError(f"a part of {len(frame.payload)} bytes came, not of {len(view)}")
    view[:] = frame.payload


def _announce(encoded: Encoded) -> Encoded:
    head = (int(encoded.kind), encoded.description, len(encoded.payload))
    return Encoded(Kind.BYTES, b"", msgpack.packb(head))


def as_encoded(frame: Frame) -> Encoded:
    """What arrived, as it could be sent on."""
    return Encoded(frame.header.kind, frame.description, frame.payload)


def value_of(encoded: Encoded) -> Any:
    """The object of a message."""
    return decode(*encoded)


def array_of(encoded: Encoded) -> NDArray[Any]:
    """The array of a message."""
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
