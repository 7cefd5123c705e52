"""Pictures of an evaluation, PNG. What is simulated says so in its title."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.evaluation import pdf
from workers.evaluation.metrics import OUTLIER, nmad, outliers, scaled
from workers.evaluation.predictions import Columns

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = NDArray[np.floating]

_INK, _DATA, _LINE = "#222222", "#3b6ea8", "#c8553d"
_EXAMPLES: Final = 9
_PER_BIN: Final = 25  # rows a running median needs at least
_MOST_BINS: Final = 12


@dataclass(frozen=True, slots=True)
class Shown:
    """Rows of one line of the table: `z`, `r` [n], estimates by field, `single` rows of groups."""

    title: str
    z: Floats
    r: Floats
    found: Columns
    edges: Floats
    single: NDArray[np.intp]

    @property
    def has_density(self) -> bool:
        """Whether the model gives p(z)."""
        return bool(self.found["pz"].shape[1] > 1)


def draw_all(shown: Shown, out: Path, stem: str) -> list[Path]:
    """Every picture of these rows as `out/STEM-WHAT.png`; those of p(z) only if there is one."""
    of: dict[str, Callable[[Shown, Path], Path]] = {"redshifts": redshifts, "errors": errors}
    if shown.has_density:
        of |= {"calibration": calibration, "examples": examples}
    return [draw(shown, out / f"{stem}-{what}.png") for what, draw in of.items()]


def redshifts(shown: Shown, path: Path) -> Path:
    """Estimated against true redshift, with the limits of outliers."""
    z, estimated = shown.z, shown.found["z_median"]
    with _figure(path, shown.title, (6.4, 6.4)) as figure:
        axes = figure.add_subplot()
        # A few far outliers would squeeze all others into a corner: they are drawn at the edge.
        end = 1.1 * float(max(np.percentile(each, 99.7) for each in (z, estimated)))
        line = np.array([0, end])
        axes.plot(line, line, color=_INK, lw=0.8)
        for sign in (-1, 1):
            limit = line + sign * OUTLIER * (1 + line)
            axes.plot(line, limit, color=_LINE, lw=0.9, ls="--")
        axes.scatter(
            np.minimum(z, end), np.minimum(estimated, end),
            s=_size(len(z)), color=_DATA, alpha=_alpha(len(z)), lw=0, clip_on=False,
        )  # fmt: skip
        axes.set(
            xlim=(0, end), ylim=(0, end), aspect="equal",
            xlabel="true redshift", ylabel="estimated redshift (median of p(z))",
        )  # fmt: skip
        dz, beyond = scaled(estimated, z), int((np.maximum(z, estimated) > end).sum())
        axes.text(
            0.03, 0.97,
            f"n = {len(z)}\nNMAD {nmad(dz):.4f}\noutliers {100 * outliers(dz):.1f} %\n"
            f"bias {np.median(dz):+.4f}\ndashed: |dz| = {OUTLIER}"
            + (f"\nat the edge: {beyond} beyond it" if beyond else ""),
            transform=axes.transAxes, va="top", fontsize=9,
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none"},
        )  # fmt: skip
    return path


def errors(shown: Shown, path: Path) -> Path:
    """Errors dz against r and against true redshift, with running median and NMAD."""
    dz = scaled(shown.found["z_median"], shown.z)
    with _figure(path, shown.title, (10, 4.6)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        limit = float(np.clip(1.1 * np.percentile(np.abs(dz), 99), 2 * nmad(dz), 0.5))
        for axes, x, label in ((left, shown.r, "r magnitude"), (right, shown.z, "true redshift")):
            known = np.isfinite(x)
            axes.scatter(
                x[known], np.clip(dz[known], -limit, limit),
                s=_size(len(x)), color=_DATA, alpha=_alpha(len(x)), lw=0,
            )  # fmt: skip
            axes.axhline(0, color=_INK, lw=0.8)
            middle, median, spread = running(x[known], dz[known])
            axes.plot(middle, median, color=_LINE, lw=1.6, marker="o", ms=3, label="median")
            axes.fill_between(
                middle, median - spread, median + spread,
                color=_LINE, alpha=0.25, lw=0, label="median +- NMAD",
            )  # fmt: skip
            axes.set(xlabel=label, ylim=(-1.03 * limit, 1.03 * limit))
            if known.sum() > 1:
                axes.set_xlim(*np.percentile(x[known], [0.1, 99.9]))
        left.set_ylabel("dz = (z - z_true) / (1 + z_true)")
        right.legend(loc="upper right", fontsize=9)
        beyond = int((np.abs(dz) > limit).sum())
        if beyond:
            left.text(
                0.02, 0.02, f"{beyond} beyond the frame are drawn at its edge",
                transform=left.transAxes, fontsize=8,
            )  # fmt: skip
    return path


def calibration(shown: Shown, path: Path) -> Path:
    """PIT histogram with the band of chance, and observed against nominal coverage."""
    from scipy.stats import binom

    one = shown.single
    values = pdf.pit(shown.found["pz"][one], shown.edges, shown.z[one])
    n, share = len(values), 1 / pdf.PIT_BINS
    tested = pdf.uniformity(values)
    with _figure(path, shown.title, (10, 4.8)) as figure:
        left, right = figure.subplots(1, 2)
        low, high = (binom.ppf(q, n, share) / (n * share) for q in (0.025, 0.975))
        left.axhspan(low, high, color=_INK, alpha=0.15, lw=0, label="95 % of bins by chance")
        left.stairs(
            np.array(tested["histogram"]) / share, np.linspace(0, 1, pdf.PIT_BINS + 1),
            color=_DATA, lw=1.6,
        )  # fmt: skip
        left.axhline(1, color=_INK, lw=0.8)
        top = 1.35 * max(high, max(tested["histogram"]) / share)
        verdict = "uniform" if tested["uniform"] else "not uniform"
        left.set(
            xlim=(0, 1), ylim=(0, top), xlabel="PIT: p(z) below the true redshift",
            ylabel="density",
        )  # fmt: skip
        left.set_title(f"KS p = {tested['ks_p']:.2g}: {verdict} (limit 0.01)", fontsize=10)
        left.legend(loc="upper center", fontsize=9)
        nominal = np.linspace(0, 1, 101)
        observed = pdf.central(values, nominal)
        band = [binom.ppf(q, n, nominal) / n for q in (0.025, 0.975)]
        right.fill_between(nominal, *band, color=_INK, alpha=0.15, lw=0, label="95 % by chance")
        right.plot(nominal, nominal, color=_INK, lw=0.8)
        right.plot(nominal, observed, color=_DATA, lw=1.8, label="observed")
        for at in (0.68, 0.95):
            right.axvline(at, color=_LINE, lw=0.8, ls=":")
        right.set(
            xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="nominal central interval",
            ylabel="share of true redshifts inside",
        )  # fmt: skip
        right.set_title("dotted: 68 and 95 %", fontsize=10)
        right.legend(loc="upper left", fontsize=9)
    return path


def examples(shown: Shown, path: Path) -> Path:
    """p(z) of nine rows, evenly chosen from the best to the worst |dz|."""
    dz = np.abs(scaled(shown.found["z_median"], shown.z))
    rows = np.argsort(dz)[np.linspace(0, len(dz) - 1, min(_EXAMPLES, len(dz))).astype(int)]
    width = np.diff(shown.edges)
    with _figure(path, f"{shown.title}: p(z), best to worst |dz|", (10, 7.4)) as figure:
        for axes, row in zip(figure.subplots(3, 3).flat, rows, strict=False):
            density = shown.found["pz"][row] / width
            axes.stairs(density, shown.edges, color=_DATA, fill=True, alpha=0.5)
            axes.axvline(shown.z[row], color=_LINE, lw=1.4)
            axes.axvline(shown.found["z_median"][row], color=_INK, lw=1, ls="--")
            axes.set(xlim=_window(shown, row), yticks=[])
            axes.locator_params(axis="x", nbins=4)
            axes.set_title(
                f"true {shown.z[row]:.3f}, estimated {shown.found['z_median'][row]:.3f}", fontsize=9
            )
        figure.supxlabel("redshift (line: true, dashed: median)", fontsize=10)
    return path


def learning_curve(figures: list[dict[str, Any]], path: Path) -> Path:
    """Every figure of a training run that has epochs, one panel each stage and quantity."""
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line in figures:
        if "epoch" not in line:
            continue
        for name, value in line.items():
            if name not in ("stage", "epoch", "seconds") and isinstance(value, int | float):
                key = (str(line.get("stage", "")), name)
                series.setdefault(key, []).append((line["epoch"], value))
    columns = 3
    lines = max(1, -(-len(series) // columns))
    with _figure(path, "learning curve", (10, 0.8 + 2.4 * lines)) as figure:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, ((stage, name), values) in zip(grid, series.items(), strict=False):
            axes.plot(*zip(*values, strict=True), color=_DATA, marker=".", lw=1.4)
            axes.set_title(f"{stage}: {name}", fontsize=9)
            axes.set_xlabel("epoch", fontsize=9)
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in grid[len(series) :]:
            axes.set_axis_off()
    return path


def running(x: Floats, dz: Floats) -> tuple[Floats, Floats, Floats]:
    """Median of `x`, median and NMAD of `dz` in bins of equally many rows (25 at least)."""
    bins = min(_MOST_BINS, max(1, len(x) // _PER_BIN))
    parts = [part for part in np.array_split(np.argsort(x), bins) if len(part)]
    return (
        np.array([np.median(x[part]) for part in parts]),
        np.array([np.median(dz[part]) for part in parts]),
        np.array([nmad(dz[part]) for part in parts]),
    )


def _window(shown: Shown, row: int) -> tuple[float, float]:
    """The redshifts where there is something to see: 99 % of p(z), and the truth."""
    p = np.cumsum(shown.found["pz"][row].astype(float))
    first, last = np.searchsorted(p / p[-1], [0.005, 0.995])
    low = min(shown.edges[first], shown.z[row])
    high = max(shown.edges[last + 1], shown.z[row])
    return max(0.0, low - 0.05 * (high - low)), high + 0.05 * (high - low)


def _size(n: int) -> float:
    return float(np.clip(8000 / n, 5, 16))


def _alpha(n: int) -> float:
    return float(np.clip(500 / n, 0.2, 0.7))


@contextmanager
def _figure(path: Path, title: str, size: tuple[float, float]) -> Iterator[Any]:
    """A figure that is written when it is left; no display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    yield figure
    figure.savefig(path)
