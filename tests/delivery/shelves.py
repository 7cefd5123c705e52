"""Sinks with moods: slow, away, or failing when a part of the rows is stored."""

import asyncio
from collections import Counter

from sinks.errors import SinkUnavailable


class Shelf:
    """A sink of results, or of dead letters, and what is known to be in it.

    `name_of(row)`: what must not be in it twice. `held`: those that a write has stored.
    """

    def __init__(self, sink, name_of, draw, delay, flaky=0.0, required=True):
        self.sink, self.name_of, self.required = sink, name_of, required
        self.name = sink.name
        self.away = False
        self.held = set()
        self._draw, self._delay, self._flaky = draw, delay, flaky

    async def write(self, rows):
        await asyncio.sleep(self._delay())
        if self.away:
            raise SinkUnavailable("it is away")
        if self._draw.random() < self._flaky:
            await self._store(rows[: self._draw.randint(0, len(rows))])
            raise SinkUnavailable("it failed in the middle")
        await self._store(rows)
        await asyncio.sleep(self._delay())  # stored, and nobody knows yet

    async def _store(self, rows):
        if rows:
            await self.sink.write(rows)
            self.held.update(map(self.name_of, rows))

    async def counted(self):
        """How often each is in the sink."""
        return Counter([self.name_of(each) async for each in self.sink.scan()])


def key_and_status(row):
    return row.result_id, str(row.status)


def letter(row):
    return row.result_id or (row.src_partition, row.src_offset)
