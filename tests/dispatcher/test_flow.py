"""Credit, books, latency: the bookkeeping of the lane."""

import asyncio
import random

import pytest

from dispatcher.clock import ManualClock
from dispatcher.credit import Credit
from dispatcher.latency import LatencyHistogram


async def test_credit_is_granted_up_to_the_limit_and_waited_for_beyond_it():
    credit = Credit(max_items=10, max_bytes=1000, clock=ManualClock())
    assert await credit.take(8) == 8
    assert await credit.take(8) == 2
    more = asyncio.create_task(credit.take(8))
    await asyncio.sleep(0)
    assert not more.done()
    credit.give_back(3, 0)
    assert await more == 3


async def test_bytes_hold_the_next_fetch_back():
    credit = Credit(max_items=10, max_bytes=1000, clock=ManualClock())
    await credit.take(1)
    credit.charge(1500)
    waiting = asyncio.create_task(credit.take(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    credit.give_back(1, 1500)
    assert await waiting == 1


async def test_closing_wakes_whoever_waits():
    credit = Credit(max_items=1, max_bytes=1000, clock=ManualClock())
    await credit.take(1)
    waiting = asyncio.create_task(credit.take(1))
    await asyncio.sleep(0)
    credit.close()
    assert await waiting == 0


def test_latency_quantiles_are_right_to_two_per_cent():
    source = random.Random(7)
    values = sorted(source.lognormvariate(-1, 1) for _ in range(20_000))
    histogram = LatencyHistogram()
    for each in values:
        histogram.add(each)
    for fraction in (0.5, 0.98):
        assert histogram.quantile(fraction) == pytest.approx(
            values[int(fraction * len(values))], rel=0.02
        )
    assert LatencyHistogram().quantile(0.5) is None
