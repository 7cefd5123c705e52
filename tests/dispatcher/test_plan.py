"""The plan: cheaper the longer one may wait, and honest where it cannot be done."""

import json
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image
from typer.testing import CliRunner

from dispatcher import cli
from dispatcher.calls.durations import PRIOR, Durations, Fit
from dispatcher.calls.sizing import Limits
from dispatcher.ledger.prices import Tariff, price
from dispatcher.plan import curve

PAID = Tariff(price("aws-lambda/us-east-1/x86_64"), 1769)


def invoke(*options):
    return CliRunner().invoke(cli.app, ["plan", *map(str, options)])


def plans(*options):
    found = invoke(*options, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)["plans"]


def ask(*options):
    (plan,) = plans(*options)
    (chosen,) = [each for each in plan["choices"] if each["chosen"]]
    return plan["choices"], chosen


def test_cost_falls_with_size():
    choices, _ = ask("--rate", 270)
    costs = [each["usd_per_million"] for each in choices]
    assert costs == sorted(costs, reverse=True)
    fixed = [each["fixed"] for each in choices]
    assert all(0 < each < 1 for each in fixed)


def test_the_figures_are_those_of_the_price_list():
    """128 items of 2.7 ms and 20 ms on 1,769 MB; a cold start of 1.5 s every twentieth time."""
    choices, _ = ask("--rate", 100)
    (batch,) = [each for each in choices if each["items"] == 128]
    seconds = 0.02 + 0.0027 * 128
    dollars = (seconds + 0.05 * 1.5) * 1769 / 1024 * 0.0000166667 + 0.0000002
    assert batch["p50_s"] == pytest.approx(seconds)
    assert batch["fill_s"] == pytest.approx(1.27)
    assert batch["age_s"] == pytest.approx(1.27 + 1.3 * seconds)
    assert batch["usd_per_million"] == pytest.approx(dollars / 128 * 1e6, rel=0.003)
    assert batch["fixed"] == pytest.approx(
        1 - 0.0027 * 128 * 1769 / 1024 * 0.0000166667 / dollars, rel=0.01
    )
    assert batch["busy"] == pytest.approx(100 / 128 * seconds)


@pytest.mark.parametrize("rate", [0.5, 5, 50, 500])
def test_what_is_chosen_is_in_time_and_cheaper_the_longer_one_may_wait(rate):
    _, soon = ask("--rate", rate, "--objective", 5)
    _, late = ask("--rate", rate, "--objective", 60)
    assert soon["met"]
    assert late["met"]
    assert late["usd_per_million"] <= soon["usd_per_million"]


@given(st.floats(0.01, 1e4), st.floats(0.2, 100), st.integers(1, 8), st.floats(0.001, 0.1))
def test_one_is_chosen_and_none_that_is_in_time_is_late(rate, objective_s, ranks, per_item_s):
    fit = Fit(0.05, per_item_s, 1.2, 1.8, 100, 160, 1.0, 0.0)
    made = curve(fit, PAID, Limits(160, 60.0, ranks, exact_ranks=True), rate, objective_s)
    assert [each.chosen for each in made.choices].count(True) == 1
    assert made.chosen.met or made.chosen.items == 1
    ages = [each.age_s for each in made.choices]
    assert ages == sorted(ages)
    assert all(low.items < high.items for low, high in pairwise(made.choices))


def test_every_rate_with_every_objective():
    found = plans("--rate", 3, "--rate", 270, "--objective", 1, "--objective", 10)
    asked = [(each["rate"], each["objective_s"]) for each in found]
    assert asked == [(3, 1), (3, 10), (270, 1), (270, 10)]


def test_ranks_make_it_sooner_and_dearer():
    alone, _ = ask("--rate", 1000)
    shared, _ = ask("--rate", 1000, "--ranks", 4)
    (one,) = [each for each in alone if each["items"] == 64]
    (four,) = [each for each in shared if each["items"] == 64]
    assert four["p50_s"] == pytest.approx(PRIOR.predict(16))
    assert four["usd_per_million"] > one["usd_per_million"]
    assert shared[-1]["items"] == 4 * alone[-1]["items"]


def test_larger_batches_pay_for_their_way_through_a_bucket():
    choices, _ = ask("--rate", 5000, "--items", 1000)
    cost = {each["items"]: each["usd_per_million"] for each in choices}
    assert max(cost) == 1000
    assert cost[256] > cost[160], "a request to write and one to read"
    assert cost[1000] < cost[256]


