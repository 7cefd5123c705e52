"""Dead letters: what could not be answered, with all that is needed to find out why."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sinks.journal import Journal

_Place = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that could not be answered.

    `reason` is a code (see `docs/events.md`), `detail` a sentence, `attempts` how often a worker
    was asked, `body` what the survey sent: of a packet out of a container of many, its record byte
    for byte in a container of its own; of a line or file over its limit, the beginning.
    `cost_usd_micro` is null where no price is known.
    """

    src_topic: str
    src_partition: str
    src_offset: int
    reason: str
    detail: str
    attempts: int
    body: bytes
    run_id: str
    t_dead: float
    cost_usd_micro: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    survey: str | None = None
    alert_id: str | None = None
    result_id: str | None = None

    @property
    def place(self) -> _Place:
        """Where the event stands in its source: the letter's identity."""
        return self.src_topic, self.src_partition, self.src_offset

    def to_json(self) -> dict[str, Any]:
        """For JSON: the body in base64, the offset as a string."""
        body = base64.b64encode(self.body).decode("ascii")
        return {**asdict(self), "body": body, "src_offset": str(self.src_offset)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> DeadLetter:
        """What `to_json` was called on."""
        body, offset = base64.b64decode(fields["body"]), int(fields["src_offset"])
        return cls(**{**fields, "body": body, "src_offset": offset})


class DeadLetterSink(Protocol):
    """A destination for dead letters, idempotent by position."""

    name: str

    async def open(self) -> None:
        """Get ready; mend what a crash left."""

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Store the letters; durable when it returns. Raises as `Sink.write` does."""

    def scan(self) -> AsyncIterator[DeadLetter]:
        """Every letter that is held."""

    async def close(self) -> None:
        """Let go of files and connections."""


class DeadLetterFile:
    """Dead letters as JSON lines.

    Guarantee: as `JsonLinesSink`; a position that is in the file is not written again.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._journal = Journal(path)
        self._places: set[_Place] = set()
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """See `DeadLetterSink.open`."""
        await asyncio.to_thread(self._journal.open)
        self._places = {letter.place async for letter in self.scan()}

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink.write`."""
        async with self._lock:
            fresh = {each.place: each for each in letters if each.place not in self._places}
            lines = [letter.to_json() for letter in fresh.values()]
            await asyncio.to_thread(self._journal.append, lines)
            self._places.update(fresh)

    async def scan(self) -> AsyncIterator[DeadLetter]:
        """See `DeadLetterSink.scan`."""
        for line in self._journal.read():
            yield DeadLetter.from_json(line)

    async def close(self) -> None:
        """See `DeadLetterSink.close`."""
        async with self._lock:
            self._journal.close()


class MemoryDeadLetters:
    """The in-memory twin."""

    def __init__(self, name: str = "dead letters in memory") -> None:
        self.name = name
        self.letters: dict[_Place, DeadLetter] = {}

    async def open(self) -> None:
        """Nothing to get ready."""

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink.write`."""
        for each in letters:
            self.letters.setdefault(each.place, each)

    async def scan(self) -> AsyncIterator[DeadLetter]:
        """See `DeadLetterSink.scan`."""
        for each in self.letters.values():
            yield each

    async def close(self) -> None:
        """Nothing to let go of."""
