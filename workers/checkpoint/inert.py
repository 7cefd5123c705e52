"""What stands for the things that a pickle names: descriptions that do nothing."""

from __future__ import annotations

from dataclasses import dataclass, field


class Refused(Exception):
    """A file is not read. The message says why, as the end of a sentence about the file."""


# None of them is ever compared: what is inside may be deep or refer to itself.
@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A class or function by its full name. It is not imported."""

    full: str


@dataclass(slots=True, eq=False)
class Made:
    """An object of a class that is not there: its attributes, and no behaviour."""

    state: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """`count` numbers of one kind (a dtype's name), in the archive's entry `data/<key>`."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view into a storage: `offset` and `strides` are in numbers of `kind`.

    `kind` is not the storage's where torch has no storage of its own for it: those hold bytes.
    """

    storage: Storage
    kind: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def shown(text: object, limit: int = 60) -> str:
    """Text of a file, fit for one line of a message."""
    return repr(text[:limit] if isinstance(text, str) else type(text).__name__)
