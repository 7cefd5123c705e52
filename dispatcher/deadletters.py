"""What a person does with dead letters: list them, look at one, discard some."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dispatcher.clock import Clock
from dispatcher.errors import SettingsError
from sinks.deadletters import DeadLetter, DeadLetterSink, ErrorClass, Place
from sinks.journal import Journal

MINUTES: Final = "discarded.jsonl"
"""File in the output folder that says which dead letters were discarded."""

_PAGE: Final = 500  # letters whose lines are synced together


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant: those that all of its parts agree to; an empty part does not ask.

    `places` are texts, `topic:partition:offset`. They are compared, not taken apart: file names
    and addresses hold colons, too.
    """

    places: frozenset[str] = frozenset()
    classes: frozenset[ErrorClass] = frozenset()
    reasons: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()

    @property
    def everything(self) -> bool:
        """Whether it asks for nothing in particular."""
        return not (self.places or self.classes or self.reasons or self.sources)

    def sends_again(self, letter: DeadLetter) -> bool:
        """Whether a redrive takes it: poison only if something was asked for in particular."""
        if self.everything:
            return letter.error_class is not ErrorClass.POISON
        return letter in self

    def __contains__(self, letter: DeadLetter) -> bool:
        return (
            (not self.places or str(letter.place) in self.places)
            and (not self.classes or letter.error_class in self.classes)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.sources or letter.src_topic in self.sources)
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A letter in a list: what is worth a column. `t_dead` is in unix seconds."""

    place: Place
    error_class: ErrorClass
    reason: str
    survey: str | None
    alert_id: str | None
    attempts: int
    redriven: int
    cost_usd_pico: int | None
    bytes: int
    t_dead: float

    @classmethod
    def of(cls, letter: DeadLetter) -> Entry:
        """The entry of a letter."""
        return cls(
            place=letter.place,
            error_class=letter.error_class,
            reason=letter.reason,
            survey=letter.survey,
            alert_id=letter.alert_id,
            attempts=letter.attempts,
            redriven=letter.redriven,
            cost_usd_pico=letter.cost_usd_pico,
            bytes=len(letter.body),
            t_dead=letter.t_dead,
        )

    def to_json(self) -> dict[str, Any]:
        """For JSON: the place as a text."""
        columns = {name: getattr(self, name) for name in self.__slots__}
        return {**columns, "place": str(self.place), "error_class": self.error_class.value}


@dataclass(slots=True)
class Listing:
    """The letters of a selection: all are counted, the latest listed, newest first."""

    entries: list[Entry] = field(default_factory=list)
    reasons: Counter[tuple[ErrorClass, str]] = field(default_factory=Counter)
    bytes: int = 0
    cost_usd_pico: int = 0

    @property
    def total(self) -> int:
        """How many letters there are."""
        return self.reasons.total()

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "total": self.total,
            "bytes": self.bytes,
            "cost_usd_pico": self.cost_usd_pico,
            "reasons": [
                {"error_class": each.value, "reason": reason, "count": count}
                for (each, reason), count in self.reasons.most_common()
            ],
            "letters": [each.to_json() for each in self.entries],
        }


async def list_letters(
    sink: DeadLetterSink,
    selection: Selection,
    limit: int | None = None,
    step: Callable[[int], None] = lambda _: None,
) -> Listing:
    """Count the letters of a selection, and list the latest `limit` of them (None: all).

    `step` is told of the letters that are counted.

    Raises:
        SinkError: the store cannot be read.
    """
    listing = Listing()
    latest: list[tuple[float, Place, Entry]] = []
    async with aclosing(_selected(sink, selection)) as letters:
        async for letter in letters:
            step(1)
            entry = Entry.of(letter)
            listing.reasons[entry.error_class, entry.reason] += 1
            listing.bytes += entry.bytes
            listing.cost_usd_pico += entry.cost_usd_pico or 0
            heapq.heappush(latest, (entry.t_dead, entry.place, entry))
            if limit is not None and len(latest) > limit:
                heapq.heappop(latest)
    listing.entries = [entry for _, _, entry in sorted(latest, reverse=True)]
    return listing


async def find_letter(sink: DeadLetterSink, place: str) -> DeadLetter:
    """The letter at `place`, `topic:partition:offset`.

    Raises:
        SettingsError: no letter is held for it.
        SinkError: the store cannot be read.
    """
    async with aclosing(_selected(sink, Selection(places=frozenset({place})))) as letters:
        async for letter in letters:
            return letter
    raise SettingsError(
        f"{sink.name} holds no dead letter at {place!a}: a place is topic:partition:offset, "
        "as `lookback deadletters list` shows it"
    )


def save_body(letter: DeadLetter, path: Path) -> None:
    """Write what the survey sent into a new file.

    Raises:
        SettingsError: there is a file of this name already, or it cannot be written.
    """
    try:
        with path.open("xb") as file:
            file.write(letter.body)
    except OSError as error:
        raise SettingsError(
            f"the body cannot be written to {path} ({error.strerror}): give another file"
        ) from error


async def discard(sink: DeadLetterSink, selection: Selection, minutes: Path, clock: Clock) -> int:
    """Remove the letters of a selection for good; returns how many.

    An event must not vanish from the books with its letter: before it goes, all but its body is
    appended to `minutes`, JSON lines with `t_discarded` (see `discarded`). After an error or a
    crash the same call does the rest.

    Raises:
        SettingsError: the selection asks for nothing in particular.
        SinkError: the store or the minutes cannot be read or written.
    """
    if selection.everything:
        raise SettingsError(
            "say which dead letters to discard: give places, a class, a reason or a source"
        )
    places: list[Place] = []
    journal = Journal(minutes)
    journal.open()
    try:
        async with aclosing(_selected(sink, selection)) as letters:
            lines: list[dict[str, Any]] = []
            async for letter in letters:
                places.append(letter.place)
                lines.append({**letter.about(), "t_discarded": clock.now()})
                if len(lines) == _PAGE:
                    await asyncio.to_thread(journal.append, lines)
                    lines = []
        await asyncio.to_thread(journal.append, lines)
    finally:
        journal.close()
    await sink.remove(places)
    return len(places)


def discarded(minutes: Path) -> Iterator[Place]:
    """The places of the letters that were discarded; one may come twice.

    Raises:
        SinkError: the file was changed by something else.
    """
    if minutes.exists():
        yield from map(Place.from_json, Journal(minutes).read())


async def _selected(sink: DeadLetterSink, selection: Selection) -> AsyncGenerator[DeadLetter, None]:
    async with aclosing(sink.scan()) as letters:
        async for letter in letters:
            if letter in selection:
                yield letter
