"""The concurrency: what cuts the workers in use, what brings them back, and how fast."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.calls.concurrency import Concurrency
from dispatcher.clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock(1000.0)


def test_refusals_cut_the_workers_once_a_moment_and_answers_bring_them_back(clock):
    concurrency = Concurrency(100, clock)
    for _ in range(5):
        concurrency.throttled()
    assert concurrency.limit == 70
    concurrency.take(60)
    for _ in range(700):
        clock.advance(0.1)
        concurrency.answered(1.0)
    assert 75 <= concurrency.limit <= 100


def test_it_does_not_grow_where_nobody_needs_it(clock):
    concurrency = Concurrency(100, clock, start=10)
    for _ in range(100):
        clock.advance(1)
        concurrency.answered(1.0)
    assert concurrency.limit == 10


def test_it_grows_no_faster_than_the_platform(clock):
    concurrency = Concurrency(1000, clock, start=10, ramp_per_s=1.0)
    concurrency.take(10)
    for _ in range(1000):
        clock.advance(0.01)
        concurrency.answered(1.0, 10)
    assert concurrency.limit <= 20


def test_calls_that_grow_slow_together_cut_it_and_never_below_one(clock):
    concurrency = Concurrency(4, clock)
    for _ in range(500):
        clock.advance(1)
        concurrency.answered(2.0)
    assert concurrency.limit == 1
    assert concurrency.free() == 1


def test_taken_workers_are_not_free_until_given_back_also_after_a_cut(clock):
    concurrency = Concurrency(10, clock)
    concurrency.take(9)
    assert concurrency.free() == 1
    concurrency.throttled()
    assert concurrency.free() == 7 - 9
    concurrency.give_back(9)
    assert concurrency.free() == 7
    assert concurrency.refusals == 1


def test_refusals_half_a_second_apart_are_another_moment(clock):
    concurrency = Concurrency(100, clock)
    for _ in range(3):
        concurrency.throttled()
        clock.advance(0.5)
    assert concurrency.limit == 34


steps = st.one_of(
    st.tuples(st.just("throttled"), st.just(0.0)),
    st.tuples(st.just("answered"), st.floats(0.1, 5)),
    st.tuples(st.just("pause"), st.floats(0, 5)),
)


@given(st.integers(1, 500), st.floats(0.1, 200), st.lists(steps, max_size=100))
def test_the_limit_stays_between_one_and_all_and_never_jumps(most, ramp_per_s, story):
    clock = ManualClock()
    concurrency = Concurrency(most, clock, start=max(1, most // 2), ramp_per_s=ramp_per_s)
    concurrency.take(most)
    began, highest = concurrency.limit, concurrency.limit
    for what, value in story:
        before = concurrency.limit
        if what == "throttled":
            concurrency.throttled()
            assert concurrency.limit <= before
        elif what == "answered":
            concurrency.answered(value)
            assert concurrency.limit <= before + 1
        else:
            clock.advance(value)
        assert 1 <= concurrency.limit <= most
        highest = max(highest, concurrency.limit)
    assert highest <= began + ramp_per_s * clock.monotonic() + 1
