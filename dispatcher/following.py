"""A run as a person sees it: signals, a live view, a summary, an exit code."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
import typer
from rich.console import Console

from dispatcher.errors import LaneStopped
from dispatcher.settings import Settings
from sinks.deadletters import DeadLetter

if TYPE_CHECKING:
    from dispatcher.replay import Replay

_NOTHING_LEFT: Final = (
    "the money for this replay is spent before its end: the same command with a larger --purse-usd "
    "goes on"
)


def follow(
    source: str | None,
    output: Path,
    settings: Settings,
    *,
    plot: Path | None = None,
    as_json: bool = False,
    redrive: Callable[[DeadLetter], bool] | None = None,
    replay: Replay | None = None,
    tense: str = "current",
    began: float | None = None,
) -> None:
    """Follow a source, redrive dead letters, or read a part of a source again; say how it went.

    `began`: when the start counts from (unix seconds; default: the start of this process).

    Raises:
        LaneStopped: it ran, and something is wrong.
    """
    from dispatcher import collector, metrics, report, service, view
    from dispatcher.replay.purse import until_empty
    from dispatcher.replay.view import watch as watch_replay

    console = Console(stderr=True)

    async def to_the_end() -> str | None:
        stopping = asyncio.Event()
        _stop_on_signals(stopping)
        replaying = replay.source if replay else None
        async with service.prepare(
            source, output, settings, redrive=redrive, replaying=replaying, tense=tense
        ) as run:
            collector.ease()
            machine = report.Machine(began)
            structlog.contextvars.bind_contextvars(run=run.run_id)
            seen = watch_replay(run, replay.plan.events, console) if replay else None
            beside = {
                asyncio.create_task(seen or view.watch(run, console)),
                asyncio.create_task(_repeat(machine.sample, 0.25)),
            }
            spent = asyncio.Event()
            if replay and replay.limited:
                waiting = until_empty(run.pipeline.queue, run.pipeline.scheduler.ledger)
                beside.add(asyncio.create_task(_then(waiting, spent, stopping)))
            try:
                with metrics.serve(run, settings.metrics.port, settings.metrics.host):
                    await service.follow(run, stopping)
            finally:
                for each in beside:
                    each.cancel()
                await asyncio.wait(beside)
            # A lane that nobody stopped has come to the end of its source.
            if replay and not stopping.is_set() and not run.totals().in_flight:
                replay.finish()
            figures = report.summary(run, machine)
            report.store(figures, output)
            if plot:
                report.plot(run, plot)
            if as_json:
                typer.echo(json.dumps(figures))
            else:
                report.show(run, figures, Console(), output)
            return report.trouble(run) or (_NOTHING_LEFT if spent.is_set() else None)

    if trouble := asyncio.run(to_the_end()):
        raise LaneStopped(trouble)


def _stop_on_signals(stopping: asyncio.Event) -> None:
    """First signal: finish what is under way. Second: end at once; the state is safe."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)


async def _then(work: Coroutine[Any, Any, None], *events: asyncio.Event) -> None:
    await work
    for each in events:
        each.set()


async def _repeat(work: Callable[[], None], every_s: float) -> None:
    while True:
        work()
        await asyncio.sleep(every_s)
