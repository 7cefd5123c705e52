"""Prove the books from outside: from the source and the sinks alone.

Every event of the source is looked for in every sink and among the dead letters, by its
position; what is held for review counts as in every sink. One that is in none must be a duplicate
of one that is, or filtered, or not committed yet; else it is missing. Where an event was sent twice
and a crash fell between two sinks, one may hold the first copy and the other the second: then its
key decides. At the end the books of the dispatcher are compared with what was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dispatcher import gapmap
from dispatcher.books import Outcome, Totals
from dispatcher.checkpoint import Checkpoint
from dispatcher.deadletters import MINUTES, discarded
from dispatcher.errors import SettingsError
from dispatcher.onlooker import Onlooker
from dispatcher.redrive import LANE as REDRIVE
from dispatcher.service import STATE_FILE, identify_model, open_intake_parts
from dispatcher.settings import Settings
from dispatcher.shelves import Shelf, read_held, read_letters, read_sink
from dispatcher.sources import is_queue, open_again, open_from
from ingest.codecs import Decoder
from ingest.errors import DecodeError
from ingest.events import Delivery, Event, Partition, Position
from ingest.progress import Progress
from sinks.record import Status

_ESTIMATED: Final = frozenset({Status.OK, Status.REJECTED})
_FETCH: Final = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `what` (missing, doubled, stray, unbalanced), and where."""

    what: str
    where: str


@dataclass(frozen=True, slots=True)
class Report:
    """The books as source and sinks tell them, and everything that does not fit."""

    totals: Totals
    findings: list[Finding]

    @property
    def proved(self) -> bool:
        """Whether nothing is missing, doubled or stray."""
        return not self.findings


async def reconcile(
    location: str,
    output: Path,
    settings: Settings,
    step: Callable[[int], None] = lambda _: None,
) -> Report:
    """Compare the source at `location` with the sinks in `output`.

    `step` is told of the events that are compared.

    Raises:
        IngestError, SinkError, SettingsError: source, sinks or output cannot be read.
    """
    if not output.is_dir():
        raise SettingsError(f"{output} is not a folder: give the one that `lookback run` wrote to")
    async with AsyncExitStack() as stack:
        shelves = [
            await read_sink(stack, output, each, settings) for each in settings.sinks.required
        ]
        held = await read_held(stack, output)
        for shelf in shelves:
            shelf.lend(held)
        dead = await read_letters(stack, output, settings)
        decoder, _ = open_intake_parts(stack, settings)
        records = _Records.read(output)
        keeper = Onlooker()
        model = identify_model(settings.workers.weights).key
        search = _Search(shelves, dead, records, decoder, settings.ingest.surveys, model)
        if is_queue(location):
            return _by_the_books(search, open_from(location, settings).name)
        async for delivery in _everything(location, settings, keeper):
            # What the source itself keeps is newer than what one dispatcher knows of it.
            search.committed = {**records.progress, **keeper.committed}
            await search.look_for(delivery)
            step(1)
        search.look_for_strays()
        totals = Totals(search.received, search.outcomes, search.open)
        return Report(totals, [*search.findings, *_compare(search, records)])


@dataclass(frozen=True, slots=True)
class _Records:
    """What the dispatcher has written down; `known` is False where it has no state here."""

    known: bool = False
    progress: Mapping[Partition, Progress] = field(default_factory=dict)
    redriven: Mapping[Partition, Progress] = field(default_factory=dict)
    discarded: Collection[Position] = frozenset()

    @classmethod
    def read(cls, output: Path) -> _Records:
        gone = {Position(*place) for place in discarded(output / MINUTES)}
        if not (output / STATE_FILE).exists():
            return cls(discarded=gone)
        state = Checkpoint(output / STATE_FILE)
        try:
            return cls(True, state.progress(), state.progress(REDRIVE), gone)
        finally:
            state.close()


