"""A run: everything that one settings file and one source ask for, put together and taken down."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dispatcher.access import aws_client, kafka_client
from dispatcher.batching import Batcher, BatchLimits
from dispatcher.books import Totals
from dispatcher.breaker import Breaker
from dispatcher.checkpoint import Checkpoint
from dispatcher.clock import Clock, SystemClock
from dispatcher.conclusions import Clerk, Conclusion
from dispatcher.credit import Credit
from dispatcher.folder import only_writer
from dispatcher.groups import GroupRunner, ModelIdentity
from dispatcher.intake import Intake
from dispatcher.invokers import Invoker
from dispatcher.invokers.local import LocalInvoker
from dispatcher.lane import Lane
from dispatcher.night import Night
from dispatcher.outlet import Outlet
from dispatcher.pipeline import Pipeline
from dispatcher.settings import Settings
from dispatcher.sources import open_from, where
from dispatcher.triage import Triage
from dispatcher.writer import Writer
from fmi.meeting.rendezvous import Rendezvous
from ingest.codecs import Decoder
from ingest.schemas import open_schemas
from ingest.stamps.resolve import Resolver
from sinks import Access, open_dead_letters, open_sink
from sinks.deadletters import DeadLetter, DeadLetterSink
from sinks.record import ResultRecord
from sinks.sink import Sink
from workers.weights import find, identify
from workers.wire import BYTES_PER_ITEM

STATE_FILE = "state.sqlite"


@dataclass(frozen=True, slots=True)
class Run:
    """One run while it lasts: the lane, and what it counts."""

    lane: Lane
    pipeline: Pipeline
    night: Night
    run_id: str
    title: str
    """What it is called where a person sees it; says so when the night is simulated."""

    def totals(self) -> Totals:
        """The books as they stand."""
        return self.lane.totals()


@asynccontextmanager
async def prepare(
    location: str,
    output: Path,
    settings: Settings,
    *,
    tense: str = "current",
    invoker: Invoker | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Run]:
    """Open sinks, state, workers and rendezvous for one run; yields when all are ready.

    `invoker` replaces the local worker processes. On leaving, everything is closed, also
    after an error.

    Raises:
        IngestError, SinkError, DispatcherError: something cannot be opened; one line says what.
    """
    clock = clock or SystemClock()
    model = identify_model(settings.workers.weights)
    run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(clock.now()))}-{secrets.token_hex(3)}"
    source = open_from(location, settings)  # first: a wrong path should not cost a start of workers
    async with AsyncExitStack() as stack:
        stack.enter_context(only_writer(output))
        writer = await _open_writer(stack, output, settings, clock)
        checkpoint = Checkpoint(output / STATE_FILE, settings.flow.keys)
        stack.callback(checkpoint.close)
        checkpoint.claim(source.name, where(location))
        rendezvous = Rendezvous()
        await rendezvous.start()
        stack.push_async_callback(rendezvous.close)
        invoker = invoker or _local(settings)
        stack.push_async_callback(invoker.close)
        await invoker.open()
        clerk = Clerk(run_id, model, clock, tense)
        decoder, resolver = open_intake_parts(stack, settings)
        night = Night(clock)
        groups = GroupRunner(
            invoker,
            rendezvous,
            model,
            run_id,
            ranks=min(settings.workers.ranks, invoker.slots),
            deadline_s=settings.workers.deadline_s,
        )
        limits = BatchLimits(
            settings.batch.items, settings.batch.max_bytes, settings.batch.max_age_s
        )
        pipeline = Pipeline(
            intake=Intake(decoder, resolver, checkpoint, clerk, clock, settings.ingest),
            batcher=Batcher(limits, BYTES_PER_ITEM, clock),
            triage=Triage(groups, settings.workers.attempts),
            writer=writer,
            on_conclusion=night.count,
        )
        lane = Lane(
            source=source,
            work=pipeline,
            checkpoint=checkpoint,
            credit=Credit(settings.flow.items, round(settings.flow.mib * 2**20), clock),
            clock=clock,
            settings=settings,
        )
        what = "SIMULATED night, run" if tense == "test" else "run"
        yield Run(lane, pipeline, night, run_id, f"Lookback {what} {run_id}")


def identify_model(weights: str) -> ModelIdentity:
    """Name and hash of the model that a run asks for, without loading it."""
    card = identify(weights)
    return ModelIdentity(card.name, card.version, card.sha256, card.calibration_id)


def access(settings: Settings) -> Access:
    """How the sinks get at destinations that are not files."""
    return Access(kafka_client("kafka_out", settings.kafka_out), aws_client(settings.aws))


def _local(settings: Settings) -> LocalInvoker:
    environment = {
        "LOOKBACK_WEIGHTS": str(find(settings.workers.weights).resolve()),
        "LOOKBACK_PRECISION": settings.workers.precision,
    }
    return LocalInvoker(settings.workers.count, environment)


def open_intake_parts(stack: AsyncExitStack, settings: Settings) -> tuple[Decoder, Resolver]:
    """Decoder and resolver as the settings want them; closed with `stack`."""
    limit = round(settings.ingest.max_event_mib * 2**20)
    schemas = open_schemas(settings.ingest.schemas, settings.ingest.registry)
    stack.push_async_callback(schemas.close)
    resolver = Resolver(settings.ingest.allow, settings.ingest.frames)
    stack.push_async_callback(resolver.close)
    return Decoder(schemas, max_bytes=limit), resolver


async def _open_writer(
    stack: AsyncExitStack, output: Path, settings: Settings, clock: Clock
) -> Writer:
    outlets = []
    for location in (*settings.sinks.required, *settings.sinks.best_effort):
        sink = open_sink(location, output, access(settings))
        await sink.open()
        stack.push_async_callback(sink.close)
        required = location in settings.sinks.required
        outlets.append(results_outlet(sink, clock, settings, required=required))
    letters = open_dead_letters(settings.sinks.dead_letters, output, access(settings))
    await letters.open()
    stack.push_async_callback(letters.close)
    dead = Outlet(letters.name, _letters(letters), Breaker(clock), settings.sinks.batch)
    return Writer(outlets, dead)


def results_outlet(
    sink: Sink, clock: Clock, settings: Settings, *, required: bool = True
) -> Outlet:
    """The way to a sink."""

    async def store(conclusions: Sequence[Conclusion]) -> None:
        await sink.write([each.row for each in conclusions if isinstance(each.row, ResultRecord)])

    given = settings.sinks
    return Outlet(
        sink.name, store, Breaker(clock), given.batch, required=required, linger_s=given.linger_s
    )


def _letters(letters: DeadLetterSink) -> Callable[[Sequence[Conclusion]], Awaitable[None]]:
    async def store(conclusions: Sequence[Conclusion]) -> None:
        await letters.write([each.row for each in conclusions if isinstance(each.row, DeadLetter)])

    return store


async def follow(run: Run, stopping: asyncio.Event) -> None:
    """Run the lane to its end, or until `stopping` is set."""

    async def stop_when_told() -> None:
        await stopping.wait()
        run.lane.stop()

    watch = asyncio.create_task(stop_when_told())
    try:
        await run.lane.run()
    finally:
        watch.cancel()
        await asyncio.wait({watch})
