"""How large, when, and how many workers: Beam's vectors, and what must hold for any function."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.calls.durations import PRIOR, Fit
from dispatcher.calls.sizing import Limits, Target, due_in, full, quote, ranks_for
from dispatcher.ledger.prices import Tariff, price

FREE = Tariff(price("local"), 1769)
PAID = Tariff(price("aws-lambda/us-east-1/x86_64"), 1769)
NO_LIMITS = Limits(10**6, 1e9, 1, False)

fits = st.builds(
    Fit,
    base_s=st.floats(0.001, 2),
    per_item_s=st.floats(0.0001, 0.2),
    p95=st.floats(1, 2),
    p99=st.floats(2, 5),
    observations=st.just(100),
    largest=st.integers(1, 500),
    cold_s=st.floats(0, 5),
    cold_share=st.sampled_from((0.0, 0.05)),
)


def grown(target):
    fit, sizes = Fit(1, 0.7, 1, 1, 0, 0, 0, 0), []
    for _ in range(7):
        sizes.append(full(fit, FREE, NO_LIMITS, target).items)
        fit = replace(fit, largest=max(fit.largest, sizes[-1]))
    return sizes


def test_sizes_grow_as_those_of_beam():
    """Apache Beam's `BatchElements` for a call of 1 s + 0.7 s an item."""
    assert grown(Target(None, target_s=10, overhead=None)) == [1, 2, 4, 8, 14, 14, 14]
    assert grown(Target(None, overhead=0.05)) == [1, 2, 4, 8, 16, 27, 27]


def test_the_price_of_a_request_makes_batches_larger():
    fit = replace(PRIOR, largest=10**6, base_s=0.001)
    target = Target(None, overhead=0.02)
    assert full(fit, PAID, NO_LIMITS, target).items > 2 * full(fit, FREE, NO_LIMITS, target).items


@given(fits, st.floats(0.5, 120), st.integers(1, 160))
def test_a_full_batch_is_inside_all_limits(fit, objective_s, items):
    limits, target = Limits(items, 30, 4, False), Target(objective_s)
    size = full(fit, PAID, limits, target)
    assert 1 <= size.items <= items
    if size.items > 1:
        assert fit.p99 * fit.predict(size.items) <= 0.8 * 30 + 1e-6
        assert fit.p95_s(size.items) <= objective_s


@given(fits, st.floats(1, 60), st.integers(1, 160))
def test_what_is_sent_when_due_is_in_time_with_the_fewest_workers(fit, objective_s, waiting):
    limits, target = Limits(160, 900, 8, False), Target(objective_s)
    age_s = 0.5
    due_s = due_in(fit, limits, target, waiting, age_s)
    if due_s > 0:
        assert age_s + due_s + fit.p95_s(waiting) <= objective_s
        assert ranks_for(fit, limits, target, waiting, age_s + due_s) == 1
    assert due_in(fit, limits, Target(2 * objective_s), waiting, age_s) >= due_s


def test_the_rank_that_has_one_more_than_the_others_is_waited_for():
    fit = Fit(0.05, 0.1, 1.2, 1.8, 100, 160, 0.0, 0.0)
    limits = Limits(160, 60, 3, True)
    due = {n: due_in(fit, limits, Target(1.0), n, 0.5) for n in (9, 10, 12)}
    assert due[9] > 0 > due[10]
    assert due[10] == due[12]


def test_a_batch_that_is_late_gets_more_workers_and_one_that_is_lost_no_more_than_it_needs():
    limits, target = Limits(160, 900, 8, False), Target(1.0)
    assert ranks_for(PRIOR, limits, target, 160, 0.5) == 2
    assert ranks_for(PRIOR, limits, target, 160, 5.0) == 1
    assert ranks_for(PRIOR, limits, Target(None), 400, 5.0) == 3


def test_without_an_objective_nothing_is_ever_due():
    assert due_in(PRIOR, NO_LIMITS, Target(None), 5, 1e6) == math.inf


@given(fits, st.integers(1, 500), st.integers(1, 4), st.floats(1, 60))
def test_a_quote_rises_from_expected_to_worst(fit, items, ranks, deadline_s):
    found = quote(fit, PAID, items, ranks, deadline_s)
    assert 0 < found.expected <= found.reserve
    assert found.expected <= found.worst


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_that_are_given_are_kept(ranks):
    limits = Limits(96, 60, ranks, True)
    assert full(replace(PRIOR, largest=96), FREE, limits, Target(10)).ranks == ranks
    assert ranks_for(PRIOR, limits, Target(10), 50, 0) == ranks
    assert ranks_for(PRIOR, limits, Target(10), 1, 0) == 1


def test_what_goes_by_the_object_store_has_its_requests_set_aside():
    fit, beside = Fit(0.02, 0.003, 1.1, 1.2, 100, 400, 0.0, 0.0), replace(PAID, inline=160)
    for items, ranks, requests in ((160, 1, 0), (161, 1, 1), (320, 2, 0), (640, 2, 2)):
        plain, quoted = (quote(fit, each, items, ranks, 60.0) for each in (PAID, beside))
        for part in ("expected", "reserve", "worst"):
            assert getattr(quoted, part) - getattr(plain, part) == requests * 5_400_000
