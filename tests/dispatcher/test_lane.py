"""The lane: bounded whatever its parts do, and nothing is committed that is not stored."""

import asyncio

import pytest
from answering import Answering

from dispatcher import service
from dispatcher.clock import SystemClock
from dispatcher.destinations import results_outlet
from dispatcher.errors import LaneStopped, SettingsError
from dispatcher.invokers import InlineInvoker
from dispatcher.settings import load
from ingest.codecs.notice import ImageAddress, InlineImage, NewImage
from ingest.sources.night import NightArchive
from sinks.errors import SinkRefused, SinkUnavailable
from sinks.memory import MemorySink

SETTINGS = "[flow]\nitems = 24\nfetch = 8\n[batch]\nitems = 8\nlinger_s = 0.05\n"


def notice(n, stamp):
    return NewImage(id=n, survey="S", ra=1.0, dec=1.0, magnitudes=(20.0,) * 5, stamp=stamp)


def archive(path, bodies):
    with NightArchive(path) as night:
        for n, body in enumerate(bodies):
            night.add(f"p{n % 2}", body)
    return str(path)


@pytest.fixture
def stamp(rng):
    return InlineImage.of_pixels(rng.normal(size=(5, 32, 32)))


@pytest.fixture
def rng():
    import numpy as np

    return np.random.default_rng(3)


@pytest.fixture
def night(tmp_path, stamp):
    return archive(tmp_path / "night.sqlite", [notice(n, stamp).to_bytes() for n in range(200)])


@pytest.fixture
def prepare(tmp_path):
    def prepared(location, extra=""):
        file = tmp_path / "lookback.toml"
        file.write_text(SETTINGS + extra)
        settings = load(file)
        model = service.identify_model(None)
        invoker = InlineInvoker(Answering(model.weights_sha256))
        return service.prepare(location, tmp_path / "out", settings, invoker=invoker)

    return prepared


def instead(run, before_write):
    """Let the run write to a sink in memory; returns the way to it."""
    sink = MemorySink(before_write=before_write)
    outlet = results_outlet(sink, SystemClock(), run.lane.settings)
    run.pipeline.writer.results = [outlet]
    return outlet


async def test_a_slow_sink_holds_the_source_back(prepare, night):
    opened, most = asyncio.Event(), 0

    async def door(_):
        await opened.wait()

    async with prepare(night) as run:
        instead(run, door)
        lane = asyncio.create_task(run.lane.run())
        for _ in range(60):
            await asyncio.sleep(0.01)
            most = max(most, run.totals().in_flight)
        received = run.totals().received
        assert received == most == 24, "the source is asked for no more than the credit allows"
        assert run.lane.lag_s() > 0.4, "the lag is the age of the oldest event that waits"
        opened.set()
        await lane
        assert run.lane.credit.waited_s > 0.2
        assert run.lane.lag_s() == 0
        assert run.totals().outcomes["written"] == 200


async def test_a_sink_that_is_away_is_waited_for(prepare, night):
    refusals = iter([True] * 3 + [False] * 1000)
    waits = []

    async def flaky(_):
        if next(refusals):
            raise SinkUnavailable("away")

    async def sleep(seconds):
        waits.append(seconds)

    async with prepare(night) as run:
        instead(run, flaky).sleep = sleep
        await run.lane.run()
        assert run.totals().outcomes["written"] == 200
        assert len(waits) == 3
        assert waits[2] > waits[0], "the waits grow"


async def test_a_sink_that_refuses_stops_the_lane_and_nothing_of_it_is_committed(prepare, night):
    async def refuse(_):
        raise SinkRefused("no room: make some")

    async with prepare(night) as run:
        instead(run, refuse)
        with pytest.raises(LaneStopped, match="make some"):
            await run.lane.run()
    async with prepare(night) as run:
        await run.lane.run()
        assert run.totals().received == run.totals().outcomes["written"] == 200


async def test_stamps_that_lie_elsewhere_are_fetched_side_by_side(prepare, tmp_path, slow_server):
    url, most = slow_server
    bodies = [notice(n, ImageAddress(url=f"{url}/{n}.npz")).to_bytes() for n in range(40)]
    location = archive(tmp_path / "night.sqlite", bodies)
    async with prepare(location, f'[ingest]\nallow = ["{url}"]\n') as run:
        await run.lane.run()
        assert run.totals().outcomes["written"] == 40
    assert 8 < max(most) <= 24


@pytest.fixture
async def slow_server(rng):
    """Serves a stamp after 50 ms; `most` collects how many were asked for at the same time."""
    import base64

    from aiohttp import web

    body = base64.b64decode(InlineImage.of_pixels(rng.normal(size=(5, 32, 32))).data)
    now, most = [0], []

    async def answer(_):
        now[0] += 1
        most.append(now[0])
        await asyncio.sleep(0.05)
        now[0] -= 1
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", most
    await runner.cleanup()


async def test_too_many_dead_letters_stop_the_lane(prepare, tmp_path, stamp):
    bodies = [b"rubbish"] * 150 + [notice(n, stamp).to_bytes() for n in range(50)]
    location = archive(tmp_path / "night.sqlite", bodies)
    async with prepare(location) as run:
        with pytest.raises(LaneStopped, match="became dead letters"):
            await run.lane.run()
        assert run.totals().received < 200


async def test_many_dead_letters_in_a_row_stop_the_lane(prepare, tmp_path, stamp):
    good = [notice(n, stamp).to_bytes() for n in range(100)]
    mixed = [body for each in good for body in (each, each, b"rubbish", b"rubbish")]
    # In each of the two partitions every second event is rubbish, then 30 in a row are.
    limits = "[dead_letters]\nmax_ratio = 1.0\nmax_in_a_row = 30\n"
    async with prepare(archive(tmp_path / "mixed.sqlite", mixed), limits) as run:
        await run.lane.run()
        assert run.totals().outcomes["dead"] == 200, "never more than four in a row"
    flood = archive(tmp_path / "flood.sqlite", [*mixed[:40], *[b"rubbish"] * 100, *mixed[40:]])
    async with prepare(flood, limits) as run:
        with pytest.raises(LaneStopped, match="30 events in a row became dead letters"):
            await run.lane.run()
        assert run.totals().received < 150


async def test_being_told_to_stop_finishes_what_is_under_way(prepare, night):
    async with prepare(night) as run:
        lane = asyncio.create_task(run.lane.run())
        while run.totals().received < 20:
            await asyncio.sleep(0.001)
        run.lane.stop()
        await lane
        first = run.totals()
        assert first.in_flight == 0
        assert first.received < 200
    async with prepare(night) as run:
        await run.lane.run()
        assert run.night.estimates() == 200 - first.received
        assert run.totals().outcomes["written"] == 200


async def test_two_sources_of_one_name_do_not_share_a_folder(prepare, night, tmp_path, stamp):
    async with prepare(night) as run:
        await run.lane.run()
    (tmp_path / "other").mkdir()
    other = archive(tmp_path / "other" / "night.sqlite", [notice(1, stamp).to_bytes()])
    with pytest.raises(SettingsError, match="give another output folder"):
        async with prepare(other):
            pass


async def test_two_services_do_not_write_to_one_folder(prepare, night):
    async with prepare(night):
        with pytest.raises(SettingsError, match="another lookback is writing"):
            async with prepare(night):
                pass
    async with prepare(night) as run:
        await run.lane.run()
