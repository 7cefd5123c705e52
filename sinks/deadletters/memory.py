"""Dead letters in memory: the twin for tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from typing import ClassVar

from sinks.deadletters.letter import DeadLetter, Place


class MemoryDeadLetters:
    """The in-memory twin: letters by place."""

    guarantee: ClassVar[str] = "None beyond the life of the process."

    def __init__(self, name: str = "dead letters in memory") -> None:
        self.name = name
        self.letters: dict[Place, DeadLetter] = {}

    async def open(self) -> None:
        """Nothing to get ready."""

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink.write`."""
        self.letters.update((each.place, each) for each in letters)

    async def scan(self) -> AsyncGenerator[DeadLetter, None]:
        """See `DeadLetterSink.scan`."""
        for each in tuple(self.letters.values()):
            yield each

    async def remove(self, places: Collection[Place]) -> None:
        """See `DeadLetterSink.remove`."""
        for each in places:
            self.letters.pop(each, None)

    async def close(self) -> None:
        """Nothing to let go of."""
