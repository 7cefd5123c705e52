"""What is said at the end of a run: the summary, its JSON twin, and the plot of the night."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from dispatcher.books import Outcome
from dispatcher.ledger.money import DOLLAR, dollars
from dispatcher.redrive import LANE
from dispatcher.service import Run


def summary(run: Run, machine: Machine) -> dict[str, Any]:
    """The figures of a run, for `summary.json` and `--json`. Times in seconds."""
    night = run.night
    return {
        "run_id": run.run_id,
        "books": run.totals().to_json(),
        "estimates": night.estimates(),
        "images_per_s": _rounded(night.mean_rate(), 1),
        "p50_s": _rounded(night.latency.quantile(0.5), 4),
        "p98_s": _rounded(night.latency.quantile(0.98), 4),
        "cold_start_s": round(machine.cold_start_s, 3),
        "peak_mib": round(machine.peak_mib, 1),
        "calls": run.pipeline.queue.calls,
        "spent_usd": run.pipeline.scheduler.ledger.spent.total() / DOLLAR,
        "reasons": dict(night.reasons.most_common()),
    }


def trouble(run: Run) -> str | None:
    """What is wrong with a run that came to its end, in a sentence; None when nothing is."""
    if not run.totals().balanced or run.lane.unbalanced():
        return "the books do not balance; `lookback reconcile` names what is missing"
    dead = run.lane.outcomes[Outcome.DEAD]
    if dead and run.lane.name == LANE:
        total = run.lane.outcomes.total()
        return f"{dead} of {total} died again: `lookback deadletters list` says of what"
    trouble = run.lane.too_many_dead_letters()
    return str(trouble) if trouble else None


def show(run: Run, figures: dict[str, Any], console: Console, output: Path) -> None:
    """Print the summary for a person."""
    console.print(f"\n[bold]{run.title}[/bold]\n{figures['estimates']} redshifts in {output}")
    table = Table.grid(padding=(0, 3))
    table.add_row("images per second", _or_dash(figures["images_per_s"]))
    table.add_row(
        "latency p50 / p98", f"{_or_dash(figures['p50_s'])} / {_or_dash(figures['p98_s'])} s"
    )
    table.add_row("cold start", f"{figures['cold_start_s']} s")
    table.add_row("peak memory", f"{figures['peak_mib']:g} MiB, workers included")
    caller = run.pipeline.scheduler.caller
    if not caller.tariff.price.free:
        spent = dollars(run.pipeline.scheduler.ledger.spent.total())
        table.add_row("spent", f"{spent} in {figures['calls']} calls at {caller.tariff.price.name}")
    for reason, count in figures["reasons"].items():
        table.add_row(reason, str(count))
    if run.desk.waiting:
        table.add_row("wait for review", f"{run.desk.waiting}: lookback review list --to {output}")
    console.print(table)
    console.print(str(run.totals()), style="green" if not trouble(run) else "red", soft_wrap=True)


def store(figures: dict[str, Any], output: Path) -> None:
    """Write `summary.json`."""
    (output / "summary.json").write_text(json.dumps(figures, indent=2) + "\n")


class Machine:
    """What a run takes of the machine. To be made when all is ready.

    `cold_start_s`: from `began` (unix seconds; the start of this process) until then.
    `peak_mib`: largest resident memory (MiB) of this process and its workers, sampled.
    """

    def __init__(self, began: float | None = None) -> None:
        self._process = psutil.Process()
        self.cold_start_s = time.time() - (began or self._process.create_time())
        self.peak_mib = 0.0

    def sample(self) -> None:
        """Look once. Shared pages count in every process that maps them, as `ps` does it."""
        total = self._process.memory_info().rss
        for child in self._process.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak_mib = max(self.peak_mib, total / 2**20)


def plot(run: Run, path: Path) -> None:
    """Draw the night: estimates per second, latency, redshifts, and the books."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    night = run.night
    figure, ((rate, latency), (redshift, books)) = plt.subplots(
        2, 2, figsize=(11, 7), layout="constrained"
    )
    figure.suptitle(run.title)

    seconds = range(max(night.per_second, default=0) + 1)
    for outcome in Outcome:
        counts = [night.per_second.get(each, Counter[Outcome]())[outcome] for each in seconds]
        if any(counts):
            rate.step(seconds, counts, where="post", label=outcome.value.replace("_", " "))
    rate.set(xlabel="seconds since start", ylabel="events settled per second", ylim=(0, None))
    rate.legend()

    buckets = night.latency.counts()
    if buckets:
        latency.stairs(
            [count for _, count in buckets],
            [buckets[0][0] / 1.02, *(edge for edge, _ in buckets)],
            fill=True,
        )
        for fraction, style in ((0.5, "-"), (0.98, "--")):
            value = night.latency.quantile(fraction) or 0.0
            latency.axvline(
                value, color="k", linestyle=style, label=f"p{100 * fraction:.0f} = {value:.2f} s"
            )
        latency.legend()
    latency.set(xlabel="seconds from taken to written", ylabel="estimates")

    edges = night.redshift_edges()
    redshift.bar([z for z, _ in edges], [n for _, n in edges], width=0.02, align="edge")
    redshift.set(xlabel="z (median of p(z))", ylabel="estimates per 0.02")

    totals = run.totals()
    names = [outcome.value.replace("_", " ") for outcome in Outcome] + ["in flight"]
    counts = [totals.outcomes.get(outcome, 0) for outcome in Outcome] + [totals.in_flight]
    bars = books.barh(names, counts)
    books.bar_label(bars, padding=3)
    books.invert_yaxis()
    books.set_xscale("symlog")
    books.set(
        xlabel="events",
        title=f"{totals.received} received, books "
        f"{'balance' if totals.balanced else 'DO NOT balance'}",
    )
    books.margins(x=0.15)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
