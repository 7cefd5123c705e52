"""Which estimates go to a person."""

from typing import get_args

import pytest
from held import estimate
from rows import record

from dispatcher.errors import SettingsError
from dispatcher.review.rules import Examiner, rules
from dispatcher.settings import load
from dispatcher.settings.review import Flag, Review
from sinks.record import Status
from workers.quality import Quality

PICKED = [
    ({"flags": ("broad",)}, {"quality_flag": Quality.BROAD | Quality.EDGE_OF_GRID}, ["broad"]),
    ({"flags": ("broad", "edge_of_grid")}, {"quality_flag": 9}, ["broad", "edge_of_grid"]),
    ({"flags": ("broad",)}, {"quality_flag": Quality.EDGE_OF_GRID}, []),
    ({"flags": ("broad",)}, {"quality_flag": None}, []),
    ({"out_of_domain": 0.9}, {"out_of_domain": 0.91}, ["out_of_domain"]),
    ({"out_of_domain": 0.9}, {"out_of_domain": 0.9}, []),
    ({"out_of_domain": 0.9}, {"out_of_domain": None}, []),
    ({"width": 0.1}, {"z_median": 1.0, "z_err68_low": 0.7, "z_err68_high": 1.2}, ["width"]),
    ({"width": 0.1}, {"z_median": 2.0, "z_err68_low": 1.7, "z_err68_high": 2.2}, []),
    ({"width": 0.1}, {"z_err68_low": None, "z_err68_high": None}, []),
    ({"z_above": 1.0}, {"z_median": 1.01}, ["z_above"]),
    ({"z_above": 1.0}, {"z_median": 1.0}, []),
    ({"host_prob": 0.5}, {"host_prob": 0.4}, ["host_prob"]),
    ({"host_prob": 0.5}, {"host_prob": None}, []),
]


@pytest.mark.parametrize(("given", "fields", "found"), PICKED)
def test_a_rule_picks_what_it_says(given, fields, found):
    chosen = Review(**{"flags": (), **given})
    row = record(1, **{"z_err68_low": 0.09, "z_err68_high": 0.11, **fields})
    assert list(rules(row, chosen, adrift=False)) == found


def test_all_are_picked_while_the_alarm_of_drift_is_on_if_so_wanted():
    chosen = Review(flags=(), drift=True)
    assert list(rules(record(1), chosen, adrift=True)) == ["drift"]
    assert list(rules(record(1), chosen, adrift=False)) == []
    assert list(rules(record(1), Review(flags=()), adrift=True)) == []


def test_a_share_is_picked_and_always_the_same():
    def picked(share):
        chosen = Review(flags=(), share=share)
        return {n for n in range(2000) if list(rules(record(n), chosen, adrift=False))}

    assert 140 < len(picked(0.1)) < 260
    assert picked(0.1) == picked(0.1) < picked(0.3)
    assert len(picked(0.0)) == 0
    assert len(picked(1.0)) == 2000


@pytest.mark.parametrize(("policy", "review"), [("mark", "marked"), ("hold", "waiting")])
def test_the_policy_says_what_becomes_of_it(policy, review):
    examine = Examiner(Review(policy=policy, out_of_domain=0.9), adrift=lambda: False)
    row = examine(record(1, out_of_domain=0.99, quality_flag=Quality.OUT_OF_DOMAIN))
    assert (row.review, row.review_rules) == (review, "out_of_domain")
    plain = record(2, out_of_domain=0.1)
    assert examine(plain) is plain


def test_nothing_is_picked_where_the_policy_is_off_or_there_is_no_redshift():
    row = record(1, quality_flag=Quality.OUT_OF_DOMAIN)
    assert Examiner(Review(), adrift=lambda: True)(row) is row
    none = record(1, status=Status.NO_HOST, z_median=None)
    every = Examiner(Review(policy="hold", share=1.0), adrift=lambda: True)
    assert every(none) is none
    assert every(estimate(1)).review == "waiting"


def test_the_settings_know_the_flags_of_the_workers():
    assert set(get_args(Flag)) == {each.name.lower() for each in Quality}


def test_a_policy_that_picks_nothing_is_refused(tmp_path):
    file = tmp_path / "lookback.toml"
    file.write_text('[review]\npolicy = "hold"\nflags = []\n')
    with pytest.raises(SettingsError, match="policy is hold, and no rule picks anything"):
        load(file)
    file.write_text('[review]\nflags = ["blurred"]\n')
    with pytest.raises(SettingsError, match=r"review\.flags\.0"):
        load(file)
