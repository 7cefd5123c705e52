"""Shelves: what each sink holds, by position and by key, for a comparison from outside."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from dispatcher.destinations import access, open_letters
from dispatcher.errors import SettingsError
from dispatcher.review.sqlite import FILE, SqliteReview
from dispatcher.settings import Settings
from ingest.events import Position
from sinks import open_sink
from sinks.sink import Stored


@dataclass(slots=True)
class Shelf:
    """What one sink holds: a status per position, and how often each key occurs."""

    name: str
    statuses: dict[Position, str] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)

    def add(self, stored: Stored) -> None:
        """A row that it holds."""
        position = Position(stored.src_topic, stored.src_partition, stored.src_offset)
        self.statuses[position] = stored.status
        self.keys[stored.result_id] += 1

    def lend(self, other: Shelf) -> None:
        """What `other` holds counts as here, where it is not: it is still to come."""
        self.statuses = {**other.statuses, **self.statuses}
        self.keys.update(other.keys.keys() - self.keys.keys())


async def read_sink(
    stack: AsyncExitStack, output: Path, location: str, settings: Settings
) -> Shelf:
    """The shelf of a sink.

    Raises:
        SinkError, SettingsError: it cannot be read, or is not there.
    """
    if "://" not in location and not (output / location).exists():
        raise SettingsError(
            f"{output / location} does not exist: name the sinks of the run with --settings"
        )
    sink = open_sink(location, output, access(settings))
    await sink.open()
    stack.push_async_callback(sink.close)
    shelf = Shelf(sink.name)
    async for stored in sink.scan():
        shelf.add(stored)
    return shelf


async def read_held(stack: AsyncExitStack, output: Path) -> Shelf:
    """The shelf of what is held for review, and not published yet. Raises as `read_sink`."""
    shelf = Shelf(FILE)
    if not (output / FILE).exists():
        return shelf
    store = SqliteReview(output / FILE)
    await store.open()
    stack.push_async_callback(store.close)
    async for stored in store.scan():
        shelf.add(stored)
    return shelf


async def read_letters(stack: AsyncExitStack, output: Path, settings: Settings) -> Shelf:
    """The shelf of the dead letters; a letter's status is its reason. Raises as `read_sink`."""
    letters = await open_letters(stack, output, settings)
    shelf = Shelf(letters.name)
    async for letter in letters.scan():
        position = Position(*letter.place)
        shelf.statuses[position] = letter.reason
        shelf.keys[letter.result_id or str(position)] += 1
    return shelf
