"""The policy of a lane: what it sends when, and that it changes its mind with what it learns."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.calls.durations import PRIOR, Durations
from dispatcher.calls.policy import Adaptive
from dispatcher.calls.sizing import Limits, Target
from dispatcher.ledger.prices import Tariff, price

PAID = Tariff(price("aws-lambda/us-east-1/x86_64"), 1769)
LIMITS = Limits(160, 60.0, 8, exact_ranks=False)


def policy(known=PRIOR, *, target=Target(10.0), linger_s=None):  # noqa: B008 (immutable)
    return Adaptive(Durations(known), PAID, LIMITS, target, 60.0, linger_s)


def test_money_that_runs_short_makes_batches_wait_twice_as_long():
    live = policy()
    assert live.due_in(10, 0.0, tight=False) < 10
    assert 10 < live.due_in(10, 0.0, tight=True) < 20


def test_without_an_objective_only_a_full_batch_is_sent():
    replay = policy(target=Target(None))
    assert replay.objective_s == math.inf
    assert replay.due_in(159, 1e6, tight=True) == math.inf
    assert policy().objective_s == 10.0


def test_where_calls_are_free_a_worker_waits_for_company_but_not_for_long():
    free = policy(linger_s=0.05)
    assert free.due_in(1, 0.0, tight=False) == pytest.approx(0.05)
    assert free.due_in(1, 0.2, tight=False) < 0
    assert free.due_in(1, 0.2, tight=True) > 1, "a cap counts more than an idle worker"


def test_it_grows_as_it_learns_and_never_by_more_than_twice():
    live = policy(replace(PRIOR, largest=0))
    sizes = []
    for _ in range(10):
        sizes.append(live.size().items)
        live.learn(sizes[-1], 0.02 + 0.0027 * sizes[-1], 0.0)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 160, 160]
    assert live.most == 160


def test_a_quote_follows_what_was_learnt():
    live = policy()
    before = live.quote(160, 1)
    assert live.quote(160, 1) is before, "asked at every turn of the loop"
    for _ in range(20):
        live.learn(160, 10 * PRIOR.predict(160), 0.0)
    assert live.quote(160, 1).expected > 5 * before.expected
    assert live.quote(160, 4).expected < 2 * live.quote(160, 1).expected


def test_a_straggler_does_not_change_what_is_sent():
    live = policy(replace(PRIOR, largest=160))
    for n in range(200):
        live.learn(160, PRIOR.predict(160) * (10 if n % 50 == 0 else 1), 0.0)
    assert live.size().items == 160
    assert live.ratio(160, PRIOR.predict(160)) == pytest.approx(1.0, rel=0.02)


def test_nobody_is_late_while_little_is_known_and_a_cold_start_is_not_late():
    live = policy()
    assert live.patience_s(160) == math.inf
    for _ in range(200):
        live.learn(160, 0.45, 0.0)
    warm_s = live.patience_s(160)
    assert 0.45 <= warm_s < 1.0
    for n in range(100):
        live.learn(160, 0.45, 2.0 if n % 10 == 0 else 0.0)
    assert live.patience_s(160) == pytest.approx(warm_s + 2.0, rel=0.05)


def test_patience_ends_at_twice_p95_where_stragglers_are_many():
    live = policy()
    for n in range(250):
        live.learn(160, 4.5 if n % 40 == 0 else 0.45, 0.0)
    assert live.patience_s(160) <= 2 * live.durations.fit.p95_s(160)


calls = st.lists(st.tuples(st.integers(1, 160), st.floats(0.001, 60)), max_size=40)


@given(calls, st.integers(1, 1280), st.floats(0, 100))
def test_whatever_was_learnt_its_answers_can_be_acted_on(learnt, waiting, oldest_age_s):
    live = policy()
    for items, seconds in learnt:
        live.learn(items, seconds, 0.0)
    size = live.size()
    assert 1 <= size.items <= 160
    relaxed, tight = (live.due_in(waiting, oldest_age_s, tight=each) for each in (False, True))
    assert relaxed <= tight < math.inf
    ranks = live.ranks(waiting, oldest_age_s)
    assert math.ceil(waiting / 160) <= ranks <= 8
    quote = live.quote(waiting, ranks)
    assert 0 < quote.expected <= quote.reserve
    assert quote.expected <= quote.worst
    assert live.patience_s(size.items) > 0
