"""Outlets: each sink at its own pace, settled when every required one has the row."""

import asyncio
import random
from contextlib import asynccontextmanager, suppress

import pytest
from rows import record

from dispatcher.books import Outcome
from dispatcher.breaker import Breaker, State
from dispatcher.clock import ManualClock
from dispatcher.conclusions import Conclusion
from dispatcher.errors import LaneStopped
from dispatcher.outlet import Outlet
from dispatcher.writer import Writer
from sinks.errors import SinkRefused, SinkUnavailable


class Destination:
    """Keeps what it is given; `trouble` is raised as often as there is any."""

    def __init__(self, *trouble):
        self.trouble = list(trouble)
        self.batches = []
        self.opened = asyncio.Event()
        self.opened.set()

    async def store(self, conclusions):
        await self.opened.wait()
        if self.trouble:
            raise self.trouble.pop(0)
        self.batches.append([each.row.src_offset for each in conclusions])

    @property
    def rows(self):
        return [row for batch in self.batches for row in batch]


def outlet(destination, clock=None, **options):
    clock = clock or ManualClock()

    async def sleep(seconds):
        clock.advance(seconds)
        await asyncio.sleep(0)

    breaker = Breaker(clock, failures=3, jitter=random.Random(1))
    return Outlet("sink", destination.store, breaker, **{"batch": 10, "sleep": sleep, **options})


def conclusions(*numbers):
    return [Conclusion(None, Outcome.WRITTEN, record(n)) for n in numbers]


@asynccontextmanager
async def running(writer):
    settled = []
    task = asyncio.create_task(writer.run(settled.extend))
    yield settled
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_slow_sink_does_not_make_the_others_slow():
    quick, slow = Destination(), Destination()
    slow.opened.clear()
    writer = Writer([outlet(quick), outlet(slow)], outlet(Destination()))
    async with running(writer) as settled:
        for each in conclusions(*range(25)):
            writer.put(each)
        await until(lambda: len(quick.rows) == 25)
        assert settled == []
        assert writer.waiting == 25
        slow.opened.set()
        await until(lambda: len(settled) == 25)
        assert [len(batch) for batch in slow.batches] == [10, 10, 5]
        assert writer.waiting == 0


async def test_what_leaves_no_row_is_settled_at_once():
    writer = Writer([outlet(Destination())], outlet(Destination()))
    async with running(writer) as settled:
        writer.put(Conclusion(None, Outcome.DUPLICATE))
        await until(lambda: settled)


async def test_a_required_sink_is_tried_until_it_takes_the_rows():
    sink = Destination(*[SinkUnavailable("away")] * 8)
    way = outlet(sink)
    writer = Writer([way], outlet(Destination()))
    async with running(writer) as settled:
        writer.put(*conclusions(1))
        await until(lambda: settled)
    assert sink.rows == [1]
    assert way.breaker.state is State.CLOSED


async def test_a_required_sink_that_refuses_stops_the_lane():
    writer = Writer([outlet(Destination(SinkRefused("no room: make some")))], outlet(Destination()))
    writer.put(*conclusions(1))
    with pytest.raises(ExceptionGroup) as caught:
        await writer.run(lambda _: None)
    (error,) = caught.value.exceptions
    assert isinstance(error, LaneStopped)
    assert "make some" in str(error)


async def test_a_best_effort_sink_holds_nothing_up_and_what_it_missed_is_counted():
    clock = ManualClock()
    away = Destination(*[SinkUnavailable("away")] * 3)
    beside = outlet(away, clock, required=False)
    writer = Writer([outlet(Destination()), beside], outlet(Destination()))
    async with running(writer) as settled:
        writer.put(*conclusions(1))
        await until(lambda: len(settled) == 1 and beside.dropped == 1)
        assert beside.breaker.state is State.OPEN, "after three failures in a row"
        writer.put(*conclusions(2))
        await until(lambda: len(settled) == 2 and beside.dropped == 2)
        clock.advance(60)
        writer.put(*conclusions(3))
        await until(lambda: away.rows == [3])
        assert (beside.dropped, beside.written) == (2, 1)


async def test_a_batch_waits_for_company_but_not_when_told_to_hurry():
    sink = Destination()
    way = outlet(sink, linger_s=30.0)
    writer = Writer([way], outlet(Destination()))
    async with running(writer) as settled:
        for each in conclusions(*range(3)):
            writer.put(each)
        await asyncio.sleep(0.02)
        assert sink.rows == []
        writer.hurry()
        await until(lambda: len(settled) == 3)
        assert sink.batches == [[0, 1, 2]]


def test_a_breaker_opens_probes_and_closes():
    clock = ManualClock()
    breaker = Breaker(clock, failures=3, cool_down_s=1.0, longest_s=8.0, jitter=random.Random(1))
    waits = []
    for _ in range(9):
        breaker.failed()
        waits.append(breaker.wait_s())
        clock.advance(breaker.wait_s())
    assert breaker.state is State.HALF_OPEN
    assert waits[0] < waits[2] < waits[5] <= 8.0
    assert max(waits) <= 8.0
    breaker.failed()
    assert breaker.state is State.OPEN
    breaker.succeeded()
    assert breaker.state is State.CLOSED
    assert breaker.wait_s() == 0


async def test_at_the_end_a_best_effort_sink_still_gets_what_waits_for_it():
    late = Destination()
    late.opened.clear()
    way = outlet(late, required=False, linger_s=60.0)
    writer = Writer([outlet(Destination()), way], outlet(Destination()))
    async with running(writer) as settled:
        for each in conclusions(1, 2, 3):
            writer.put(each)
        await until(lambda: len(settled) == 3)
        asyncio.get_running_loop().call_later(0.1, late.opened.set)
        await writer.finish(5.0)
    assert sorted(late.rows) == [1, 2, 3]
    assert way.dropped == 0


async def test_at_the_end_nobody_waits_for_a_best_effort_sink_for_long_and_its_loss_is_counted():
    hanging = Destination()
    hanging.opened.clear()
    way = outlet(hanging, required=False, batch=2)
    writer = Writer([outlet(Destination()), way], outlet(Destination()))
    async with running(writer) as settled:
        for each in conclusions(1, 2, 3):
            writer.put(each)
        await until(lambda: len(settled) == 3)
        await writer.finish(0.1)
    assert way.dropped == 3
