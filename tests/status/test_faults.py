"""Twelve things that go wrong at night: each is seen in time, wherever one looks."""

import asyncio
import contextlib
import signal
import sqlite3
from pathlib import Path

import duckdb
import numpy as np
import pytest
from aiobotocore.session import get_session
from aiohttp import ClientSession, web
from aiokafka import AIOKafkaProducer
from parts.aws import ACCESS
from parts.kafka import noida
from parts.postgres import postgres as postgres_cluster
from poisoned import POISON
from watched import archive, notice, watched

from dispatcher.clock import SystemClock
from dispatcher.invokers.local import LocalInvoker

SOON = "[flow]\ngrace_s = 0.5\n"
DISPATCHER = Path(__file__).parents[1] / "dispatcher"


@pytest.fixture
def night(tmp_path):
    return archive(tmp_path / "night.sqlite", [notice(n) for n in range(40)])


async def test_a_broker_that_is_gone(tmp_path):
    (tmp_path / "noida").mkdir()
    with noida(tmp_path / "noida") as broker:
        producer = AIOKafkaProducer(bootstrap_servers=broker.address)
        await producer.start()
        await producer.send_and_wait("images", notice(1))
        await producer.stop()
        location = f"kafka://{broker.address}/images"
        async with watched(
            location, tmp_path / "out", SOON + '[kafka]\ngroup = "faults"\n'
        ) as seen:
            await seen.until(lambda found: found["books"]["written"] == 1, 30)
            broker.process.send_signal(signal.SIGSTOP)
            await seen.shows("broker_gone")
            assert not (await seen.get("/ready"))["ok"]
            assert (await seen.get("/live"))["ok"]
            broker.process.send_signal(signal.SIGCONT)
            await seen.is_over("broker_gone")


async def test_a_sink_that_is_down(night, tmp_path):
    with postgres_cluster() as server:
        sink = f'[sinks]\nrequired = ["{server.dsn}"]\n[flow]\nitems = 8\nfetch = 4\n'
        location = archive(tmp_path / "long.sqlite", [notice(n) for n in range(400)])
        async with watched(location, tmp_path / "out", sink) as seen:
            server.stop("immediate")
            await seen.shows("sink_down")
            found = await seen.until(lambda found: found["held"]["by"] == "sinks")
            assert found["sinks"][0]["error"]
            server.start()
            await seen.is_over("sink_down", 60)
            found = await seen.until(lambda found: found["run"]["state"] == "ended", 30)
            assert found["books"]["written"] == 400


async def test_a_disk_that_is_full(tmpfs, tmp_path):
    location = archive(tmp_path / "night.sqlite", [notice(n) for n in range(1500)])
    sinks = '[sinks]\nrequired = ["results.sqlite", "results.parquet", "results.hats"]\n'
    async with watched(location, tmpfs / "out", sinks + "[flow]\nitems = 64\n") as seen:
        await seen.until(lambda found: found["books"]["written"] > 100)
        hog = tmpfs / "hog"
        with contextlib.suppress(OSError), hog.open("wb") as file:
            while True:
                file.write(bytes(65536))
                file.flush()
        await seen.shows("disk_full")
        hog.unlink()
        await seen.is_over("disk_full", 40)
        found = await seen.until(lambda found: found["run"]["state"] == "ended", 60)
        assert found["books"]["written"] == 1500
    with contextlib.closing(sqlite3.connect(tmpfs / "out" / "results.sqlite")) as db:
        stored = db.execute("SELECT result_id FROM results ORDER BY result_id").fetchall()
    assert len(stored) == 1500
    for place in ("results.parquet", "results.hats/*/dataset"):
        rows = duckdb.sql(
            f"SELECT result_id FROM '{tmpfs}/out/{place}/**/*.parquet' ORDER BY result_id"
        )
        assert rows.fetchall() == stored


async def test_a_budget_that_is_gone(night, tmp_path):
    paid = (
        "[spend]\nprice = 'aws-lambda/us-east-1/x86_64'\nnight_usd = 0\n[live]\nobjective_s = 1\n"
    )
    async with watched(night, tmp_path / "out", SOON + paid) as seen:
        await seen.shows("budget_gone")
        found = await seen.until(lambda found: found["held"]["by"] == "money")
        assert "cap of total" in found["held"]["why"]
        (total,) = [each for each in found["money"]["windows"] if each["window"] == "night"]
        assert total["cap_usd"] == "0"


async def test_a_schema_that_is_not_known(tmp_path):
    framed = b"\x00\x00\x00\xff\xff" + bytes(40)
    location = archive(tmp_path / "night.sqlite", [notice(n) for n in range(20)] + [framed] * 3)
    async with watched(location, tmp_path / "out") as seen:
        await seen.shows("bad_schema")


