"""The guard and the concurrency: what stops a lane, what slows it, and what brings it back."""

import pytest
import structlog

from dispatcher.calls.concurrency import Concurrency
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
