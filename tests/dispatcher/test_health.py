"""Health: alive while the lane makes its turns or is held back, ready while all is there."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
from small_run import preparing, until

from dispatcher import health, logs
from dispatcher.clock import ManualClock, SystemClock
from dispatcher.destinations import results_outlet
from dispatcher.health.pulse import Doing, Pulse
from dispatcher.logs.redaction import MASK
from sinks.errors import SinkUnavailable
from sinks.memory import MemorySink


@pytest.fixture
def prepare(tmp_path):
    return preparing(tmp_path)


@asynccontextmanager
async def under_way(run):
    """The lane runs while the context lasts; it is stopped at its end."""
    lane = asyncio.create_task(run.lane.run())
    try:
        yield lane
    finally:
        lane.cancel()
        with suppress(asyncio.CancelledError):
            await lane


def instead(run, before_write):
    """Let the run write to a sink in memory; returns the way to it."""
    sink = MemorySink(before_write=before_write)
    outlet = results_outlet(sink, SystemClock(), run.lane.settings)
    run.pipeline.writer.results = [outlet]
    return outlet


@pytest.mark.parametrize("doing", Doing)
def test_only_what_waits_for_others_may_last(doing):
    clock = ManualClock()
    pulse = Pulse(clock)
    pulse.beat(doing)
    clock.advance(100)
    outside = {Doing.OPENING, Doing.HELD, Doing.PAUSED, Doing.ENDED}
    assert pulse.silent_s == (0 if doing in outside else 100)
    pulse.beat(Doing.TAKING)
    assert pulse.silent_s == 0


async def test_it_is_ready_from_the_open_source_to_the_end(prepare):
    async with prepare() as run:
        assert health.live(run).ok
        assert health.ready(run).reasons == ("the source is not open yet",)
        async with under_way(run) as lane:
            await until(lambda: health.ready(run).ok)
            assert health.live(run).ok
            await lane
        assert run.lane.doing is Doing.ENDED
        assert health.live(run).ok
        assert health.ready(run).reasons == ("no more events are taken (ended)",)


async def test_it_is_alive_for_as_long_as_a_sink_holds_it_back(prepare):
    opened = asyncio.Event()

    async def door(_):
        await opened.wait()

    async with prepare() as run:
        instead(run, door)
        async with under_way(run) as lane:
            await until(lambda: run.lane.doing is Doing.HELD)
            await asyncio.sleep(0.3)  # longer than `stalled_s`
            assert run.lane.doing is Doing.HELD
            assert health.live(run).ok
            run.lane.pause()
            assert run.lane.doing is Doing.PAUSED
            run.lane.resume()
            opened.set()
            await lane
        assert run.totals().outcomes["written"] == 100


async def test_it_is_alive_and_paused_for_as_long_as_a_person_wants(prepare):
    async with prepare() as run:
        run.lane.pause()
        async with under_way(run) as lane:
            await until(lambda: run.lane.doing is Doing.PAUSED)
            await asyncio.sleep(0.3)
            assert health.live(run).ok
            assert health.ready(run).ok, "nothing is away"
            run.lane.resume()
            await lane
        assert run.totals().outcomes["written"] == 100


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("source.take", "it has been taking events for 0 s"),
        ("work.accept", "it has been accepting events for 0 s"),
    ],
)
async def test_a_lane_that_hangs_is_not_alive(prepare, monkeypatch, where, says):
    async def hang(*_):
        await asyncio.Event().wait()

    async with prepare() as run:
        part, name = where.split(".")
        monkeypatch.setattr(type(getattr(run.lane, part)), name, hang)
        async with under_way(run):
            await until(lambda: not health.live(run).ok)
            (reason,) = health.live(run).reasons
            assert reason == f"the lane hangs: {says}"
            assert reason in health.ready(run).reasons


async def test_it_is_not_ready_while_a_required_sink_is_away(prepare):
    away = True

    async def door(_):
        if away:
            raise SinkUnavailable("nobody answers at postgresql://me:hunter-2222@db:5432")

    async with prepare() as run:
        outlet = instead(run, door)
        outlet.breaker.failures = 1
        outlet.breaker.cool_down_s = 0.05
        async with under_way(run) as lane:
            await until(lambda: outlet.error is not None)
            at = f"postgresql://me:{MASK}@db:5432"
            why = f"the sink {outlet.name} takes no rows: nobody answers at {at}"
            assert health.ready(run).reasons == (why,)
            assert health.live(run).ok
            outlet.required = False
            assert health.ready(run).ok, "a best-effort sink holds nothing up"
            outlet.required = True
            away = False
            await until(lambda: outlet.error is None)
            await lane


async def test_it_is_not_ready_without_ledger_broker_or_workers(prepare, monkeypatch):
    logs.configure("json")
    async with prepare() as run:
        run.lane.pulse.beat(Doing.HELD)
        assert health.ready(run).ok
        log = structlog.get_logger()
        log.warning("the broker does not answer", incident="broker_gone", subject="b:9092")
        assert health.ready(run).reasons == ("the source does not answer: b:9092",)
        log.info("the broker answers again", ended="broker_gone", subject="b:9092")
        assert health.ready(run).ok
        monkeypatch.setattr(run.groups.invoker, "slots", 0)
        assert health.ready(run).reasons == ("no worker is there",)
        monkeypatch.undo()
        monkeypatch.setattr(run.pipeline.scheduler.ledger, "_away", True)
        assert "the ledger does not answer" in health.ready(run).reasons[0]
