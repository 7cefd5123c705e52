"""The command line.

Exit codes: 0 done; 1 it ran and something is wrong (books that do not balance, too many dead
letters, an inspected event that is one), or something is away right now (a broker, a database) and
the same command goes on later; 2 it could not start (a wrong path, a wrong setting). Errors are one
line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from dispatcher import logs
from dispatcher import settings as settings_module
from dispatcher.cli_deadletters import app as deadletters_app
from dispatcher.cli_doctor import doctor
from dispatcher.cli_functions import app as functions_app
from dispatcher.cli_functions import platform
from dispatcher.cli_ledger import app as ledger_app
from dispatcher.cli_plan import plan
from dispatcher.cli_replay import replay
from dispatcher.cli_simulate import simulate
from dispatcher.errors import DispatcherError, LaneStopped, LedgerUnavailable, SettingsError
from dispatcher.following import Shown, follow
from dispatcher.settings.commented import Place, commented
from ingest.errors import IngestError, SourceUnavailable
from sinks.errors import SinkError, SinkUnavailable
from workers.errors import WorkerError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

app.add_typer(deadletters_app, name="deadletters")
app.add_typer(ledger_app, name="ledger")
app.add_typer(functions_app, name="functions")
app.command()(doctor)
app.command()(plan)
app.command()(platform)
app.command()(replay)
app.command()(simulate)

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="TOML file; `lookback settings` lists the keys.")
]
Output = Annotated[Path, typer.Option("--to", help="Folder for results, dead letters and state.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Stay = Annotated[
    bool, typer.Option("--stay", help="Keep the status page up after the end, until Ctrl-C.")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw the night into this PNG file.")]
Source = Annotated[
    str,
    typer.Argument(
        help="kafka://host:port/topic, sqs://queue, a folder, a glob in quotes, an Avro container, "
        "a JSON or JSON-lines file, or an SQLite night archive."
    ),
]


def main() -> None:
    """Entry point: errors that a person can mend are one line, not a traceback."""
    logs.configure()
    try:
        app()
    except LaneStopped as error:
        _complain(str(error), 1)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        _complain("this needs torch, which the service does not: pip install 'lookback[train]'", 2)
    except (SourceUnavailable, SinkUnavailable, LedgerUnavailable) as error:
        _complain(f"{error}; the same command goes on once it is back", 1)
    except (DispatcherError, IngestError, SinkError, WorkerError) as error:
        _complain(str(error), 2)
    finally:
        sys.excepthook = logs.uncaught  # typer has put one of its own there


def _complain(error: str, code: int) -> NoReturn:
    print(f"lookback: {logs.redacted(' '.join(error.split()))}", file=sys.stderr)
    raise SystemExit(code)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lookback {version('lookback')}")
        raise typer.Exit


@app.callback()
def lookback(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """A stream of new survey images in, a stream of redshifts out."""


@app.command()
def run(
    source: Source,
    to: Output = Path("lookback-out"),
    settings: SettingsFile = None,
    plot: Plot = None,
    stay: Stay = False,
    as_json: AsJson = False,
) -> None:
    """Follow a source to its end and write a redshift for every image.

    Killed or stopped, the same command goes on where it was: nothing is lost and nothing is
    written twice.

    Example: lookback run night-of-alerts/ --to results/ --plot night.png
    """
    shown = Shown(plot, as_json, stay, settings_file=settings)
    follow(source, to, settings_module.load(settings), shown)


@app.command()
def demo(
    to: Output = Path("lookback-out/demo"),
    events: Annotated[int, typer.Option(help="Galaxies to render.", min=1)] = 360,
    seed: Annotated[int, typer.Option(help="The same seed renders the same night.")] = 20261123,
    plot: Plot = None,
    stay: Stay = False,
    as_json: AsJson = False,
) -> None:
    """Render a small SIMULATED night and run it: redshifts in a minute, nothing to prepare.

    Example: lookback demo --plot night.png
    """
    from dispatcher.demo import render_night

    console = Console(stderr=True)
    archive = to / "night.sqlite"
    if not archive.exists():
        console.print(f"Rendering a simulated night of {events} galaxies into {archive} ...")
        render_night(archive, events, seed)
    # Rendering is no part of a start: a real night is there already.
    began = time.time()
    given = settings_module.load(None)
    follow(str(archive), to, given, Shown(plot, as_json, stay, began), tense="test")


@app.command()
def reconcile(
    source: Source,
    to: Output = Path("lookback-out"),
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Prove from source and sinks alone that nothing is missing and nothing is doubled.

    Example: lookback reconcile night-of-alerts/ --to results/
    """
    from dispatcher.reconcile import reconcile as compare

    report = asyncio.run(compare(source, to, settings_module.load(settings)))
    if as_json:
        findings = [{"what": each.what, "where": each.where} for each in report.findings]
        typer.echo(json.dumps({"books": report.totals.to_json(), "findings": findings}))
    else:
        for each in report.findings:
            typer.echo(f"{each.what}: {each.where}")
        typer.echo(f"{report.totals}")
        typer.echo("proved" if report.proved else f"{len(report.findings)} findings")
    if not report.proved:
        raise SystemExit(1)


