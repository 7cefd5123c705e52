"""Dead letters as a source: the same bytes at the same positions, once more, by the normal road.

A letter is removed when its event was settled in another way than dead. One that dies again is
written again, with its count of redrives; the newer letter takes the place of the older one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from dispatcher.books import Outcome
from dispatcher.conclusions import Conclusion
from ingest.errors import SourceError, SourceUnavailable
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources import Keeper
from sinks.deadletters import DeadLetter, DeadLetterSink, Place
from sinks.errors import SinkError

LANE: Final = "redrive"
"""Name of the lane: its books are kept apart from those of the source."""


class LetterSource:
    """Delivers the letters that are `wanted`, as they are when it is opened.

    They are held in memory, all of them: limits on dead letters keep their number small.
    """

    ordered = False

    def __init__(self, letters: DeadLetterSink, wanted: Callable[[DeadLetter], bool]) -> None:
        self.name = f"{LANE}:{letters.name}"
        self.redriven: dict[Position, int] = {}
        """How often each had been sent again, this time included."""
        self._letters = letters
        self._wanted = wanted
        self._ahead: list[Delivery] = []
        self._died_again: set[Position] = set()
        self._answered: set[Place] = set()

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        try:
            async for letter in self._letters.scan():
                if self._wanted(letter):
                    position = Position(*letter.place)
                    self.redriven[position] = letter.redriven + 1
                    self._ahead.append(
                        Delivery(position, letter.body, time.time(), dict(letter.headers))
                    )
        except SinkError as error:
            raise SourceError(f"dead letters cannot be read: {error}") from error
        self._ahead.sort(reverse=True)
        for partition in sorted({each.position.home for each in self._ahead}):
            keeper.assign(partition)

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        return [self._ahead.pop() for _ in range(min(limit, len(self._ahead)))]

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`. Letters have no order that one of them could hold up."""

    def note(self, conclusion: Conclusion) -> None:
        """Be told how an errand ended: one that died again keeps its letter."""
        if conclusion.outcome is Outcome.DEAD:
            self._died_again.add(conclusion.errand.delivery.position)

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`: letters that were answered are removed."""
        self._answered |= {
            Place(*partition, offset)
            for partition, each in progress.items()
            for offset in each.settled
            if Position(*partition, offset) not in self._died_again
        }
        try:
            await self._letters.remove(self._answered)
        except SinkError as error:
            raise SourceUnavailable(f"letters cannot be removed: {error}") from error
        self._answered.clear()

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`."""
        return not self._ahead

    async def close(self) -> None:
        """Whoever opened the letters closes them."""
