"""What is shipped for operators fits the program it runs."""

import configparser
import itertools
import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from dispatcher.cli import app
from dispatcher.settings import load

ROOMS = ("dispatcher", "ingest", "workers", "fmi", "sinks")
DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.fixture(params=["lookback@.service", "lookback-live.service"])
def unit(request):
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(DEPLOY / request.param)
    return parser["Service"]


def test_the_settings_to_begin_with_are_valid():
    assert load(DEPLOY / "lookback.toml").sinks.required == ("results.sqlite", "results.parquet")


def test_the_unit_runs_a_command_that_exists(unit):
    _, name, *words = unit["ExecStart"].split()
    options = {each for known in get_command(app).commands[name].params for each in known.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_unit_waits_for_the_grace_period(unit):
    (wait,) = re.findall(r"^(\d+)$", unit["TimeoutStopSec"])
    assert int(wait) > load(DEPLOY / "lookback.toml").flow.grace_s


def test_the_unit_is_watched(unit):
    """Only the process that knows whether it is alive may say so."""
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    stalled_s = load(DEPLOY / "lookback.toml").status.stalled_s
    assert float(unit["WatchdogSec"]) >= stalled_s / 2
    assert unit["Restart"] in ("always", "on-failure"), "a watchdog that barks is a failure"


def test_every_file_that_is_no_code_is_packed():
    root = DEPLOY.parent
    config = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = set()
    for package, patterns in config["package-data"].items():
        rooms = ROOMS if package == "*" else [package.replace(".", "/")]
        for room, pattern in itertools.product(rooms, patterns):
            glob = f"**/{pattern}" if package == "*" else pattern
            packed.update((root / room).glob(glob))
    files = {each for room in ROOMS for each in (root / room).rglob("*") if each.is_file()}
    assert {each for each in files if each.suffix not in (".py", ".pyc")} == packed
