"""What is learnt from bills, with stragglers among them."""

import json
import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.calls.durations import PRIOR, Durations


def learnt(calls, base_s, per_item_s, sizes=(1, 8, 40, 160), stragglers=0.0, known=None, seed=1):
    draw = random.Random(seed)
    durations = known or Durations(PRIOR)
    for _ in range(calls):
        items = draw.choice(sizes)
        pace = draw.lognormvariate(0, 0.05) * (10 if draw.random() < stragglers else 1)
        durations.observe(items, pace * (base_s + per_item_s * items))
    return durations


def test_the_line_is_found_in_spite_of_stragglers():
    fit = learnt(300, 0.05, 0.004, stragglers=0.03).fit
    assert fit.base_s == pytest.approx(0.05, rel=0.15)
    assert fit.per_item_s == pytest.approx(0.004, rel=0.05)
    assert fit.p95 < 1.3
    assert fit.p99 > 3, "three in a hundred are ten times as slow"


def test_one_size_alone_tells_the_pace():
    fit = learnt(100, 0.1, 0.008, sizes=(96,)).fit
    assert fit.predict(96) == pytest.approx(0.1 + 0.008 * 96, rel=0.05)
    assert 0 < fit.predict(10) < fit.predict(96)


def test_a_function_of_another_pace_is_followed_within_some_calls():
    durations = learnt(400, 0.02, 0.003)
    fit = learnt(40, 0.04, 0.006, known=durations, seed=2).fit
    assert fit.predict(160) == pytest.approx(1.0, rel=0.15)


def test_cold_starts_are_kept_apart():
    durations = Durations(PRIOR)
    for n in range(100):
        durations.observe(40, 0.13, 2.0 if n % 10 == 0 else 0.0)
    assert durations.fit.predict(40) == pytest.approx(0.13, rel=0.05)
    assert durations.fit.cold_s == pytest.approx(2.0)
    assert durations.fit.cold_share == pytest.approx(0.1, rel=0.1)


def test_what_was_learnt_is_kept():
    durations = learnt(200, 0.05, 0.004)
    again = Durations.from_json(json.loads(json.dumps(durations.to_json())))
    assert again.fit == durations.fit


KNOWN = Durations(PRIOR).to_json()


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"base_s": 1},
        KNOWN | {"p95": -1},
        KNOWN | {"p99": 0.0},
        KNOWN | {"per_item_s": 0.0},
        KNOWN | {"cold_s": math.nan},
        KNOWN | {"base_s": "1"},
        KNOWN | {"largest": None},
        KNOWN | {"observations": -1},
    ],
)
def test_what_was_not_learnt_is_refused(known):
    with pytest.raises((TypeError, ValueError)):
        Durations.from_json(known)


@given(st.lists(st.tuples(st.integers(1, 640), st.floats(0, 900), st.floats(0, 60)), max_size=60))
@example([(1, 692.0, 0.0), (5, 0.0, 0.0), (5, 0.0, 0.0)])
def test_whatever_is_seen_a_fit_can_be_used(seen):
    durations = Durations(PRIOR, window=32)
    for items, seconds, cold_s in seen:
        durations.observe(items, seconds, cold_s)
        fit = durations.fit
        assert fit.base_s >= 0
        assert fit.per_item_s > 0
        assert 0 <= fit.cold_share <= 1
        assert fit.predict(1) < fit.predict(640) <= fit.p95_s(640) <= fit.p99_s(640)
    assert durations.fit.largest == max([PRIOR.largest, *(items for items, _, _ in seen)])
    assert Durations.from_json(durations.to_json()).fit == durations.fit


@given(st.floats(0.005, 2), st.floats(0.0005, 0.1), st.integers(0, 1000))
def test_the_line_of_any_function_is_found_from_thirty_calls(base_s, per_item_s, seed):
    fit = learnt(30, base_s, per_item_s, seed=seed).fit
    for items in (8, 40, 160):
        assert fit.predict(items) == pytest.approx(base_s + per_item_s * items, rel=0.15)


def test_a_larger_batch_than_ever_is_known_at_once():
    durations = learnt(100, 0.02, 0.003)
    durations.observe(320, 0.98)
    assert durations.fit.largest == 320
    assert durations.fit.observations == 101
