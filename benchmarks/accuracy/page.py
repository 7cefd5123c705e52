"""The page of a full run, all of it from the figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import benchmarks.accuracy as method

_HEAD = (
    "| estimator | n | NMAD (95 %) | outliers, % (95 %) | MAE (95 %) | bias "
    "| in 68 / 95 % interval, % | CRPS | PIT uniform (KS p) |\n" + "|---" * 9 + "|"
)


def page(where: Mapping[str, str], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: one table for every population and cut of every data set."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    parts = [
        "# Accuracy",
        f"Written by `python -m benchmarks.accuracy` on {today}.",
        f"```\n{(method.__doc__ or '').strip()}\n```",
    ]
    for name, table in tables.items():
        parts += [f"## {name.capitalize()}", _model(table), *_populations(table), _flagged(table)]
    machine = "\n".join(f"| {name} | {value} |" for name, value in where.items())
    return "\n\n".join([*parts, f"| machine | |\n|---|---|\n{machine}"]) + "\n"


def _model(table: Mapping[str, Any]) -> str:
    left_out = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in table["left_out"].items())
    return (
        f"Model {table['model']}, version {table['version']}, weights "
        f"`{table['weights_sha256'][:16]}`; {table['rows']} rows (left out: {left_out}), "
        f"{table['training_rows']} training rows for the forests."
    )


def _populations(table: Mapping[str, Any]) -> Iterator[str]:
    for population, entry in table["metrics"].items():
        lines = {"model": entry}
        for how, entries in table["comparisons"].items():
            if population in entries:
                lines[how] = entries[population]
        rows = "\n".join(f"| {how} | {_cells(each)} |" for how, each in lines.items())
        yield f"### {population.replace('simulated', 'SIMULATED')}"
        yield f"{_HEAD}\n{rows}"


def _flagged(table: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {what} | {100 * share:.1f} |" for what, share in table["flagged"].items())
    return f"### Out of domain\n\n| what, rows | flagged, % |\n|---|---|\n{rows}"


def _cells(each: Mapping[str, Any]) -> str:
    inside = [each[name] for name in ("coverage68", "coverage95") if each.get(name) is not None]
    pit = each.get("pit")
    return " | ".join(
        [
            str(each["n"]),
            f"{each['nmad']:.4f} {_range(each['nmad_95'], 1, 4)}",
            f"{100 * each['outliers']:.1f} {_range(each['outliers_95'], 100, 1)}",
            f"{each['mae']:.3f} {_range(each['mae_95'], 1, 3)}",
            f"{each['bias']:+.4f}",
            " / ".join(f"{100 * share:.0f}" for share in inside),
            "" if each.get("crps") is None else f"{each['crps']:.4f}",
            "" if pit is None else f"{'yes' if pit['uniform'] else 'no'} ({pit['ks_p']:.2g})",
        ]
    )


def _range(ends: list[float], factor: float, places: int) -> str:
    low, high = (f"{factor * end:.{places}f}" for end in ends)
    return f"({low} to {high})"