async def test_a_flood_of_poison(tmp_path):
    rubbish = [b"rubbish %d" % n for n in range(60)]
    location = archive(tmp_path / "night.sqlite", rubbish)
    async with watched(location, tmp_path / "out", "[dead_letters]\nmax_ratio = 1.0\n") as seen:
        incident = await seen.shows("poison_flood")
        assert incident["facts"]["dead"] == 60


async def test_a_rank_that_is_lost_and_workers_that_keep_dying(tmp_path):
    image = np.random.default_rng(1).normal(size=(5, 32, 32))
    image[0, 0, 0] = POISON
    bodies = [notice(n) for n in range(16)] + [notice(99, image)]
    location = archive(tmp_path / "night.sqlite", bodies)
    invoker = LocalInvoker(2, {"PYTHONPATH": str(DISPATCHER)}, handler="poisoned.handler")
    async with watched(location, tmp_path / "out", invoker=invoker) as seen:
        await seen.shows("rank_lost")
        await seen.shows("worker_dying")
        found = await seen.until(lambda found: found["run"]["state"] == "ended", 60)
        assert found["books"]["dead"] == 1
        assert found["workers"]["lost"] >= 3


class JumpingClock(SystemClock):
    """The machine's clocks, one of which somebody sets; `speed` times as fast as they are."""

    def __init__(self, speed=1.0):
        self.by_s, self.speed, self._start = 0.0, speed, super().monotonic()

    def now(self):
        return super().now() + self.by_s

    def monotonic(self):
        return self._start + (super().monotonic() - self._start) * self.speed


@pytest.fixture
def _slow_sink(monkeypatch):
    """No write to the sink ever ends."""

    async def never(self, records):
        await asyncio.Event().wait()

    monkeypatch.setattr("sinks.sqlite.SqliteSink.write", never)


@pytest.mark.usefixtures("_slow_sink")
async def test_a_clock_that_jumps(night, tmp_path):
    clock = JumpingClock()
    async with watched(night, tmp_path / "out", SOON, clock=clock) as seen:
        await asyncio.sleep(1.1)  # the watchman has looked
        clock.by_s = -7200.0
        incident = await seen.shows("clock_jump")
        assert incident["facts"]["by_s"] == pytest.approx(-7200, abs=0.2)


@pytest.mark.usefixtures("_slow_sink")
async def test_a_lag_that_grows(tmp_path):
    speed = 20.0
    location = archive(tmp_path / "night.sqlite", [notice(n) for n in range(40)])
    late = SOON + "[live]\nobjective_s = 1\n"
    clock = JumpingClock(speed)
    async with watched(location, tmp_path / "out", late, clock=clock, speed=speed) as seen:
        await seen.shows("lag_growing")


async def test_a_stream_that_drifts(night, tmp_path):
    async with watched(night, tmp_path / "out", drift=("u-g", "z_median")) as seen:
        await seen.shows("drift")
        found = await seen.get("/api/status")
        assert found["drift"]["alarm"] == ["u-g", "z_median"]


class Doorkeeper:
    """A way to a service; from some moment on it says that the credentials have expired."""

    def __init__(self, behind):
        self.behind, self.expired = behind, False

    async def answer(self, request):
        if self.expired:
            body = {"__type": "ExpiredTokenException", "message": "the security token has expired"}
            return web.json_response(body, status=400)
        headers = {k: v for k, v in request.headers.items() if k != "Host"}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                self.behind + request.path_qs,
                headers=headers,
                data=await request.read(),
            ) as answer,
        ):
            return web.Response(
                body=await answer.read(),
                status=answer.status,
                headers={"Content-Type": answer.headers.get("Content-Type", "text/plain")},
            )


@pytest.fixture
async def doorkeeper(aws):
    made = Doorkeeper(aws)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_credentials_that_expire(aws, doorkeeper, tmp_path, monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test")):
        monkeypatch.setenv(f"AWS_{name}", value)
    async with get_session().create_client("sqs", endpoint_url=aws, **ACCESS) as client:
        queue = (await client.create_queue(QueueName="expiring"))["QueueUrl"]
        await client.send_message(QueueUrl=queue, MessageBody=notice(1).decode())
    settings = (
        f'[aws]\nendpoint = "{doorkeeper.address}"\nregion = "us-east-1"\n[sqs]\nwait_s = 1\n'
    )
    async with watched("sqs://expiring", tmp_path / "out", SOON + settings) as seen:
        await seen.until(lambda found: found["books"]["written"] == 1, 30)
        doorkeeper.expired = True
        await seen.shows("credentials")
        doorkeeper.expired = False
        await seen.is_over("credentials", 40)