@dataclass(slots=True)
class _Search:
    shelves: list[Shelf]
    dead: Shelf
    records: _Records
    decoder: Decoder
    surveys: Collection[str]
    model_key: str
    committed: Mapping[Partition, Progress] = field(default_factory=dict)
    received: int = 0
    open: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    settled: Counter[Outcome] = field(default_factory=Counter)
    """Of the committed events alone: what the books must say."""
    findings: list[Finding] = field(default_factory=list)
    _met: set[Position] = field(default_factory=set)
    _first: dict[Partition, int] = field(default_factory=dict)
    _by_key: set[str] = field(default_factory=set)
    _gaps: dict[Partition, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for shelf in (*self.shelves, self.dead):
            for key, count in shelf.keys.items():
                if count > 1:
                    self.note("doubled", f"{key} is {count} times in {shelf.name}")

    @property
    def partitions(self) -> Collection[Partition]:
        """All that the source has events of."""
        return self._first.keys()

    async def look_for(self, delivery: Delivery) -> None:
        """Find out what became of one delivery."""
        self.received += 1
        position = delivery.position
        self._met.add(position)
        self._first.setdefault(position.home, position.offset)
        holding = [shelf for shelf in self.shelves if position in shelf.statuses]
        if position in self.dead.statuses:
            self.count(position, Outcome.DEAD)
            if holding:
                self.note("doubled", f"{position} is a dead letter and in {holding[0].name}")
        elif len(holding) == len(self.shelves):
            self.count_row(position, holding[0].statuses[position])
        elif position in self.records.discarded:
            self.count(position, Outcome.DEAD)
        else:
            await self._look_by_key(delivery, holding)

    def count(self, position: Position, outcome: Outcome) -> None:
        """Count an event that was settled this way."""
        self.outcomes[outcome] += 1
        if self._is_committed(position) is not False:
            self.settled[outcome] += 1

    def count_row(self, position: Position, status: str) -> None:
        """Count an event that has a row."""
        written = status in _ESTIMATED
        self.count(position, Outcome.WRITTEN if written else Outcome.NOT_APPLICABLE)

    async def _look_by_key(self, delivery: Delivery, holding: list[Shelf]) -> None:
        position = delivery.position
        if self._is_committed(position) is False:
            self.open += 1  # it is still to come
            return
        event = await self._event(delivery)
        key = event.key(self.model_key) if event else ""
        if event and self.surveys and event.survey not in self.surveys:
            self.count(position, Outcome.FILTERED)
        elif key in self.dead.keys or key in self._by_key:
            self.count(position, Outcome.DUPLICATE)
        elif all(key in shelf.keys for shelf in self.shelves):
            if holding:
                self._by_key.add(key)
                self.count_row(position, holding[0].statuses[position])
            else:
                self.count(position, Outcome.DUPLICATE)
        else:
            self.open += 1
            absent = [shelf.name for shelf in self.shelves if key not in shelf.keys]
            where = "in no sink and not a dead letter" if not holding else f"not in {absent[0]}"
            self.note("missing", f"{position} is {where}")

    def _is_committed(self, position: Position) -> bool | None:
        """Whether a commit says that it is settled; None where no commit is known."""
        progress = self.committed.get(position.home)
        if progress is None:
            return False if self.records.known else None
        if position.home not in self._gaps:
            self._gaps[position.home] = gapmap.decode(progress.watermark, progress.gaps)
        return position.offset < progress.watermark or position.offset in self._gaps[position.home]

    async def _event(self, delivery: Delivery) -> Event | None:
        try:
            return await self.decoder.decode(delivery)
        except DecodeError:
            return None

    def look_for_strays(self) -> None:
        """Rows of this source whose position it does not have, and never had.

        A sink may hold rows of other sources, and of events that a topic does not keep any more.
        """
        sources = {partition.source for partition in self._first}
        for shelf in (*self.shelves, self.dead):
            for position in shelf.statuses.keys() - self._met:
                first = self._first.get(position.home, 0)
                if position.source in sources and position.offset >= first:
                    self.note("stray", f"{position} is in {shelf.name} and not in the source")

    def note(self, what: str, where: str) -> None:
        """Something is wrong."""
        self.findings.append(Finding(what, where))


def _by_the_books(search: _Search, source: str) -> Report:
    """Of a queue, which keeps nothing that was settled: its books against the sinks.

    What is in one required sink must be in all, and every row must be in the books.
    """
    search.committed = {
        partition: progress
        for partition, progress in search.records.progress.items()
        if partition.source == source
    }
    booked = _booked(search.committed, search.committed, search.records)
    rows = {
        position: status
        for shelf in search.shelves
        for position, status in shelf.statuses.items()
        if position.source == source
    }
    for position, status in rows.items():
        search.count_row(position, status)
        for shelf in search.shelves:
            if position not in shelf.statuses:
                search.note("missing", f"{position} is not in {shelf.name}")
    for position in (*search.dead.statuses, *search.records.discarded):
        if position.source == source:
            search.count(position, Outcome.DEAD)
    for outcome in {Outcome.DUPLICATE, Outcome.FILTERED} & booked.keys():
        search.outcomes[outcome] = booked[outcome]  # they leave no trace elsewhere
    totals = Totals(search.outcomes.total(), search.outcomes, 0)
    return Report(totals, [*search.findings, *_differences(booked, search.outcomes)])


async def _everything(
    location: str, settings: Settings, keeper: Onlooker
) -> AsyncIterator[Delivery]:
    source = open_again(location, settings)
    await source.open(keeper)
    try:
        while not source.exhausted:
            for delivery in await source.take(_FETCH):
                yield delivery
    finally:
        await source.close()


def _compare(search: _Search, records: _Records) -> list[Finding]:
    """The dispatcher's own books against what was found; nothing to compare without a state."""
    if not search.committed:
        return []
    return _differences(_booked(search.partitions, search.committed, records), search.settled)


def _booked(
    partitions: Iterable[Partition], committed: Mapping[Partition, Progress], records: _Records
) -> Counter[str]:
    booked = Counter[str]()
    for partition in partitions:
        booked.update(committed.get(partition, Progress()).outcomes)
        again = Counter(records.redriven.get(partition, Progress()).outcomes)
        booked.update(again)
        booked[Outcome.DEAD] -= again.total()  # each had been a dead letter before
    return booked


def _differences(booked: Counter[str], found: Mapping[Outcome, int]) -> list[Finding]:
    booked = _one_row_of_two(booked, found)
    return [
        Finding(
            "unbalanced",
            f"the books say {booked[outcome]} {outcome.value}, source and sinks say "
            f"{found.get(outcome, 0)}",
        )
        for outcome in Outcome
        if booked[outcome] != found.get(outcome, 0)
    ]


def _one_row_of_two(booked: Counter[str], found: Mapping[Outcome, int]) -> Counter[str]:
    """The books, if two copies of an event that two dispatchers both answered count as one.

    Each knows only the keys that it has seen. Both wrote the same row, so that one copy is found to
    be a duplicate of the other.
    """
    more = found.get(Outcome.DUPLICATE, 0) - booked[Outcome.DUPLICATE]
    if more <= 0:
        return booked
    corrected = Counter(booked)
    for outcome in (Outcome.WRITTEN, Outcome.NOT_APPLICABLE, Outcome.DEAD):
        twice = min(more, max(0, booked[outcome] - found.get(outcome, 0)))
        corrected[outcome] -= twice
        corrected[Outcome.DUPLICATE] += twice
        more -= twice
    return corrected
