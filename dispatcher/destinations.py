"""Where a run writes to: sinks and dead letters, opened, each with its outlet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from dispatcher.access import aws_client, kafka_client
from dispatcher.breaker import Breaker
from dispatcher.clock import Clock
from dispatcher.conclusions import Writable
from dispatcher.outlet import Outlet
from dispatcher.settings import Settings
from dispatcher.writer import Writer
from sinks import Access, open_dead_letters, open_sink
from sinks.deadletters import DeadLetter, DeadLetterSink
from sinks.record import ResultRecord
from sinks.sink import Sink

Store = Callable[[Sequence[Writable]], Awaitable[None]]


def access(settings: Settings) -> Access:
    """How the sinks get at destinations that are not files."""
    out = settings.kafka_out
    login = None
    if out.registry_username is not None and out.registry_password is not None:
        login = (out.registry_username, out.registry_password.get_secret_value())
    return Access(kafka_client("kafka_out", out), aws_client(settings.aws), login)


async def open_letters(stack: AsyncExitStack, output: Path, settings: Settings) -> DeadLetterSink:
    """The store of dead letters, open until `stack` is left."""
    letters = open_dead_letters(settings.sinks.dead_letters, output, access(settings))
    await letters.open()
    stack.push_async_callback(letters.close)
    return letters


async def open_writer(
    stack: AsyncExitStack, output: Path, settings: Settings, clock: Clock, letters: DeadLetterSink
) -> tuple[Writer, list[tuple[Sink, Outlet]]]:
    """All sinks, open until `stack` is left, and the way to each."""
    outlets = []
    given = settings.sinks
    for location in (*given.required, *given.best_effort):
        sink = open_sink(location, output, access(settings))
        stack.push_async_callback(sink.close)
        required = location in given.required
        if required:
            await sink.open()
        outlets.append((sink, results_outlet(sink, clock, settings, required=required)))
    dead = Outlet(letters.name, _store_letters(letters), Breaker(clock), given.batch)
    return Writer([outlet for _, outlet in outlets], dead), outlets


def results_outlet(
    sink: Sink, clock: Clock, settings: Settings, *, required: bool = True
) -> Outlet:
    """The way to one sink."""
    given = settings.sinks
    store = _store_results(sink) if required else _open_and_store(sink)
    linger_s = sink.linger_s if given.linger_s is None else given.linger_s
    return Outlet(
        sink.name, store, Breaker(clock), given.batch, required=required, linger_s=linger_s
    )


def records(conclusions: Sequence[Writable]) -> list[ResultRecord]:
    """The rows of conclusions that have a result."""
    return [each.row for each in conclusions if isinstance(each.row, ResultRecord)]


def _store_results(sink: Sink) -> Store:
    async def store(conclusions: Sequence[Writable]) -> None:
        await sink.write(records(conclusions))

    return store


def _open_and_store(sink: Sink) -> Store:
    """A best-effort sink may be away at the start of a run, too."""
    is_open = False

    async def store(conclusions: Sequence[Writable]) -> None:
        nonlocal is_open
        if not is_open:
            await sink.open()
            is_open = True
        await sink.write(records(conclusions))

    return store


def _store_letters(letters: DeadLetterSink) -> Store:
    async def store(conclusions: Sequence[Writable]) -> None:
        await letters.write([each.row for each in conclusions if isinstance(each.row, DeadLetter)])

    return store
