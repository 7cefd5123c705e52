"""A lane beside the live one, in the same dispatcher: it shares workers, sinks and money.

So a person can send dead letters again while the night goes on. Its books are its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dispatcher.errands import Errand
from dispatcher.lane import Settle
from dispatcher.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Beside:
    """Work of a second lane: the pipeline of the first, which runs already."""

    pipeline: Pipeline
    lane: str

    @asynccontextmanager
    async def running(self, settle: Settle) -> AsyncIterator[None]:
        """See `Work.running`."""
        with self.pipeline.beside(self.lane, settle):
            yield

    async def accept(self, errands: Sequence[Errand]) -> None:
        """See `Work.accept`. What dies here has died before: it is no sign of a broken stream."""
        await self.pipeline.accept(errands, strict=False)

    def flush(self) -> None:
        """See `Work.flush`."""
        self.pipeline.flush()
