"""The table of an evaluation, for a person: on a terminal, and as pictures beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from workers.errors import DataError
from workers.evaluation import plots
from workers.evaluation.slices import headline
from workers.evaluation.table import Evaluation

_WIDTH: Final = 144  # of what goes into a file or a pipe
_LABEL: Final = 32
_COLUMNS: Final = ("n", "NMAD", "outliers, %", "MAE", "bias", "68 / 95 %", "CRPS", "PIT, KS p")


def show(table: dict[str, Any], console: Console | None = None) -> None:
    """Print the table of `evaluate`: populations and cuts, comparisons, then bins.

    Brackets are 95 % intervals, "68 / 95 %" the shares of true redshifts inside of these. A dash is
    what the model or the rows do not give; "no" says that PIT values are not uniform.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    console.print(
        f"{table['model']} version {table['version']}, weights {table['weights_sha256'][:12]}, "
        f"{table['rows']} rows",
        highlight=False,
    )
    left_out = [f"{n} {why.replace('_', ' ')}" for why, n in table["left_out"].items() if n]
    if left_out:
        console.print(f"left out: {', '.join(left_out)}")
    for population, entry in table["metrics"].items():
        lines = {"model": entry}
        for how, entries in table["comparisons"].items():
            if population in entries:
                lines[how] = entries[population]
        console.print(_table(population, "estimator", lines))
    for bins, what in (("by_r", "r magnitude"), ("by_z", "true redshift")):
        for population, entries in table[bins].items():
            console.print(_table(population, what, entries))


def write(evaluation: Evaluation, out: Path, log: Path | None = None) -> list[Path]:
    """Write `table.json` and pictures (PNG) of every line of the table into the folder `out`.

    `log`: the `metrics.jsonl` of a training run, drawn as a learning curve.

    Raises:
        DataError: the log cannot be read.
    """
    curve = _figures(log) if log else None
    out.mkdir(parents=True, exist_ok=True)
    table = out / "table.json"
    table.write_text(json.dumps(evaluation.table, indent=2, allow_nan=False) + "\n")
    written = [table]
    rows, found, edges = evaluation.rows, evaluation.found, evaluation.edges
    for name, which in headline(rows).items():
        shown = plots.Shown(
            title=f"{name.replace('simulated', 'SIMULATED')}, {evaluation.table['model']}",
            z=rows.z[which].astype(float),
            r=rows.magnitudes[which, 2].astype(float),
            found={field: values[which] for field, values in found.items()},
            edges=edges,
            # One row of each group, as for the test of uniformity.
            single=np.unique(rows.group[which], return_index=True)[1],
        )
        stem = re.sub(r"[^a-zA-Z0-9]+", "-", name)
        written += plots.draw_all(shown, out, stem)
    if curve is not None:
        written.append(plots.learning_curve(curve, out / "learning-curve.png"))
    return written


def _figures(log: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in log.read_text().splitlines() if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{log} is not the metrics.jsonl of a training run ({error})") from error


def _table(title: str, what: str, lines: dict[str, dict[str, Any]]) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
    made.add_column(what, min_width=_LABEL)
    for column in _COLUMNS:
        made.add_column(column, justify="right", no_wrap=True)
    for label, each in lines.items():
        made.add_row(label, *_cells(each))
    return made


def _cells(each: dict[str, Any]) -> list[str]:
    pit = each.get("pit")
    inside = [each[name] for name in ("coverage68", "coverage95") if each.get(name) is not None]
    return [
        str(each["n"]),
        f"{each['nmad']:.4f} {_interval(each.get('nmad_95'), 1, 4)}",
        f"{100 * each['outliers']:.1f} {_interval(each.get('outliers_95'), 100, 1)}",
        f"{each['mae']:.3f}",
        f"{each['bias']:+.4f}",
        " / ".join(f"{100 * share:.0f}" for share in inside) or "-",
        "-" if each.get("crps") is None else f"{each['crps']:.4f}",
        "-" if pit is None else f"{pit['ks_p']:.2g}" + ("" if pit["uniform"] else " no"),
    ]


def _interval(ends: list[float] | None, factor: float, places: int) -> str:
    if ends is None:
        return ""
    low, high = (f"{factor * end:.{places}f}" for end in ends)
    return f"({low} to {high})"
