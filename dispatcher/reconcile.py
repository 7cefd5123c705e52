"""Prove the books from outside: from the source and the sinks alone.

Every event of the source is looked for in every sink and among the dead letters, by its
position. One that is in none must be a duplicate of one that is, or filtered; else it is missing.
Where an event was sent twice and a crash fell between two sinks, one may hold the first copy and
the other the second: then its key decides. Nothing that the dispatcher remembers is used, except
at the end, to compare its books with what was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dispatcher.books import Outcome, Totals
from dispatcher.checkpoint import Checkpoint
from dispatcher.errors import SettingsError
from dispatcher.onlooker import Onlooker
from dispatcher.service import STATE_FILE, access, identify_model, open_intake_parts
from dispatcher.settings import Settings
from dispatcher.sources import open_from
from ingest.codecs import Decoder
from ingest.errors import DecodeError
from ingest.events import Delivery, Event, Position
from sinks import open_dead_letters, open_sink
from sinks.record import Status

_ESTIMATED: Final = frozenset({Status.OK})
_FETCH: Final = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `what` (missing, doubled, stray), and where."""

    what: str
    where: str


@dataclass(slots=True)
class Shelf:
    """What one sink holds: a row per position, and how often each key occurs."""

    name: str
    statuses: dict[Position, str] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Report:
    """The books as source and sinks tell them, and everything that does not fit."""

    totals: Totals
    findings: list[Finding]

    @property
    def proved(self) -> bool:
        """Whether nothing is missing, doubled or stray."""
        return not self.findings


async def reconcile(location: str, output: Path, settings: Settings) -> Report:
    """Compare the source at `location` with the sinks in `output`.

    Raises:
        IngestError, SinkError, SettingsError: source, sinks or output cannot be read.
    """
    if not output.is_dir():
        raise SettingsError(f"{output} is not a folder: give the one that `lookback run` wrote to")
    async with AsyncExitStack() as stack:
        shelves = [
            await _read_sink(stack, output, each, settings) for each in settings.sinks.required
        ]
        dead = await _read_dead_letters(stack, output, settings)
        decoder, _ = open_intake_parts(stack, settings)
        search = _Search(
            shelves,
            dead,
            decoder,
            settings.ingest.surveys,
            identify_model(settings.workers.weights).key,
        )
        async for delivery in _everything(location, settings):
            await search.look_for(delivery)
        search.look_for_strays()
        totals = Totals(search.received, search.outcomes, search.open)
        findings = [*search.findings, *_compare(output, search.met, totals)]
        return Report(totals, findings)


@dataclass(slots=True)
class _Search:
    shelves: list[Shelf]
    dead: Shelf
    decoder: Decoder
    surveys: Collection[str]
    model_key: str
    received: int = 0
    open: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    met: set[Position] = field(default_factory=set)
    _by_key: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for shelf in (*self.shelves, self.dead):
            for key, count in shelf.keys.items():
                if count > 1:
                    self._note("doubled", f"{key} is {count} times in {shelf.name}")

    async def look_for(self, delivery: Delivery) -> None:
        """Find out what became of one delivery."""
        self.received += 1
        position = delivery.position
        self.met.add(position)
        holding = [shelf for shelf in self.shelves if position in shelf.statuses]
        if position in self.dead.statuses:
            self.outcomes[Outcome.DEAD] += 1
            if holding:
                self._note("doubled", f"{position} is a dead letter and in {holding[0].name}")
        elif len(holding) == len(self.shelves):
            self._count_row(holding[0].statuses[position])
        else:
            await self._look_by_key(delivery, holding)

    def _count_row(self, status: str) -> None:
        written = status in _ESTIMATED
        self.outcomes[Outcome.WRITTEN if written else Outcome.NOT_APPLICABLE] += 1

    async def _look_by_key(self, delivery: Delivery, holding: list[Shelf]) -> None:
        position = delivery.position
        event = await self._event(delivery)
        key = event.key(self.model_key) if event else ""
        if event and self.surveys and event.survey not in self.surveys:
            self.outcomes[Outcome.FILTERED] += 1
        elif key in self.dead.keys or key in self._by_key:
            self.outcomes[Outcome.DUPLICATE] += 1
        elif all(key in shelf.keys for shelf in self.shelves):
            if holding:
                self._by_key.add(key)
                self._count_row(holding[0].statuses[position])
            else:
                self.outcomes[Outcome.DUPLICATE] += 1
        else:
            self.open += 1
            absent = [shelf.name for shelf in self.shelves if key not in shelf.keys]
            where = "in no sink and not a dead letter" if not holding else f"not in {absent[0]}"
            self._note("missing", f"{position} is {where}")

    async def _event(self, delivery: Delivery) -> Event | None:
        try:
            return await self.decoder.decode(delivery)
        except DecodeError:
            return None

    def look_for_strays(self) -> None:
        """Rows whose position the source does not have."""
        for shelf in (*self.shelves, self.dead):
            for position in shelf.statuses.keys() - self.met:
                self._note("stray", f"{position} is in {shelf.name} and not in the source")

    def _note(self, what: str, where: str) -> None:
        self.findings.append(Finding(what, where))


async def _everything(location: str, settings: Settings) -> AsyncIterator[Delivery]:
    source = open_from(location, settings)
    await source.open(Onlooker())
    try:
        while not source.exhausted:
            for delivery in await source.take(_FETCH):
                yield delivery
    finally:
        await source.close()


async def _read_sink(
    stack: AsyncExitStack, output: Path, location: str, settings: Settings
) -> Shelf:
    if "://" not in location and not (output / location).exists():
        raise SettingsError(
            f"{output / location} does not exist: name the sinks of the run with --settings"
        )
    sink = open_sink(location, output, access(settings))
    await sink.open()
    stack.push_async_callback(sink.close)
    shelf = Shelf(sink.name)
    async for stored in sink.scan():
        position = Position(stored.src_topic, stored.src_partition, stored.src_offset)
        shelf.statuses[position] = stored.status
        shelf.keys[stored.result_id] += 1
    return shelf


async def _read_dead_letters(stack: AsyncExitStack, output: Path, settings: Settings) -> Shelf:
    letters = open_dead_letters(settings.sinks.dead_letters, output, access(settings))
    await letters.open()
    stack.push_async_callback(letters.close)
    shelf = Shelf(letters.name)
    async for letter in letters.scan():
        position = Position(letter.src_topic, letter.src_partition, letter.src_offset)
        shelf.statuses[position] = letter.reason
        shelf.keys[letter.result_id or str(position)] += 1
    return shelf


def _compare(output: Path, met: Collection[Position], found: Totals) -> list[Finding]:
    """The dispatcher's own books against what was found; nothing to compare without a state."""
    if not (output / STATE_FILE).exists():
        return []
    checkpoint = Checkpoint(output / STATE_FILE)
    try:
        records = checkpoint.progress()
    finally:
        checkpoint.close()
    sources = {position.source for position in met}
    booked = Counter[str]()
    for partition, progress in records.items():
        if partition.source in sources:
            booked.update(progress.outcomes)
    return [
        Finding(
            "unbalanced",
            f"the books say {booked[outcome]} {outcome.value}, source and sinks say "
            f"{found.outcomes.get(outcome, 0)}",
        )
        for outcome in Outcome
        if booked[outcome] != found.outcomes.get(outcome, 0)
    ]
