"""Money with real workers and a wall clock: what is booked, what is refused, what a person says."""

import json
import signal

import lookback
import pytest

from dispatcher.demo import render_night
from dispatcher.ledger.money import pico

PAID = "[spend]\nprice = 'aws-lambda/us-east-1/x86_64'\n"


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("paid") / "night.sqlite"
    render_night(path, galaxies=120, seed=3)
    return path


@pytest.fixture
def settings(tmp_path):
    def write(text):
        path = tmp_path / "lookback.toml"
        path.write_text(text)
        return path

    return write


def test_every_row_says_what_it_cost_and_they_add_up_to_the_ledger(night, settings, tmp_path):
    output = tmp_path / "out"
    file = settings(PAID + "night_usd = 1\n[live]\nobjective_s = 2\n")
    figures = lookback.figures("run", night, "--to", output, "--settings", file)
    assert figures["books"]["balanced"]
    rows = lookback.results(output).values()
    letters = lookback.dead_letters(output).values()
    costs = [row["cost_usd_pico"] for row in rows if row["status"] == "ok"]
    assert min(costs) > 0
    everything = sum(row["cost_usd_pico"] or 0 for row in rows) + sum(
        letter["cost_usd_pico"] or 0 for letter in letters
    )
    assert everything == pytest.approx(pico(str(figures["spent_usd"])), rel=1e-9)
    shown = lookback.figures(
        "ledger", "show", "--to", output, "--settings", file, run=lookback.here
    )
    assert "total" in json.dumps(shown)


def test_a_cap_that_pays_for_no_call_sends_nothing_and_says_so(night, tmp_path):
    # Nothing waits for company for long, nor at the end for money that will not come.
    soon = "[live]\nobjective_s = 1\n[flow]\ngrace_s = 1\n"
    processes = []
    for cap in ("0", "0.00001"):
        output = tmp_path / cap
        output.mkdir()
        file = output / "lookback.toml"
        file.write_text(PAID + f"night_usd = {cap}\n" + soon)
        processes.append(lookback.start("run", night, "--to", output, "--settings", file, "--json"))
    for process in processes:
        said = lookback.wait_until_said(process, "stands still")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert json.loads(out.splitlines()[-1])["calls"] == 0
        assert "cap of total" in said


def test_a_frozen_budget_is_resumed_while_the_run_goes_on(night, settings, tmp_path):
    output, file = tmp_path / "out", settings(PAID + "night_usd = 1\n")
    output.mkdir()
    freeze = "ledger", "freeze", "total", "--to", output, "--settings", file
    lookback.here(*freeze)
    process = lookback.start("run", night, "--to", output, "--settings", file, "--json")
    assert "frozen" in lookback.wait_until_said(process, "stands still")
    assert process.poll() is None
    assert not lookback.results(output)
    lookback.here(*freeze, "--off")
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert json.loads(out.splitlines()[-1])["books"]["balanced"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (PAID, "no cap says where that ends"),
        ("[spend]\nprice = 'aws-lambda/moon-1/x86_64'\n", "is not known, so nothing can be sent"),
        ("[spend]\nnight_usd = -1\n", "spend.night_usd"),
        ("[spend]\nledger = 'mysql://x'\n", "nothing keeps a ledger"),
    ],
)
def test_what_cannot_be_paid_does_not_start(text, complaint, night, settings, tmp_path):
    _, errors = lookback.here(
        "run", night, "--to", tmp_path / "out", "--settings", settings(text), code=2
    )
    assert complaint in errors
    assert len(errors.splitlines()) == 1
