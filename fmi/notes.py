"""What ranks tell of themselves: the call they are in, for whom they wait, and what went wrong."""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple, Protocol

import msgpack

from fmi.errors import Aborted, FmiError, PeerLost, ProtocolError
from fmi.frames import Encoded, Header, Kind, Operation


class Which(NamedTuple):
    """Which collective call a rank is in; `detail` is its root, or what it folds with."""

    context: int
    operation: int
    number: int
    detail: int

    def __str__(self) -> str:
        return f"call {self.number} ({Operation(self.operation).name.lower()})"


class InCall(Protocol):
    """What waits for a part of a collective."""

    def which(self) -> Which:
        """Which call it is."""


def in_another_call(rank: int, header: Header) -> ProtocolError:
    """What to say of a rank that waits for a message of one that is in a collective."""
    name = Operation(header.operation).name.lower()
    return ProtocolError(
        f"rank {rank} waits for a message of rank {header.source}, which is in call "
        f"{header.number} ({name}): the ranks call different operations"
    )


def different_calls(rank: int, own: Which, other: int, theirs: Which) -> ProtocolError:
    """What to say of ranks that do not make the same call."""
    if own[:3] == theirs[:3]:
        return ProtocolError(
            f"rank {other} makes {theirs} with another root, reduction or size than rank {rank}: "
            "the ranks do not run the same program"
        )
    return ProtocolError(
        f"rank {rank} is in {own} and rank {other} in {theirs}: the ranks call different operations"
    )


class Note(NamedTuple):
    """What a beat says: for whom a rank waits, and in which call."""

    waits_for: tuple[int, ...]
    which: Which | None

    def write(self) -> bytes:
        """As it travels."""
        which = _WHICH.pack(*(self.which or _NOT_IN_A_CALL))
        return which + struct.pack(f"!{len(self.waits_for)}H", *self.waits_for)

    @classmethod
    def read(cls, raw: bytes) -> Note:
        """The reverse of `write`.

        Raises:
            struct.error: these bytes are no note.
        """
        which = Which._make(_WHICH.unpack_from(raw))
        ranks = struct.unpack(f"!{(len(raw) - _WHICH.size) // 2}H", raw[_WHICH.size :])
        return cls(ranks, None if which == _NOT_IN_A_CALL else which)


_WHICH: Final = struct.Struct("!IBIH")
_NOT_IN_A_CALL: Final = Which(0, 0, 0, 0)


def write_failure(error: FmiError) -> Encoded:
    """An error as other ranks are told of it."""
    lost = list(error.ranks) if isinstance(error, PeerLost) else []
    aborted = error.rank if isinstance(error, Aborted) else None
    why = error.why if isinstance(error, PeerLost | Aborted) else str(error)
    return Encoded(Kind.OBJECT, b"", msgpack.packb([lost, aborted, why]))


def read_failure(source: int, told: Any) -> FmiError:
    """The error that `source` told of."""
    lost, aborted, why = told
    if lost:
        return PeerLost(lost, f"rank {source} reports: {why}")
    if aborted is not None:
        return Aborted(aborted, why)
    return ProtocolError(f"rank {source} reports: {why}")
