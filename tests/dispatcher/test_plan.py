"""The plan: cheaper the longer one may wait, and honest where it cannot be done."""

import json

import pytest
from typer.testing import CliRunner

from dispatcher.calls.durations import PRIOR, Durations
from dispatcher.cli import app


def ask(*options):
    found = CliRunner().invoke(app, ["plan", *map(str, options), "--json"])
    assert found.exit_code == 0, found.output
    choices = json.loads(found.stdout)["choices"]
    (chosen,) = [each for each in choices if each["chosen"]]
    return choices, chosen


def test_cost_falls_with_size():
    choices, _ = ask("--rate", 270)
    costs = [each["usd_per_million"] for each in choices]
    assert costs == sorted(costs, reverse=True)
    fixed = [each["fixed"] for each in choices]
    assert all(0 < each < 1 for each in fixed)


@pytest.mark.parametrize("rate", [0.5, 5, 50, 500])
def test_what_is_chosen_is_in_time_and_cheaper_the_longer_one_may_wait(rate):
    _, soon = ask("--rate", rate, "--objective", 5)
    _, late = ask("--rate", rate, "--objective", 60)
    assert soon["met"]
    assert late["met"]
    assert late["usd_per_million"] <= soon["usd_per_million"]


def test_an_objective_that_cannot_be_met_is_said():
    found = CliRunner().invoke(app, ["plan", "--rate", "3", "--objective", "0.01"])
    assert "cannot be met" in found.stdout


def test_durations_of_a_run_count(tmp_path):
    durations = Durations(PRIOR)
    for _ in range(40):
        durations.observe(80, 2.0)
    file = tmp_path / "durations.json"
    file.write_text(json.dumps({"m": durations.to_json()}))
    _, known = ask("--rate", 50, "--durations", file)
    _, typical = ask("--rate", 50)
    assert known["usd_per_million"] > 5 * typical["usd_per_million"]
