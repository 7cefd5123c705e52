"""Models: `lookback estimate`, `evaluate`, `prepare`, `train`, `import`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dispatcher.commands import completion as offered
from dispatcher.commands.exits import answer
from dispatcher.commands.options import AsJson
from dispatcher.commands.progress import progress

Weights = Annotated[
    str | None,
    typer.Option(
        help="A weights file or a shipped model; default: the shipped one.",
        autocompletion=offered.models,
    ),
]


def prepare(
    sdss: Annotated[Path, typer.Argument(help="Folder with the SDSS files.")],
    out: Annotated[Path, typer.Option(help="Folder for the datasets.")],
    seed: Annotated[int, typer.Option(help="Of the renderings.")] = 42,
    as_json: AsJson = False,
) -> None:
    """Make the training datasets: real quasars, and galaxies, quasars and stars rendered.

    Example: lookback prepare sdss/ --out data/
    """
    from workers.training.sdss import prepare as make

    with progress("rows made") as step:
        made = make(sdss, out, seed, on_progress=_saying(as_json=as_json), step=step)
    if as_json:
        answer({"written": {str(path): rows for path, rows in made.items()}})


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Name of a shipped recipe, or a TOML file.", autocompletion=offered.recipes
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder with the datasets that the recipe names.")],
    out: Annotated[Path, typer.Option(help="Folder for weights and metrics; resumes there.")],
    encoder: Annotated[
        Path | None, typer.Option(help="Pre-trained encoder, for recipes that only fine-tune.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of the processor.")] = 1,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the model first (needs a C++ compiler).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train the model; stopped, the same command goes on where it was.

    Example: lookback train encoder --data data/ --out encoder/ --threads 2
    """
    from workers.training.run import train as train_model

    path = train_model(
        recipe,
        data,
        out,
        encoder=encoder,
        device=device,
        threads=threads,
        compiled=compiled,
        say=_saying(as_json=as_json),
    )
    if as_json:
        answer({"written": str(path)})


def evaluate(
    dataset: Annotated[Path, typer.Argument(help="Dataset file (npz) of rows not trained on.")],
    weights: Weights = None,
    train: Annotated[
        Path | None, typer.Option(help="Its training rows (npz): adds simple estimators.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for pictures and the table.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="metrics.jsonl of the training, for --report.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a model's redshifts with known ones: metrics, calibration, pictures.

    Example: lookback evaluate test.npz --train train.npz --report report/
    """
    from rich.console import Console

    from workers.evaluation import report as reports
    from workers.evaluation.table import evaluate_files

    with progress("rows estimated") as step:
        found = evaluate_files(weights, dataset, train, step)
    if report:
        for path in reports.write(found, report, log):
            typer.echo(f"written: {path}", err=True)
    if as_json:
        answer(found.table)
    else:
        reports.show(found.table, Console())


def estimate(
    dataset: Annotated[Path, typer.Argument(help="Dataset file (npz).")],
    to: Annotated[Path, typer.Option(help="Table to write: .parquet or .csv.")],
    weights: Weights = None,
    pdf: Annotated[bool, typer.Option(help="Also p(z), as a qp file beside it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Apply a model to a dataset: one row for each cutout.

    Example: lookback estimate cutouts.npz --to estimates.parquet --pdf
    """
    from workers.evaluation.catalogue import estimate_table

    with progress("rows estimated") as step:
        written = estimate_table(weights, dataset, to, pdf=pdf, step=step)
    if as_json:
        answer({"written": [str(path) for path in written]})
        return
    for path in written:
        typer.echo(f"written: {path}")


def import_weights(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of torch, or safetensors file.")],
    to: Annotated[Path, typer.Option("--to", help="Weights file to write (.safetensors).")],
    name: Annotated[str, typer.Option(help="Name of the model, for the results.")] = "astromae",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "published",
    as_json: AsJson = False,
) -> None:
    """Take over published AstroMAE weights; nothing of the file is run.

    Example: lookback import checkpoint.pt --to published.safetensors
    """
    from workers.checkpoint import adopt

    identity = adopt(checkpoint, to, name=name, version=version, say=_saying(as_json=as_json))
    if as_json:
        answer({"written": str(to), **asdict(identity)})
        return
    typer.echo(f"{to}: {identity.name}, version {identity.version}, sha256 {identity.sha256}")
    typer.echo(f"use it with LOOKBACK_WORKERS__WEIGHTS={to}")


def _saying(*, as_json: bool) -> Callable[[Any], None]:
    """Where long work says what it does: JSON has standard output for itself."""
    return partial(typer.echo, err=as_json)
