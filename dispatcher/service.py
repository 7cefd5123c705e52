"""A run: everything that one settings file and one source ask for, put together and taken down."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dispatcher import transactions
from dispatcher.access import aws_client
from dispatcher.books import Totals
from dispatcher.checkpoint import LIVE, REPLAY, Checkpoint
from dispatcher.clock import Clock, SystemClock
from dispatcher.conclusions import Clerk
from dispatcher.control import (
    keep_durations,
    open_ledger,
    open_queue,
    open_scheduler,
    tariff_of,
)
from dispatcher.credit import Credit
from dispatcher.destinations import open_letters, open_writer
from dispatcher.folder import only_writer
from dispatcher.groups import GroupRunner, ModelIdentity
from dispatcher.incidents import Board, current_board
from dispatcher.incidents.watchman import Watchman
from dispatcher.intake import Intake
from dispatcher.invokers import Invoker
from dispatcher.lane import Lane, nobody_waits
from dispatcher.ledger.accounts import Purse
from dispatcher.night import Night
from dispatcher.pipeline import Pipeline
from dispatcher.redrive import LANE, LetterSource
from dispatcher.review.desk import Desk, open_desk
from dispatcher.review.rules import Examiner
from dispatcher.settings import Settings
from dispatcher.sources import open_from, where
from dispatcher.status.recent import Recent
from dispatcher.status.sky import Reference
from dispatcher.traces.recorder import open_traces
from dispatcher.workforce import port_of, workforce
from fmi.meeting.rendezvous import Rendezvous
from ingest.codecs import Decoder
from ingest.schemas import open_schemas
from ingest.sources import Source
from ingest.stamps.resolve import Resolver
from sinks.deadletters import DeadLetter, DeadLetterSink
from workers.weights import identify

STATE_FILE = "state.sqlite"


@dataclass(frozen=True, slots=True)
class Run:
    """One run while it lasts: the lane, and what it counts."""

    lane: Lane
    pipeline: Pipeline
    night: Night
    reference: Reference
    run_id: str
    title: str
    """What it is called where a person sees it; says so when the night is simulated."""
    settings: Settings
    groups: GroupRunner
    letters: DeadLetterSink
    clerk: Clerk
    board: Board
    recent: Recent
    watchman: Watchman
    output: Path
    desk: Desk
    simulated: bool = False

    def totals(self) -> Totals:
        """The books as they stand."""
        return self.lane.totals()


@asynccontextmanager
async def prepare(
    location: str | None,
    output: Path,
    settings: Settings,
    *,
    redrive: Callable[[DeadLetter], bool] | None = None,
    replaying: Source | None = None,
    tense: str = "current",
    invoker: Invoker | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Run]:
    """Open sinks, state, workers and rendezvous for one run; yields when all are ready.

    `redrive` takes the place of a location: the dead letters that it wants are sent again.
    `replaying` is the source at `location`, opened for a replay: its results are archival, it has
    its own positions and its own purse.
    `invoker` replaces the local worker processes. On leaving, everything is closed, also
    after an error.

    Raises:
        IngestError, SinkError, DispatcherError: something cannot be opened; one line says what.
    """
    clock = clock or SystemClock()
    model = identify_model(settings.workers.weights)
    tariff_of(settings)  # so that a price nobody knows costs no start of workers
    run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(clock.now()))}-{secrets.token_hex(3)}"
    # First: a wrong path should not cost a start of workers.
    source = replaying or (open_from(location, settings) if location else None)
    lane_name = REPLAY if replaying else LIVE if source else LANE
    async with AsyncExitStack() as stack:
        stack.enter_context(only_writer(output))
        traces = open_traces(stack, settings.traces, clock, run_id, simulated=tense == "test")
        letters = await open_letters(stack, output, settings)
        writer, ways = await open_writer(stack, output, settings, clock, letters)
        desk = await open_desk(stack, output, settings, clock, writer)
        checkpoint = Checkpoint(output / STATE_FILE, settings.flow.keys)
        stack.callback(checkpoint.close)
        again = None
        if source is None or location is None:
            source = again = LetterSource(letters, redrive or (lambda _: True))
        else:
            checkpoint.claim(source.name, where(location))
        examine = Examiner(settings.review, adrift=lambda: bool(groups.adrift))
        clerk = Clerk(run_id, model, clock, tense, again.redriven if again else {}, examine)
        # Before the workers: what a person has to mend should not wait for their start.
        intake = _open_intake(stack, settings, checkpoint, clerk)
        ledger = open_ledger(settings, output, clock)
        groups = await _open_groups(stack, invoker, settings, model, run_id)
        scheduler, durations = open_scheduler(
            settings, groups, output, clock, model.key, ledger=ledger
        )
        stack.callback(keep_durations, durations, settings, output, model.key)
        purse = Purse.REPLAY if replaying else Purse.LIVE
        queue = open_queue(scheduler, durations, settings, purse, lane_name)
        reference = Reference.of(settings.workers.weights)
        night = Night(clock, edges=reference.edges)  # begins when the workers are there
        recent = Recent(settings.status.recent)
        desk.listeners.append(recent.renew)
        if traces is not None:
            traces.watch(writer.outlets)
        pipeline = Pipeline(
            intake=intake,
            queue=queue,
            scheduler=scheduler,
            writer=writer,
            most_dead=settings.dead_letters.max_in_a_row,
            traces=traces,
            desk=desk,
            listeners=[
                night.count,
                recent.note,
                *([again.note] if again else []),
                *([traces.note] if traces else []),
            ],
        )
        lane = Lane(
            source=source,
            work=pipeline,
            checkpoint=checkpoint,
            credit=Credit(
                settings.flow.items, round(settings.flow.mib * 2**20), clock, queue.affordable
            ),
            clock=clock,
            settings=settings,
            name=lane_name,
            committed=traces.committed if traces else nobody_waits,
        )
        watchman = Watchman(
            clock,
            oldest_s=lane.lateness_s,
            lost=lambda: groups.lost,
            late_s=settings.live.objective_s,
        )
        pipeline.listeners.append(watchman.note)
        transactions.bind(ways, source, lane.custody)
        what = "SIMULATED night, run" if tense == "test" else "run"
        yield Run(
            lane=lane,
            pipeline=pipeline,
            night=night,
            reference=reference,
            run_id=run_id,
            title=f"Lookback {what} {run_id}",
            settings=settings,
            groups=groups,
            letters=letters,
            clerk=clerk,
            board=current_board(),
            recent=recent,
            watchman=watchman,
            output=output,
            desk=desk,
            simulated=tense == "test",
        )


def identify_model(weights: str) -> ModelIdentity:
    """Name and hash of the model that a run asks for, without loading it."""
    card = identify(weights)
    return ModelIdentity(card.name, card.version, card.sha256, card.calibration_id)


def _open_intake(
    stack: AsyncExitStack, settings: Settings, checkpoint: Checkpoint, clerk: Clerk
) -> Intake:
    decoder, resolver = open_intake_parts(stack, settings)
    return Intake(decoder, resolver, checkpoint, clerk, clerk.clock, settings.ingest)


async def _open_groups(
    stack: AsyncExitStack,
    invoker: Invoker | None,
    settings: Settings,
    model: ModelIdentity,
    run_id: str,
) -> GroupRunner:
    invoker = invoker or workforce(settings, run_id)
    rendezvous, reached_at = Rendezvous(), settings.workers.rendezvous
    if reached_at is None:
        await rendezvous.start()
    else:
        await rendezvous.start("0.0.0.0", port_of(reached_at))  # noqa: S104 - asked for
    stack.push_async_callback(rendezvous.close)
    stack.push_async_callback(invoker.close)
    await invoker.open()
    return GroupRunner(invoker, rendezvous, model, run_id, reached_at)


def open_intake_parts(stack: AsyncExitStack, settings: Settings) -> tuple[Decoder, Resolver]:
    """Decoder and resolver as the settings want them; closed with `stack`."""
    limit = round(settings.ingest.max_event_mib * 2**20)
    schemas = open_schemas(settings.ingest.schemas, settings.ingest.registry)
    stack.push_async_callback(schemas.close)
    resolver = Resolver(settings.ingest.allow, settings.ingest.frames, aws_client(settings.aws))
    stack.push_async_callback(resolver.close)
    return Decoder(schemas, max_bytes=limit), resolver


async def follow(run: Run, stopping: asyncio.Event) -> None:
    """Run the lane to its end, or until `stopping` is set."""

    async def stop_when_told() -> None:
        await stopping.wait()
        run.lane.stop()

    beside = {asyncio.create_task(stop_when_told()), asyncio.create_task(run.watchman.watch())}
    try:
        await run.lane.run()
    finally:
        for each in beside:
            each.cancel()
        await asyncio.wait(beside)
        run.watchman.look()  # what came at the very end is seen, too


async def stay(run: Run, stopping: asyncio.Event) -> None:
    """After the end of the lane: publish what a person decides, until `stopping` is set."""
    alone = asyncio.create_task(run.desk.run_alone())
    try:
        await stopping.wait()
    finally:
        alone.cancel()
        await asyncio.wait({alone})
