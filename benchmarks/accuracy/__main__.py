"""Measure, print, and write the page after a full run. See the package's docstring."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

import benchmarks.accuracy as method
from benchmarks import machine
from benchmarks.accuracy.foreign import flagged_shares, stars
from benchmarks.accuracy.judge import SIZE, Judge
from benchmarks.accuracy.page import page
from workers.estimator import Estimator
from workers.evaluation import report
from workers.evaluation.metrics import bootstrap, point_metrics
from workers.evaluation.slices import headline
from workers.evaluation.table import evaluate_rows
from workers.training.cutouts import Cutouts
from workers.training.render import render_galaxies

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks" / "accuracy.md"
_QUICK: Final = 300  # rows of each data set
_BRIGHT: Final = 19.0  # r: as bright as what the judge was trained on


def measure(
    kind: str,
    train: Cutouts,
    rows: Cutouts,
    weights: Path | str | None,
    judge: Judge | None,
    sky: dict[str, Cutouts],
    *,
    quick: bool,
) -> dict[str, Any]:
    """The table of one kind, with the judge among the comparisons where the cutouts allow it."""
    if quick:
        train, rows = train.rows(np.arange(len(train)) < 2000), rows.rows(np.arange(_QUICK))
    found = evaluate_rows(Estimator.load(weights), rows, train)
    table = {**found.table, "data": kind, "training_rows": len(train)}
    good = rows.rows(~rows.simulated) if (~rows.simulated).any() else rows
    table["flagged"] = flagged_shares(weights, good, sky)
    if judge is not None and found.rows.images.shape[-1] >= SIZE:
        _add_bright(table, found.rows, found.found["z_median"], judge)
    return table


def _data(folder: Path | None) -> Iterator[tuple[str, tuple[Cutouts, Cutouts]]]:
    """Training and held-out rows of each kind; without a folder, of galaxies rendered now."""
    if folder is None:
        yield "galaxies", (_rendered(2000, seed=1), _rendered(_QUICK, seed=2))
        return
    for kind in ("galaxies", "quasars"):
        train, test = (Cutouts.load(folder / kind / f"{part}.npz") for part in ("train", "test"))
        yield kind, (train, test)


def _rendered(n: int, seed: int) -> Cutouts:
    made = render_galaxies(n, seed)
    group, kind = np.arange(n), np.full(n, "galaxy")
    return Cutouts(made.images, made.magnitudes, made.z, group, kind, np.ones(n, dtype=bool))


def _add_bright(table: dict[str, Any], rows: Cutouts, ours: Any, judge: Judge) -> None:
    """The judge beside the model, and a line for r < 19."""
    theirs = judge.estimate(rows.images)
    entries: dict[str, Any] = {}
    for name, mask in headline(rows).items():
        entries[name] = _entry(theirs, rows, mask)
        if not name.endswith(", all"):
            continue
        bright = name.replace(", all", f", r < {_BRIGHT:g}")
        which = mask & (rows.magnitudes[:, 2] < _BRIGHT)
        if which.any() and bright not in table["metrics"]:
            table["metrics"][bright] = _entry(ours, rows, which)
            entries[bright] = _entry(theirs, rows, which)
    table["comparisons"]["judge"] = entries


def _entry(z: Any, rows: Cutouts, which: Any) -> dict[str, Any]:
    return {
        **point_metrics(z[which], rows.z[which]),
        "n": int(which.sum()),
        **bootstrap(z[which], rows.z[which], rows.group[which]),
    }


def main() -> None:
    """Read the options, measure both kinds."""
    arguments = argparse.ArgumentParser(description=(method.__doc__ or "").splitlines()[0])
    arguments.add_argument("--data", type=Path, help="holds galaxies/ and quasars/")
    arguments.add_argument("--galaxies", type=Path, help="weights; default: the shipped ones")
    arguments.add_argument("--quasars", type=Path, help="weights; default: the shipped ones")
    arguments.add_argument("--judge", type=Path, help="f2r_weights.npz; default: no judge")
    arguments.add_argument("--stars", type=Path, help="npz of real stars; default: rendered ones")
    arguments.add_argument("--quick", action="store_true", help="some rows only, end within 50 s")
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = arguments.parse_args()
    where = machine.describe()
    weights = {"galaxies": options.galaxies, "quasars": options.quasars}
    tables = {
        kind: measure(
            kind,
            *parts,
            weights[kind] or kind,
            Judge(options.judge) if options.judge and kind == "galaxies" else None,
            stars(options.data, options.stars),
            quick=options.quick,
        )
        for kind, parts in _data(options.data)
    }
    for table in tables.values():
        report.show(table)
    if options.data and not options.quick:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(where, tables))
    if options.json:
        print(json.dumps(tables, allow_nan=False))


if __name__ == "__main__":
    main()
