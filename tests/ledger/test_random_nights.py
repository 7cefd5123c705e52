"""No window is passed by more than a hundredth or one worst call, in hundreds of random nights."""

import os
import random

import pytest

from dispatcher.ledger.accounts import TOTAL, Purse, Window
from ledger.nights import PICO_PER_S, Night

NIGHTS = int(os.environ.get("LOOKBACK_TEST_NIGHTS", "8"))


def caps_of(random_):
    """Caps that bite, down to what two or three of the worst calls cost."""
    minute = int(random_.choice([30, 100, 300, 1000]) * random_.uniform(1, 2)) * PICO_PER_S
    caps = {TOTAL: {Window.MINUTE: minute, Window.HOUR: int(random_.uniform(1.2, 3) * minute)}}
    if random_.random() < 0.5:
        caps[Purse.REPLAY.value] = {Window.MINUTE: minute // 3}
    return caps


def check(night):
    night.run()
    assert night.calls
    for excess, cap in night.excess():
        assert excess <= max(cap // 100, night.worst), f"{excess / cap:.2%} of {cap}"
    return night


@pytest.mark.parametrize("seed", range(NIGHTS))
def test_no_window_is_passed(seed):
    dice = random.Random(seed)
    check(Night(seed, caps_of(dice), dispatchers=dice.randint(1, 4)))


@pytest.mark.parametrize("seed", range(5))
def test_what_may_be_spent_is_spent(seed):
    minute = 300 * PICO_PER_S
    night = check(Night(seed, {TOTAL: {Window.MINUTE: minute, Window.HOUR: 2 * minute}}))
    assert all(excess > -cap // 5 for excess, cap in night.excess())


@pytest.mark.parametrize("seed", range(NIGHTS))
def test_nor_when_dispatchers_are_killed(seed):
    dice = random.Random(seed)
    check(Night(seed, caps_of(dice), dispatchers=dice.randint(1, 4), kills=2.0))


@pytest.mark.parametrize("seed", range(NIGHTS))
def test_nor_when_the_store_goes_away(seed):
    dice = random.Random(seed)
    check(Night(seed, caps_of(dice), dispatchers=3, away=1.0, kills=0.3))


@pytest.mark.parametrize("seed", range(NIGHTS))
def test_when_everything_hangs_only_what_was_under_way_is_too_much(seed):
    """A second's calls go to their deadline, 16 times their reserve, before anybody can know."""
    minute = 600 * PICO_PER_S
    night = Night(seed, {TOTAL: {Window.MINUTE: minute}}, dispatchers=1, hangs=(100, 160)).run()
    assert max(excess for excess, _ in night.excess()) < minute // 4