@app.command()
def compact(
    catalogue: Annotated[str, typer.Argument(help="Folder or s3:// address of a .hats sink.")],
    max_rows: Annotated[int, typer.Option(help="Rows that one leaf should hold at most.")] = 10**6,
    drop_previous: Annotated[
        bool, typer.Option("--drop-previous", help="Who reads the old generation now fails.")
    ] = False,
    settings: SettingsFile = None,
) -> None:
    """Merge the parts of a HATS catalogue, and split leaves that are too full.

    Not while a run writes to it. Who reads the catalogue meanwhile sees the old one or the new one.

    Example: lookback compact results/results.hats
    """
    from dispatcher.access import aws_client
    from sinks.hats import compact as merge

    s3 = aws_client(settings_module.load(settings).aws) if "://" in catalogue else None
    done = merge(catalogue, max_rows=max_rows, s3=s3, keep_previous=not drop_previous)
    typer.echo(
        f"{done.rows} rows: {done.parts_before} parts of {done.bytes_before / 2**20:.1f} MiB are "
        f"now {done.parts_after} of {done.bytes_after / 2**20:.1f} MiB in {done.leaves} leaves"
    )


@app.command()
def inspect(
    source: Source,
    partition: Annotated[str | None, typer.Option(help="File or partition in the source.")] = None,
    offset: Annotated[int, typer.Option(help="Place in the partition.", min=0)] = 0,
    settings: SettingsFile = None,
    png: Annotated[Path | None, typer.Option(help="Draw the stamp into this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one event: what it decodes to, its stamp, and its verdict.

    Example: lookback inspect night-of-alerts/ --partition 2475433850015015001.avro
    """
    from dispatcher.inspect import inspect as look

    found = asyncio.run(look(source, partition, offset, settings_module.load(settings), png))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _print_tree(found)
    if "dead_letter" in found:
        _complain(f"this event is a dead letter, {found['dead_letter']}", 1)


@app.command()
def prepare(
    sdss: Annotated[Path, typer.Argument(help="Folder with the SDSS files.")],
    out: Annotated[Path, typer.Option(help="Folder for the datasets.")],
    seed: Annotated[int, typer.Option(help="Of the renderings.")] = 42,
) -> None:
    """Make the training datasets: real quasars, and galaxies, quasars and stars rendered.

    Example: lookback prepare sdss/ --out data/
    """
    from workers.training.sdss import prepare as make

    make(sdss, out, seed, on_progress=typer.echo)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a TOML file.")],
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
) -> None:
    """Train the model; stopped, the same command goes on where it was.

    Example: lookback train encoder --data data/ --out encoder/ --threads 2
    """
    from workers.training.run import train as train_model

    train_model(
        recipe,
        data,
        out,
        encoder=encoder,
        device=device,
        threads=threads,
        compiled=compiled,
        say=typer.echo,
    )


@app.command()
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="Dataset file (npz) of rows not trained on.")],
    weights: Annotated[
        str | None,
        typer.Option(help="A weights file or a shipped model; default: the shipped one."),
    ] = None,
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
    from workers.evaluation import report as reports
    from workers.evaluation.table import evaluate_files

    found = evaluate_files(weights, dataset, train)
    if report:
        for path in reports.write(found, report, log):
            typer.echo(f"written: {path}", err=True)
    if as_json:
        typer.echo(json.dumps(found.table, allow_nan=False))
    else:
        reports.show(found.table, Console())


@app.command()
def estimate(
    dataset: Annotated[Path, typer.Argument(help="Dataset file (npz).")],
    to: Annotated[Path, typer.Option(help="Table to write: .parquet or .csv.")],
    weights: Annotated[
        str | None,
        typer.Option(help="A weights file or a shipped model; default: the shipped one."),
    ] = None,
    pdf: Annotated[bool, typer.Option(help="Also p(z), as a qp file beside it.")] = False,
) -> None:
    """Apply a model to a dataset: one row for each cutout.

    Example: lookback estimate cutouts.npz --to estimates.parquet --pdf
    """
    from workers.evaluation.catalogue import estimate_table

    for path in estimate_table(weights, dataset, to, pdf=pdf):
        typer.echo(f"written: {path}")


@app.command(name="import")
def import_weights(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of torch, or safetensors file.")],
    to: Annotated[Path, typer.Option("--to", help="Weights file to write (.safetensors).")],
    name: Annotated[str, typer.Option(help="Name of the model, for the results.")] = "astromae",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "published",
) -> None:
    """Take over published AstroMAE weights; nothing of the file is run.

    Example: lookback import checkpoint.pt --to published.safetensors
    """
    from workers.checkpoint import adopt

    identity = adopt(checkpoint, to, name=name, version=version, say=typer.echo)
    typer.echo(f"{to}: {identity.name}, version {identity.version}, sha256 {identity.sha256}")
    typer.echo(f"use it with LOOKBACK_WORKERS__WEIGHTS={to}")


@app.command()
def settings() -> None:
    """List every setting with its default, unit and meaning."""
    typer.echo(settings_module.reference(), nl=False)


@app.command()
def init(
    place: Annotated[Place, typer.Argument(help="Where it is to run.")] = Place.LAPTOP,
    to: Annotated[Path, typer.Option("--to", help="File to write; never one that exists.")] = Path(
        "lookback.toml"
    ),
) -> None:
    """Write a settings file with every setting explained, for a laptop, one host or the cloud.

    Example: lookback init host --to /etc/lookback/lookback.toml
    """
    try:
        with to.open("x") as file:
            file.write(commented(place))
    except OSError as error:
        raise SettingsError(
            f"{to} cannot be written ({error.strerror}): --to names another"
        ) from error
    typer.echo(f"written: {to}; `lookback doctor --settings {to}` says what is still missing")


def _print_tree(fields: dict[str, Any], indent: int = 0) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            typer.echo(f"{' ' * indent}{name}")
            _print_tree(value, indent + 2)
        else:
            typer.echo(f"{' ' * indent}{name:<{24 - indent}} {value}")
