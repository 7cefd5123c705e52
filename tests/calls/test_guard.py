"""The guard: what stops a lane, and what brings it back."""

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.calls.guard import Guard, GuardLimits
from dispatcher.clock import ManualClock

LIMITS = GuardLimits(cost_band=3.0, failed_share=0.5, growth=3.0, calls=10, probe_s=30.0)


@pytest.fixture
def clock():
    return ManualClock(1000.0)


@pytest.fixture
def guard(clock):
    return Guard("live", LIMITS, clock)


def note(guard, times=1, *, cost=100, results=10, failed_cost=0, ratio=1.0):
    for _ in range(times):
        guard.note(cost=cost, results=results, expected=100, failed_cost=failed_cost, ratio=ratio)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ({"cost": 400}, "4.0 times what was expected"),
        ({"cost": 400, "results": 0}, "there is none"),
        ({"failed_cost": 80}, "went to calls that failed"),
        ({"ratio": 4.0}, "4.0 times what they took"),
    ],
)
def test_a_lane_that_burns_money_is_stopped_with_a_reason(guard, trouble, why):
    with structlog.testing.capture_logs() as logs:
        note(guard, 9, **trouble)
        assert guard.reason is None, "not on a few calls"
        note(guard, **trouble)
    assert why in guard.reason
    assert not guard.may_send()
    assert [each["event"] for each in logs] == ["the guard stops a lane"]


def test_a_good_night_is_not_stopped(guard):
    note(guard, 500, cost=130, failed_cost=20, ratio=1.4)
    assert guard.reason is None
    assert guard.may_send()


def test_calls_that_cost_nothing_may_take_as_long_as_they_like(guard):
    note(guard, 500, cost=0, ratio=9.0)
    assert guard.reason is None


def test_it_comes_back_by_a_good_probe_and_waits_longer_after_a_bad_one(guard, clock):
    note(guard, 10, cost=400)
    clock.advance(30)
    assert guard.may_send()
    guard.sending()
    assert not guard.may_send(), "one probe"
    note(guard, cost=400)
    clock.advance(30)
    assert not guard.may_send()
    clock.advance(30)
    guard.sending()
    note(guard)
    assert guard.reason is None


def test_a_probe_that_never_comes_back_is_followed_by_another(guard, clock):
    note(guard, 10, cost=400)
    clock.advance(30)
    guard.sending()
    clock.advance(29)
    assert not guard.may_send()
    clock.advance(1)
    assert guard.may_send()
    guard.sending()
    note(guard)
    assert guard.reason is None


def test_it_comes_back_by_hand(guard):
    note(guard, 10, cost=400)
    guard.reset()
    assert guard.may_send()


def test_asking_whether_a_call_may_go_changes_nothing(guard, clock):
    note(guard, 10, cost=400)
    clock.advance(30)
    assert all(guard.may_send() for _ in range(3))


def test_each_bad_probe_doubles_the_wait_up_to_sixteen_times(guard, clock):
    note(guard, 10, cost=400)
    waits = []
    for _ in range(7):
        waits.append(0)
        while not guard.may_send():
            clock.advance(10)
            waits[-1] += 10
        guard.sending()
        note(guard, results=0, failed_cost=100)
    assert waits == [30, 60, 120, 240, 480, 480, 480]


def test_calls_that_were_under_way_when_it_opened_are_no_probes(guard, clock):
    note(guard, 10, cost=400)
    note(guard, 5)
    assert guard.reason is not None
    clock.advance(29)
    assert not guard.may_send()


def test_failures_of_long_ago_do_not_count(guard, clock):
    note(guard, 5, failed_cost=100)
    clock.advance(301)
    note(guard, 10)
    assert guard.reason is None


@pytest.mark.parametrize("ratios", [(None,), (1.0, None, None)])
def test_calls_of_unknown_pace_say_nothing_of_it(guard, ratios):
    for n in range(60):
        note(guard, ratio=ratios[n % len(ratios)])
    assert guard.reason is None


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 100), st.floats(0.1, 3.0), st.floats(0, 100)),
        max_size=200,
    )
)
def test_no_lane_inside_its_limits_is_ever_stopped(calls):
    clock = ManualClock(1000.0)
    guard = Guard("live", LIMITS, clock)
    for cost, results, ratio, pause_s in calls:
        guard.note(cost=cost, results=results, expected=100, failed_cost=cost // 2, ratio=ratio)
        assert guard.reason is None
        clock.advance(pause_s)
