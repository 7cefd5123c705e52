"""What a store of dead letters must do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from typing import ClassVar, Protocol

from sinks.deadletters.letter import DeadLetter, Place


class DeadLetterSink(Protocol):
    """A destination for dead letters, idempotent by place. One writer at a time."""

    name: str
    guarantee: ClassVar[str]
    """What the store promises, in a sentence or two for its users."""

    async def open(self) -> None:
        """Get ready.

        Raises:
            SinkUnavailable: not now.
            SinkRefused: it can never be used as things are.
        """

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Store the letters; durable when it returns.

        A place that is held is not doubled: the later letter takes the place of the held one.

        Raises:
            SinkUnavailable: nothing was promised; the same letters may be written again.
            SinkRefused: they will never be taken as things are.
        """

    def scan(self) -> AsyncGenerator[DeadLetter, None]:
        """Every letter that is held, once, in no order. Raises as `write` does."""

    async def remove(self, places: Collection[Place]) -> None:
        """Hold no letter of these places any more; durable when it returns.

        A place that is not held is no error, so what a crash or an error cut off may be done
        again. Raises as `write` does.
        """

    async def close(self) -> None:
        """Let go of files and connections."""
