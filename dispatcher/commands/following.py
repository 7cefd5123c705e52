"""A run as a person sees it: signals, a live view, a summary, an exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from rich.console import Console

from dispatcher import logs
from dispatcher.commands import exits
from dispatcher.errors import LaneStopped
from dispatcher.settings import Settings
from sinks.deadletters import DeadLetter

if TYPE_CHECKING:
    from dispatcher.replay import Replay
    from dispatcher.service import Run

_log = structlog.get_logger()

_NOTHING_LEFT: Final = (
    "the money for this replay is spent before its end: the same command with a larger --purse-usd "
    "goes on"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """How a person sees a run.

    `plot`: PNG file to draw. `stay`: the status page is answered after the end, too, until a signal
    comes. `began`: when the start counts from (unix seconds; None: the start of this process).
    `settings_file`: what the settings were read from, for what the page begins.
    """

    plot: Path | None = None
    as_json: bool = False
    stay: bool = False
    began: float | None = None
    settings_file: Path | None = None


def follow(
    source: str | None,
    output: Path,
    settings: Settings,
    shown: Shown,
    *,
    redrive: Callable[[DeadLetter], bool] | None = None,
    replay: Replay | None = None,
    tense: str = "current",
) -> None:
    """Follow a source, redrive dead letters, or read a part of a source again; say how it went.

    Raises:
        LaneStopped: it ran, and something is wrong.
    """
    from dispatcher import service

    logs.configure(settings.log.format, settings.log.level)

    async def to_the_end() -> str | None:
        stopping = asyncio.Event()
        _stop_on_signals(stopping)
        async with service.prepare(
            source,
            output,
            settings,
            redrive=redrive,
            replaying=replay.source if replay else None,
            tense=tense,
        ) as run:
            return await _Following(run, output, shown, replay, stopping).to_the_end(source)

    if trouble := asyncio.run(to_the_end()):
        raise LaneStopped(trouble)


class _Following:
    """One run that is ready, until it is over."""

    def __init__(
        self, run: Run, output: Path, shown: Shown, replay: Replay | None, stopping: asyncio.Event
    ) -> None:
        from dispatcher.commands import report

        self._run, self._output, self._shown, self._replay = run, output, shown, replay
        self._stopping, self._spent = stopping, asyncio.Event()
        self._console = Console(stderr=True)
        self._machine = report.Machine(shown.began)

    async def to_the_end(self, source: str | None) -> str | None:
        """Returns what is wrong, as a sentence."""
        from dispatcher import collector, service
        from dispatcher.commands import report
        from dispatcher.health import systemd
        from dispatcher.status.server import serve

        run, shown = self._run, self._shown
        collector.ease()
        structlog.contextvars.bind_contextvars(run=run.run_id)
        page = serve(run, source, shown.settings_file)
        async with page as (address, snapshots), systemd.told(run):
            _tell(address, self._console)
            trouble = await self._follow()
            snapshots.ended = True
            # A lane that nobody stopped has come to the end of its source.
            if self._replay and not self._stopping.is_set() and not run.totals().in_flight:
                self._replay.finish()
            self._report()
            if shown.stay and not self._stopping.is_set():
                self._console.print(f"The page stays at {address} until Ctrl-C.")
                await service.stay(run, self._stopping)
        trouble = trouble or report.trouble(run)
        return trouble or (_NOTHING_LEFT if self._spent.is_set() else None)

    async def _follow(self) -> str | None:
        """Why the lane has stopped itself, where that is still to be looked at."""
        from dispatcher import service

        beside = {asyncio.create_task(each) for each in self._beside()}
        try:
            await service.follow(self._run, self._stopping)
        except LaneStopped as error:
            if not self._shown.stay:
                raise
            _log.error("the lane has stopped itself", why=str(error))
            return str(error)
        finally:
            for each in beside:
                each.cancel()
            await asyncio.wait(beside)
        return None

    def _beside(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What goes on while it runs."""
        from dispatcher.commands import view
        from dispatcher.replay.purse import until_empty
        from dispatcher.replay.view import watch as watch_replay

        run, replay = self._run, self._replay
        yield _repeat(self._machine.sample, 0.25)
        if replay is None:
            yield view.watch(run, self._console)
            return
        yield watch_replay(run, replay.plan.events, self._console)
        if replay.limited:
            waiting = until_empty(run.pipeline.queue, run.pipeline.scheduler.ledger)
            yield _then(waiting, self._spent, self._stopping)

    def _report(self) -> None:
        from dispatcher.commands import report

        figures = report.summary(self._run, self._machine)
        report.store(figures, self._output)
        if self._shown.plot:
            report.plot(self._run, self._shown.plot)
        if self._shown.as_json:
            exits.answer(figures)
        else:
            report.show(self._run, figures, Console(), self._output)
        sys.stdout.flush()  # the page may stay for long


def _tell(address: str | None, console: Console) -> None:
    """Where the status page is."""
    if address and console.is_terminal:
        console.print(f"status page: {address}")
    elif address:
        _log.info("status page", address=address)


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
