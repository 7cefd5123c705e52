"""What a person sees while a lane runs: a table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dispatcher.books import Outcome
from dispatcher.ledger.money import dollars
from dispatcher.service import Run

_REFRESH_S: Final = 0.25
_LINE_EVERY_S: Final = 10.0

_log = structlog.get_logger()


async def watch(run: Run, console: Console) -> None:
    """Show the run until cancelled."""
    if console.is_terminal:
        with Live(render(run), console=console, refresh_per_second=4, transient=True) as live:
            while True:
                await asyncio.sleep(_REFRESH_S)
                live.update(render(run))
    while True:
        await asyncio.sleep(_LINE_EVERY_S)
        totals, night = run.totals(), run.night
        _log.info(
            "progress",
            **totals.to_json(),
            images_per_s=round(night.rate(), 1),
            lag_s=round(run.lane.lag_s(), 1),
            p98_s=_rounded(night.latency.quantile(0.98)),
        )


def render(run: Run) -> RenderableType:
    """The live table: rate, latency, what is under way and where, and the books."""
    lane, night = run.lane, run.night
    flow = Table.grid(padding=(0, 3))
    flow.add_row("redshifts", f"{night.estimates()}", "images/s", f"{night.rate():.0f}")
    flow.add_row(
        "latency p50",
        _seconds(night.latency.quantile(0.5)),
        "p98",
        _seconds(night.latency.quantile(0.98)),
    )
    flow.add_row(
        "in flight",
        f"{lane.credit.items} of {lane.credit.max_items}",
        "bytes",
        f"{lane.credit.bytes / 2**20:.0f} of {lane.credit.max_bytes / 2**20:.0f} MiB",
    )
    queue, ledger = run.pipeline.queue, run.pipeline.scheduler.ledger
    flow.add_row(
        "waiting for workers",
        f"{len(queue.waiting)}",
        "held back by",
        queue.held.value if queue.waiting else "-",
    )
    flow.add_row(
        "with workers",
        f"{queue.at_workers}",
        "waiting for sinks",
        f"{run.pipeline.writer.waiting}",
    )
    if not run.pipeline.scheduler.caller.tariff.price.free:
        flow.add_row(
            "spent", dollars(ledger.spent.total()), "set aside", dollars(ledger.outstanding)
        )
    flow.add_row(
        "lag (oldest open)",
        f"{lane.lag_s():.1f} s",
        "source held back",
        f"{lane.credit.waited_s:.0f} s",
    )
    return Group(Text(run.title, style="bold"), flow, books_table(run), Text(""))


def books_table(run: Run) -> Table:
    """The books: one column per outcome, and whether they balance."""
    totals = run.totals()
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("received", justify="right")
    for outcome in Outcome:
        table.add_column(outcome.value.replace("_", " "), justify="right")
    table.add_column("in flight", justify="right")
    table.add_column("books")
    balanced = totals.balanced and not run.lane.unbalanced()
    table.add_row(
        str(totals.received),
        *(str(totals.outcomes.get(outcome, 0)) for outcome in Outcome),
        str(totals.in_flight),
        Text("balance", "green") if balanced else Text(f"off by {totals.difference}", "bold red"),
    )
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
