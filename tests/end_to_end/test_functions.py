"""A run whose workers are functions: all that goes wrong there, and the money of it.

Asynchronous and in this process, because what the platform does to a call must be in our hands.
"""

import asyncio
import json
import sqlite3
from dataclasses import replace
from uuid import uuid4

import lookback
import pytest
import structlog
from aiobotocore.session import get_session
from functions import a_platform, invoker_of
from parts.aws import ACCESS

from benchmarks.functions.nights import PRICE, function, invoice, settings, through_functions
from dispatcher.demo import render_night
from dispatcher.errors import LaneStopped, SettingsError
from dispatcher.ledger.money import pico
from dispatcher.ledger.prices import price
from dispatcher.platform.api import FunctionPlatform
from dispatcher.platform.troubles import Troubles
from dispatcher.service import follow, prepare
from dispatcher.settings import Settings
from workers.training.render import render_galaxies
from workers.weights import identify
from workers.wire import Item, VerdictKind, decode_verdicts, encode_items


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("night") / "night.sqlite"
    render_night(path, galaxies=240, seed=7)
    return path


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def night_events(path):
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT * FROM events").fetchall()
    db.close()
    return found


@pytest.fixture
async def platform():
    made = FunctionPlatform(function(concurrency=1), Troubles())
    await made.start()
    yield made
    await made.close()


@pytest.mark.parametrize("ranks", [1, 2, 4])
async def test_every_image_is_settled_once_and_the_ledger_is_the_bill(ranks, night, tmp_path):
    troubles = Troubles(ranks, cold=0.1, throttled=0.1, broken=0.1, hangs=0.0, killed=0.1 / ranks)
    seen = await through_functions(night, tmp_path, ranks, troubles, items=16, slots=ranks)
    assert seen.balanced
    assert seen.received == len(night_events(night))
    assert seen.by_status["ok"] + seen.by_status.get("out_of_domain", 0) == 240
    assert seen.invocations >= 16
    assert seen.ledger == seen.invoice > 0
    assert (seen.outstanding, seen.leased) == (0, 0)


async def test_a_hanging_function_is_stopped_paid_and_asked_again(night, tmp_path):
    troubles = Troubles(54, hangs=0.2)  # the first of all
    seen = await through_functions(night, tmp_path, 1, troubles, items=60, timeout_s=3.0)
    assert seen.balanced
    assert seen.by_status["ok"] >= 238
    assert seen.ledger == seen.invoice
    assert seen.longest_ms >= 3000


async def test_a_role_that_is_revoked_stops_the_lane_and_frees_the_money(night, tmp_path, platform):
    chosen = settings(platform, 1, 16)
    async with prepare(str(night), tmp_path, chosen) as run:
        running = asyncio.create_task(follow(run, asyncio.Event()))
        while not platform.bills:
            await asyncio.sleep(0.01)
        platform.revoked = True
        with pytest.raises(LaneStopped, match=r"AccessDenied.*give the dispatcher's role"):
            await running
    ledger = run.pipeline.scheduler.ledger
    assert ledger.outstanding == 0
    assert ledger.spent.total() == invoice(platform.bills, price(PRICE))
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        (answered,) = db.execute("SELECT count(*) FROM results WHERE status = 'ok'").fetchone()
    db.close()
    assert 0 < answered < 240
    platform.revoked = False
    async with prepare(str(night), tmp_path, chosen) as run:
        await follow(run, asyncio.Event())
        assert run.totals().balanced
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        (answered,) = db.execute("SELECT count(*) FROM results WHERE status = 'ok'").fetchone()
    db.close()
    assert answered >= 238


async def test_a_function_gives_back_what_it_has_before_its_time_is_out():
    """One item after the other, and more of them than the time suffices for."""
    made = replace(function(concurrency=1), timeout_s=1.0)
    async with a_platform(made) as platform:
        invoker = invoker_of(platform, slots=1)
        await invoker.open()
        galaxies = render_galaxies(16, 3, size=32)
        items = [
            Item(f"item-{n}", galaxies.images[n % 16], galaxies.magnitudes[n % 16])
            for n in range(220)
        ]
        event = {"job": {"weights_sha256": identify("galaxies").sha256}, "careful": True}
        warm, all_of_them = (
            json.dumps({**event, "partition": encode_items(some)}).encode()
            for some in (items[:1], items)
        )
        await invoker.invoke([warm], 30)
        (answer,) = await invoker.invoke([all_of_them], 30)
        await invoker.close()
    verdicts = decode_verdicts(json.loads(answer.result)["verdicts"])
    kinds = [each.kind for each in verdicts]
    done = kinds.index(VerdictKind.TRY_AGAIN)
    assert len(kinds) == 220
    assert 0 < done < 220
    assert set(kinds[done:]) == {VerdictKind.TRY_AGAIN}
    assert answer.bill.billed_ms < 1000


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("functions", "alias", "dead", "ResourceNotFoundException"),
        ("functions", "account", "123456789012", "is of account 000000000000"),
        ("spend", "memory_mb", 512, "has 1769 MB"),
        ("spend", "price", "local", "costs money"),
        ("spend", "price", "aws-lambda/us-east-1/arm64", "is for x86_64"),
        ("aws", "region", "us-east-2", "spend.price is for us-east-1"),
        ("workers", "deadline_s", 5, "may take 10 s"),
        ("batch", "items", 1000, "functions.bucket"),
        ("functions", "weights", "bucket", "needs functions.bucket"),
    ],
)
async def test_what_does_not_fit_the_function_does_not_start(
    section, key, value, words, night, tmp_path, platform
):
    given = settings(platform, 1, 16).model_dump(mode="json", exclude_unset=True)
    given.setdefault(section, {})[key] = value
    with pytest.raises(SettingsError, match=words):
        async with prepare(str(night), tmp_path, Settings(**given)):
            pass
    assert platform.bills == []