def test_a_price_of_ones_own(tmp_path):
    table = tmp_path / "prices.toml"
    table.write_text(
        '[centre]\ngb_second = "0.00002"\nrequest = "0"\nstorage_gb_second = "0"\n'
        'source = "a contract"\ndate = 2026-01-01\n'
    )
    given = "--rate", 270, "--price", "centre"
    _, chosen = ask(*given, "--prices", table)
    assert chosen["usd_per_million"] > 0
    assert "is not known" in str(invoke(*given).exception)


def test_what_is_free_costs_nothing_and_larger_batches_still_waste_less():
    choices, _ = ask("--rate", 270, "--price", "local")
    assert {each["usd_per_million"] for each in choices} == {0}
    fixed = [each["fixed"] for each in choices]
    assert fixed == sorted(fixed, reverse=True)


def test_a_person_is_told_what_is_sent_and_what_it_costs_an_hour():
    found = invoke("--rate", 270)
    assert "<- sent" in found.stdout
    _, chosen = ask("--rate", 270)
    hourly = 270 * 3600 * chosen["usd_per_million"] / 1e6
    assert f"{chosen['items']} items a batch, ${hourly:.4f} an hour" in found.stdout


def test_an_objective_that_cannot_be_met_is_said():
    found = invoke("--rate", 3, "--objective", 0.01)
    assert "an objective of 0.01 s cannot be met: even one item takes 0.03 s" in found.stdout
    (plan,) = plans("--rate", 3, "--objective", 0.01)
    assert not plan["met"]


def test_a_deadline_that_no_call_keeps_is_said(tmp_path):
    file = known_in(tmp_path, m=Fit(1.0, 1.0, 1, 1, 10, 10, 0, 0))
    found = invoke("--rate", 3, "--deadline", 1, "--durations", file)
    assert "a call may take 1 s: it would be paid and lost" in found.stdout


def known_in(folder, **fits):
    file = folder / "durations.json"
    file.write_text(json.dumps({name: Durations(fit).to_json() for name, fit in fits.items()}))
    return file


def test_durations_of_a_run_count(tmp_path):
    durations = Durations(PRIOR)
    for _ in range(40):
        durations.observe(80, 2.0)
    _, known = ask("--rate", 50, "--durations", known_in(tmp_path, m=durations.fit))
    _, typical = ask("--rate", 50)
    assert known["usd_per_million"] > 5 * typical["usd_per_million"]


def test_of_several_functions_the_one_of_that_price_and_memory_counts(tmp_path):
    fits = {f"model local {mb} MB": Fit(mb, 1, 1, 1, 1, 1, 0, 0) for mb in (512, 1024)}
    file = known_in(tmp_path, **fits)
    choices, _ = ask("--rate", 1, "--price", "local", "--memory", 512, "--durations", file)
    assert choices[0]["p50_s"] == 513


def test_the_picture_is_drawn(tmp_path):
    file = tmp_path / "curve.png"
    assert plans("--rate", 3, "--rate", 270, "--plot", file)
    drawn = image.imread(file)
    assert drawn.shape[1] > drawn.shape[0] > 300
    assert len({tuple(each) for each in drawn[::3, ::3, :3].reshape(-1, 3)}) > 20


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--rate", "nan"], "--rate is nan: give a number from"),
        (["--rate", "0"], "--rate is 0"),
        (["--rate", "inf"], "--rate is inf"),
        (["--rate", "3", "--objective", "-1"], "--objective is -1"),
        (["--rate", "3", "--deadline", "0"], "--deadline is 0"),
        (["--rate", "3", "--memory", "64"], "--memory is 64: give a number from 128 to 10240"),
        (["--rate", "3", "--ranks", "0"], "--ranks is 0"),
        (["--rate", "3", "--price", "moon"], 'the price "moon" is not known'),
        (["--rate", "3", "--durations", "{here}/none.json"], "none.json holds no durations"),
        (["--rate", "3", "--durations", "{here}/list.json"], "list.json holds no durations"),
        (["--rate", "3", "--durations", "{here}/zero.json"], "zero.json holds no durations"),
        (["--rate", "3", "--durations", "{here}/empty.json"], "knows 0 functions"),
        (["--rate", "3", "--durations", "{here}/two.json"], "among a local 1 MB, b local 1 MB"),
        (["--rate", "3", "--plot", "{here}/none/x.png"], "cannot be written"),
        (["--rate", "3", "--plot", "{here}/x.word"], "cannot be written"),
    ],
)
def test_wrong_input_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, capsys, options, why):
    known = Durations(PRIOR).to_json()
    contents = {
        "list": [1],
        "zero": {"m": known | {"per_item_s": 0}},
        "empty": {},
        "two": {"a local 1 MB": known, "b local 1 MB": known},
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    given = [each.replace("{here}", str(tmp_path)) for each in options]
    monkeypatch.setattr(sys, "argv", ["lookback", "plan", *given])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert why in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
