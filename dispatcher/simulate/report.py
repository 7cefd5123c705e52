"""What is shown of a simulated night: figures, curves, a table for others. All of it SIMULATED."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

from dispatcher.ledger.accounts import TOTAL
from dispatcher.ledger.money import DOLLAR
from dispatcher.simulate.spending import peaks
from dispatcher.simulate.world import WINDOW_S, Result

_MILLION: Final = 1_000_000


def figures(result: Result) -> dict[str, Any]:
    """For `--json`. Dollars as numbers, seconds."""
    scenario, events = result.scenario, result.scenario.arrivals.events
    return {
        "simulated": True,
        "seed": scenario.seed,
        "events": events,
        "answered": result.settled,
        "p50_s": _rounded(result.ages.quantile(0.5)),
        "p98_s": _rounded(result.ages.quantile(0.98)),
        "oldest_s": round(result.oldest_s, 3),
        "objective_s": scenario.objective_s,
        "windows_met": round(result.windows_met, 4),
        "calls": result.calls,
        "hedges": result.hedges,
        "cold_starts": result.cold_starts,
        "throttles": result.throttles,
        "spent_usd": result.truth.spent / DOLLAR,
        "usd_per_million": result.per_event * _MILLION / DOLLAR,
        "peaks": [
            {
                "window": each.window.value,
                "cap_usd": each.cap / DOLLAR,
                "spent_usd": each.spent / DOLLAR,
                "overshoot": each.overshoot,
                "holds": each.holds,
            }
            for each in peaks(result.truth, dict(scenario.caps.get(TOTAL, {})))
        ],
        "said": result.said[:20],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def write_csv(result: Result, path: Path) -> None:
    """The night minute by minute."""
    with path.open("w", newline="") as file:
        rows = [{**row, "p98_s": _p98(result, row["time_s"])} for row in result.series]
        if rows:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


def _p98(result: Result, time_s: float) -> float | None:
    window = result.by_window.get(int(time_s // WINDOW_S) - 1)
    return window.quantile(0.98) if window else None


def plot(result: Result, name: str, path: Path) -> None:
    """Backlog, age, spending and batches over the night."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    backlog, age, money, batch = figure.subplots(4, 1, sharex=True)
    hours = [row["time_s"] / 3600 for row in result.series]
    backlog.fill_between(hours, [row["backlog"] for row in result.series], color="tab:blue")
    backlog.set_ylabel("events waiting")
    ages = [_p98(result, row["time_s"]) for row in result.series]
    age.plot(hours, [each if each is not None else float("nan") for each in ages], ".", ms=3)
    age.axhline(result.scenario.objective_s, color="tab:red", lw=1)
    age.set_ylabel("p98 age (s)\nred: objective")
    money.plot(hours, [row["spent_usd"] for row in result.series], color="tab:green")
    caps = result.scenario.caps.get(TOTAL, {})
    if caps:
        money.axhline(min(caps.values()) / DOLLAR, color="tab:red", lw=1)
    money.set_ylabel("dollars spent")
    batch.step(hours, [row["batch_items"] for row in result.series], color="tab:purple")
    batch.set_ylabel("items in a\nfull batch")
    batch.set_xlabel("hours since the beginning")
    figure.suptitle(
        f"SIMULATED {name}, seed {result.scenario.seed}: {result.settled:,} answered, "
        f"p98 {result.ages.quantile(0.98) or 0:.1f} s, "
        f"${result.per_event * _MILLION / DOLLAR:.3f} per million"
    )
    figure.savefig(path, dpi=110)
