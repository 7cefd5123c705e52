"""Random nights: each leaves what an undisturbed one does, and no commit says too much.

More of them: LOOKBACK_TEST_NIGHTS=1000 pytest tests/delivery/test_random_nights.py
"""

import os

import pytest
import structlog

from delivery.random_night import pass_one

NIGHTS = int(os.environ.get("LOOKBACK_TEST_NIGHTS", "100"))
AT_ONCE = 10


@pytest.fixture(autouse=True)
def _quiet():
    """Outages are what these nights are made of."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


@pytest.mark.parametrize("first", range(0, NIGHTS, AT_ONCE))
def test_random_nights(first):
    for seed in range(first, min(first + AT_ONCE, NIGHTS)):
        seen = pass_one(seed)
        assert seen["commits"]


def test_a_seed_gives_the_same_night_again():
    assert pass_one(4) == pass_one(4)
