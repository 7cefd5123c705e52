"""What a person sees of a replay: how far it is, how fast, what it has cost, when it will end."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from dispatcher.ledger.money import dollars
from dispatcher.service import Run

_REFRESH_S: Final = 0.25
_LINE_EVERY_S: Final = 10.0

_log = structlog.get_logger()


async def watch(run: Run, events: int, console: Console) -> None:
    """Show a replay of so many `events` until cancelled: a bar, or a line now and then."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            _log.info("replay", settled=settled(run), of=events, spent=spent(run), rate=_rate(run))
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f}/s  {task.fields[spent]}  {task.fields[held]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        # What earlier runs did does not count for when this one will end.
        task = progress.add_task(
            "replay", total=events, completed=settled(run), rate=0.0, spent="", held=""
        )
        while True:
            await asyncio.sleep(_REFRESH_S)
            progress.update(
                task,
                completed=settled(run),
                rate=_rate(run),
                spent=spent(run),
                held=_held(run),
            )


def settled(run: Run) -> int:
    """Events of this replay that have their outcome, earlier runs included."""
    return sum(run.totals().outcomes.values())


def spent(run: Run) -> str:
    """What this run has cost so far; empty where nothing costs anything."""
    scheduler = run.pipeline.scheduler
    free = scheduler.caller.tariff.price.free
    return "" if free else dollars(scheduler.ledger.spent.total())


def _rate(run: Run) -> float:
    return round(run.night.rate(), 1)


def _held(run: Run) -> str:
    queue = run.pipeline.queue
    if queue.paused:
        return "waits for live"
    return f"waits for {queue.held.value}" if queue.waiting and queue.held != "nothing" else ""