async def test_groups_on_other_machines_need_an_address_to_meet_at(night, tmp_path, platform):
    given = settings(platform, 2, 16).model_dump(mode="json", exclude_unset=True)
    given["functions"]["endpoint"] = platform.url.replace("127.0.0.1", "localhost")
    with pytest.raises(SettingsError, match=r"workers.rendezvous.*workers.ranks = 1"):
        async with prepare(str(night), tmp_path, Settings(**given)):
            pass


@pytest.mark.filterwarnings("default")  # Dask closes its sockets when it likes to
async def test_wherever_the_workers_are_the_results_and_the_books_are_the_same(
    tmp_path, platform, dask
):
    night = tmp_path / "small.sqlite"
    render_night(night, galaxies=40, seed=9)
    engines = {
        "local": Settings(workers={"count": 1, "ranks": 1}),
        "lambda": settings(platform, 1, 16),
        "dask": Settings(
            workers={"engine": "dask", "count": 1, "ranks": 1}, dask={"scheduler": dask}
        ),
    }
    books, rows = {}, {}
    for name, chosen in engines.items():
        async with prepare(str(night), tmp_path / name, chosen) as run:
            await follow(run, asyncio.Event())
            books[name] = run.totals().to_json()
        rows[name] = lookback.results(tmp_path / name)
    assert books["local"] == books["lambda"] == books["dask"]
    assert rows["local"].keys() == rows["lambda"].keys() == rows["dask"].keys()
    for key, local in rows["local"].items():
        for other in (rows["lambda"][key], rows["dask"][key]):
            assert other["status"] == local["status"]
            # The last digits of a sum of floats depend on its company.
            assert other["z_median"] == pytest.approx(local["z_median"], abs=1e-3)


async def test_a_batch_that_goes_by_address_costs_its_requests_too(night, tmp_path, aws):
    name = f"payloads-{uuid4().hex[:8]}"
    async with get_session().create_client("s3", endpoint_url=aws, **ACCESS) as client:
        await client.create_bucket(Bucket=name)
    allowed = {**function().environment, "LOOKBACK_PAYLOADS": f"{aws}/{name}/"}
    platform = FunctionPlatform(replace(function(concurrency=1), environment=allowed), Troubles())
    await platform.start()
    given = settings(platform, 1, 400).model_dump(mode="json", exclude_unset=True)
    given["functions"]["bucket"] = f"s3://{name}/night"
    given["aws"] = {"endpoint": aws}
    given["batch"]["max_bytes"] = 20_000_000
    given["live"] = {"objective_s": 60}
    try:
        async with prepare(str(night), tmp_path, Settings(**given)) as run:
            run.pipeline.queue.policy.durations.observe(400, 1.0)  # so that it dares as many
            await follow(run, asyncio.Event())
            assert run.totals().balanced
            spent = run.pipeline.scheduler.ledger.spent.total()
    finally:
        await platform.close()
    assert 1 <= len(platform.bills) <= 3
    beside = spent - invoice(platform.bills, price(PRICE))
    assert beside == pico("0.000005") + pico("0.0000004")


async def test_a_price_that_does_not_know_the_bucket_does_not_start(night, tmp_path, platform):
    table = tmp_path / "prices.toml"
    table.write_text(
        '[aws-lambda.us-east-1.x86_64]\ngb_second = "0.00001"\nrequest = "0.0000002"\n'
        'storage_gb_second = "0"\nsource = "a contract"\ndate = 2026-01-01\n'
    )
    given = settings(platform, 1, 16).model_dump(mode="json", exclude_unset=True)
    given["functions"]["bucket"] = "s3://payloads"
    given["spend"]["prices"] = str(table)
    with pytest.raises(SettingsError, match="add object_write and object_read"):
        async with prepare(str(night), tmp_path, Settings(**given)):
            pass


async def test_the_kill_switch_is_told_in_one_line_and_so_is_its_end(night, tmp_path, platform):
    chosen = settings(platform, 1, 60)
    async with lambda_client(platform) as client, prepare(str(night), tmp_path, chosen) as run:
        name = {"FunctionName": platform.function.name}
        await client.put_function_concurrency(**name, ReservedConcurrentExecutions=0)
        with structlog.testing.capture_logs() as lines:
            running = asyncio.create_task(follow(run, asyncio.Event()))
            while platform.throttles < 15:
                await asyncio.sleep(0.05)
            assert told(lines) == [REFUSES]
            assert any("functions show" in each.get("advice", "") for each in lines)
            await client.put_function_concurrency(**name, ReservedConcurrentExecutions=1)
            await running
        assert told(lines) == [REFUSES, "the platform takes calls again"]
        assert run.totals().balanced


def told(lines):
    """What was said of the platform."""
    fault = "platform_refuses"
    return [each["event"] for each in lines if fault in (each.get("incident"), each.get("ended"))]


REFUSES = "the platform refuses all calls, so nothing is answered"


def lambda_client(platform):
    at = {"endpoint_url": platform.url, "region_name": "us-east-1"}
    return get_session().create_client("lambda", **at)
