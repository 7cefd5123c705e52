"""The command line: help with examples, one JSON object, exit codes, completion, progress."""

import io
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from lookback import LOOKBACK, call, here, start
from structlog.testing import capture_logs
from typer.testing import CliRunner

from dispatcher.cli import app
from dispatcher.commands import exits
from dispatcher.commands.progress import progress
from dispatcher.commands.reference import examples, reference, walk
from dispatcher.demo import render_night
from sinks.deadletters import ErrorClass
from workers.training.cutouts import Cutouts

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).with_name("lookback")
COMMANDS = dict(walk())
LEAVES = [name for name, command in COMMANDS.items() if not hasattr(command, "commands")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a demo that has run, and has dead letters."""
    to = tmp_path_factory.mktemp("demo")
    sinks = '["results.sqlite", "results.hats"]'
    chosen = {"STATUS__PORT": "0", "WORKERS__COUNT": "1", "SINKS__REQUIRED": sinks}
    known = {f"LOOKBACK_{name}": value for name, value in chosen.items()}
    call("demo", "--events", 12, "--to", to, env={**os.environ, **known})
    return to


def answer(*arguments, code=0):
    """The object on the last line, and what was said on standard error."""
    out, errors = here(*arguments, "--json", code=code)
    return json.loads(out.splitlines()[-1]), errors


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_an_example_that_parses(name):
    assert len(COMMANDS[name].help.split()) > 3
    shown = examples(COMMANDS[name])
    assert shown
    for line in shown:
        first, *words = shlex.split(line.split(" | ")[0])
        path = [first]
        while hasattr(COMMANDS[" ".join(path)], "commands"):
            path.append(words.pop(0))
        assert " ".join(path).startswith(name)
        known = COMMANDS[" ".join(path)]
        known.make_context(known.name, words)  # reads the words, and does nothing


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_can_answer_in_json(name):
    assert "--json" in {each for option in COMMANDS[name].params for each in option.opts}


def test_the_reference_is_not_stale():
    text = (ROOT / "docs" / "command-line.md").read_text()
    for mark, made in {"commands": reference(), "exits": exits.table()}.items():
        stored = text.split(f"<!-- {mark} -->")[1].split(f"<!-- /{mark} -->")[0]
        assert stored.strip() == made.strip()


def test_classes_are_named_in_the_help():
    shown = CliRunner().invoke(app, ["deadletters", "list", "--help"], env={"COLUMNS": "300"})
    assert all(each in shown.output for each in ErrorClass)


def test_help_is_in_the_order_of_use_and_says_how_it_ends():
    shown, _ = here(code=2)
    panels = re.findall(r"^╭─ (\w[\w ]*?) ─", shown, re.MULTILINE)
    assert panels == ["Options", "Run", "Look", "Mend", "Money", "Models", "Set up"]
    assert all(f"{code.value}: " in shown for code in exits.Code)


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["dmeo"], "Did you mean 'demo'?"),
        (["ledger", "freze"], "Did you mean 'freeze'?"),
        (["run", ".", "--settigns", "x"], "--settings"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_near_one(words, near):
    out, errors = here(*words, code=2)
    assert near in errors
    assert out == ""


def test_0_is_done(folder, tmp_path):
    made, _ = answer("init", "cloud", "--to", tmp_path / "a.toml")
    assert made == {"written": str(tmp_path / "a.toml"), "place": "cloud"}
    proof, _ = answer("reconcile", folder / "night.sqlite", "--to", folder)
    assert proof["findings"] == [] and proof["books"]["balanced"]


def test_1_is_something_that_is_wrong(folder, tmp_path):
    (tmp_path / "none.json").write_text("no event")
    found, errors = answer("inspect", tmp_path / "none.json", code=1)
    assert "dead_letter" in found and "error" not in found
    assert errors.startswith("lookback: this event is a dead letter")
    render_night(tmp_path / "night.sqlite", 3, seed=2)
    proof, _ = answer("reconcile", tmp_path / "night.sqlite", "--to", folder, code=1)
    assert proof["findings"]


def test_1_is_something_that_is_away(folder):
    away = "postgresql://127.0.0.1:9/x"
    text = folder / "away.toml"
    text.write_text(f"[sinks]\nrequired = ['{away}']\n")
    where = ("--to", folder, "--settings", text)
    found, errors = answer("reconcile", folder / "night.sqlite", *where, code=1)
    assert found["exit"] == 1
    assert found["error"].endswith("the same command goes on once it is back")
    assert errors == f"lookback: {found['error']}\n"


def test_1_is_a_question_answered_with_no(folder, monkeypatch):
    arguments = ["deadletters", "discard", "--class", "malformed", "--to", str(folder)]
    said = CliRunner().invoke(app, arguments, input="n\n")
    assert said.exit_code == 1 and "Aborted" in said.output
    monkeypatch.setattr("sys.stdin", io.StringIO())
    found, _ = answer(*arguments, code=1)
    assert found == {"error": "it has ended: standard error says why", "exit": 1}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["run", "/nowhere"], "/nowhere does not exist"),
        (["run", ".", "--settings", "/nowhere.toml"], "check the path given with --settings"),
        (["ledger", "freeze", "lives"], "'lives' is no account"),
        (["deadletters", "list", "--class", "bad"], "'bad' is no class of dead letters"),
        (["compact", "/nowhere.hats"], "there is nothing to compact"),
        (["runn"], "standard error says which"),
    ],
)
def test_2_is_what_could_not_start(words, why):
    found, errors = answer(*words, code=2)
    assert why in found["error"] and found["exit"] == 2
    assert errors
    out, again = here(*words, code=2)
    assert out == "" and again == errors


def test_130_is_an_interruption():
    platform = start("platform", "--port", 0, "--json")
    ready = json.loads(platform.stdout.readline())
    assert ready["simulated"] and ready["endpoint"].startswith("http://127.0.0.1:")
    platform.send_signal(signal.SIGINT)
    out, _ = platform.communicate(timeout=30)
    assert platform.returncode == 130
    assert out == ""  # it has answered before


def test_json_of_commands_that_change_something(folder, tmp_path):
    money = ("--to", tmp_path)
    assert answer("ledger", "set", "live", "night", "2.50", *money)[0]["cap_usd"] == "2.5"
    assert answer("ledger", "freeze", "total", *money)[0] == {"account": "total", "frozen": True}
    assert answer("ledger", "freeze", "total", "--off", *money)[0]["frozen"] is False
    held = answer("deadletters", "list", "--to", folder)[0]["total"]
    gone = ("deadletters", "discard", "--reason", "truncated", "--yes", "--to", folder)
    assert answer(*gone)[0] == {"discarded": 1}
    assert answer("deadletters", "list", "--to", folder)[0]["total"] == held - 1


def test_a_compaction_says_what_became_of_the_parts(folder):
    found, errors = answer("compact", folder / "results.hats")
    assert found["rows"] > 12 and found["parts_after"] == found["leaves"] > 0
    assert errors == ""


def test_json_of_lists():
    found = answer("settings")[0]["settings"]
    assert {"name": "live.objective_s", "default": "10.0"}.items() <= next(
        each for each in found if each["name"] == "live.objective_s"
    ).items()
    assert "ztf-night" in answer("simulate", "--list")[0]["names"]


def test_an_estimate_says_what_it_wrote(tmp_path):
    rng = np.random.default_rng(1)
    rows = Cutouts(
        rng.normal(0, 1, (3, 5, 32, 32)).astype(np.float32),
        np.full((3, 5), 20, np.float32),
        np.full(3, np.nan, np.float32),
        np.arange(3),
        np.full(3, "galaxy"),
        np.ones(3, dtype=bool),
    )
    rows.save(tmp_path / "rows.npz")
    found, errors = answer("estimate", tmp_path / "rows.npz", "--to", tmp_path / "found.csv")
    assert found == {"written": [str(tmp_path / "found.csv")]}
    assert errors == ""
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 4


def asked(shell, line):
    """How the script of a shell asks, with the cursor at the end of `line`."""
    words = line.split(" ")
    how = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    return {**how, "_LOOKBACK_COMPLETE": f"complete_{shell}"}


def completed(line, shell="bash"):
    """What a shell is offered."""
    with mock.patch.dict(os.environ, asked(shell, line)):
        out, errors = here()
    assert errors == ""
    return out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_completes_commands_options_and_values(shell):
    assert "deadletters" in completed("lookback de", shell)
    assert "--stay" in completed("lookback run --st", shell)
    assert "cloud" in completed("lookback init ", shell)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("deadletters redrive --class ", "not_for_us"),
        ("ledger freeze ", "replay"),
        ("ledger set total n", "night"),
        ("estimate x.npz --weights q", "quasars"),
        ("train gal", "galaxies"),
        ("simulate z", "ztf-night"),
        ("plan --price aws-lambda/us-e", "aws-lambda/us-east-1/arm64"),
        ("review list --state r", "rejected"),
    ],
)
def test_values_are_completed(line, value):
    assert value in completed(f"lookback {line}").splitlines()


def test_what_a_run_has_left_is_completed(folder):
    places = completed(f"lookback deadletters show --to {folder} night:").splitlines()
    assert places and all(each.startswith("night:night.sqlite:simulated-") for each in places)
    reasons = completed(f"lookback deadletters list --to {folder} --reason bad_")
    assert "bad_notice" in reasons.splitlines()


def test_completion_makes_nothing_and_is_silent_where_there_is_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in ("deadletters show ", "review approve "):
        assert completed(f"lookback {line}").strip() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed(shell, tmp_path):
    known = {
        **os.environ,
        "HOME": str(tmp_path),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    subprocess.run([SCRIPT, "--install-completion", shell], env=known, check=True, text=True)
    written = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert any("_LOOKBACK_COMPLETE" in each.read_text() for each in written)


def test_a_real_shell_completes_with_the_script_that_is_installed(tmp_path):
    typed = (
        "set -eu; lookback --install-completion > /dev/null; . ~/.bash_completions/lookback.sh; "
        "COMP_WORDS=(lookback ledger fr); COMP_CWORD=2; _lookback_completion lookback; "
        'echo "${COMPREPLY[@]}"; complete -p lookback'
    )
    known = {**os.environ, "HOME": str(tmp_path), "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", typed], env=known, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "freeze"
    assert "-F _lookback_completion" in done.stdout


def test_completion_comes_at_once():
    def spent():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    seconds = []
    for _ in range(3):  # of the processor: how busy the machine is besides does not matter
        before = spent()
        known = {**os.environ, **asked("bash", "lookback de")}
        done = subprocess.run([SCRIPT], env=known, capture_output=True, text=True, check=True)
        assert "deadletters" in done.stdout
        seconds.append(spent() - before)
    assert min(seconds) < 0.5


def test_help_loads_nothing_heavy():
    heavy = {"numpy", "pyarrow", "pydantic", "aiohttp", "structlog", "astropy", "matplotlib"}
    code = f"import sys, dispatcher.cli; print({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_short_work_leaves_no_line_and_long_work_one_every_ten_seconds():
    now = 0.0
    with capture_logs() as lines, progress("rows", 100, clock=lambda: now) as step:
        for _ in range(5):
            now += 4.0
            step(10)
    assert lines == [{"event": "rows", "log_level": "info", "done": 30, "of": 100}]


def test_a_terminal_shows_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for of in (3, None):
        with progress("rows made", of) as step:
            step(2)
        assert "rows made" in capsys.readouterr().err


def test_rendering_tells_how_far_it_is(tmp_path):
    done = []
    render_night(tmp_path / "night.sqlite", 4, 1, done.append)
    assert sum(done) == 4


def test_the_module_is_the_command():
    done = subprocess.run([*LOOKBACK, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lookback ")
