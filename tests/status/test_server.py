"""The interface behind the page: what it tells is what the run, its books and its sinks hold."""

import asyncio
import contextlib
import json
import sqlite3
from unittest import mock

import aiohttp
import pytest
from answering import Answering
from parts.process import free_port
from watched import TOKEN, archive, notice, watched

from dispatcher import service
from dispatcher.errors import SettingsError
from dispatcher.health.pulse import Doing
from dispatcher.invokers import InlineInvoker
from dispatcher.settings import load
from dispatcher.status.server import serve

TOLERANT = "[dead_letters]\nmax_ratio = 1.0\n"


@pytest.fixture
def night(tmp_path):
    """30 galaxies, 3 of them twice, and 6 that cannot be read."""
    bodies = [notice(n) for n in range(30)]
    rubbish = [b"rubbish %d" % n for n in range(6)]
    return archive(tmp_path / "night.sqlite", [*bodies, *bodies[:3], *rubbish])


def over(found):
    return found["run"]["state"] == "ended"


async def test_every_figure_is_that_of_the_run(night, tmp_path):
    async with watched(night, tmp_path / "out", TOLERANT) as seen:
        found = await seen.until(over)
        totals = seen.run.totals()
        rows = await seen.get("/api/results?limit=1000")
        metrics = await seen.text("/metrics")
    assert found["books"] == totals.to_json()
    assert found["books"] == {
        "received": 39,
        "written": 30,
        "duplicate": 3,
        "filtered": 0,
        "not_applicable": 0,
        "dead": 6,
        "in_flight": 0,
        "balanced": True,
    }
    assert sum(each["settled"] for each in found["partitions"]) == 39
    assert sum(each["written"] + each["other"] for each in found["rates"]["per_second"]) <= 39
    assert sum(found["redshifts"]["night"]) == 30
    assert len(found["redshifts"]["edges"]) == len(found["redshifts"]["night"]) + 1
    assert sum(found["redshifts"]["reference"]) == pytest.approx(30, abs=0.2)
    assert {each["name"]: each["written"] for each in found["sinks"]} == {
        "results.sqlite": 30,
        "deadletters.jsonl": 6,
    }
    assert found["dead_letters"]["held"] == 6
    with contextlib.closing(sqlite3.connect(tmp_path / "out" / "results.sqlite")) as db:
        held = dict(db.execute("SELECT result_id, z_median FROM results"))
    assert {each["result_id"]: each["z_median"] for each in rows["results"]} == held
    assert 'lookback_received_total{lane="live",partition="p0"' in metrics


async def test_one_result_is_shown_whole_with_its_stamp_and_its_p_of_z(night, tmp_path):
    async with watched(night, tmp_path / "out", TOLERANT) as seen:
        await seen.until(over)
        (row,) = (await seen.get("/api/results?limit=1"))["results"]
        whole = await seen.get(f"/api/results/{row['result_id']}")
        missing = await seen.get("/api/results/none")
    assert whole["record"]["result_id"] == row["result_id"]
    assert whole["record"]["run_id"] == seen.run.run_id
    assert len(whole["stamp"]["pixels"]) == 5
    assert missing["error"]


async def test_a_list_is_given_in_pages_and_can_be_searched(night, tmp_path):
    async with watched(night, tmp_path / "out", TOLERANT) as seen:
        await seen.until(over)
        pages = [
            (await seen.get(f"/api/results?offset={offset}&limit=10"))["results"]
            for offset in (0, 10, 20, 30)
        ]
        numbers = [each["seq"] for page in pages for each in page]
        assert numbers == list(range(29, -1, -1))
        wanted = pages[1][4]
        found = await seen.get(f"/api/results?search={wanted['result_id'][:12].upper()}")
        assert [each["seq"] for each in found["results"]] == [wanted["seq"]]
        assert (await seen.get("/api/results?status=no_host"))["total"] == 0
        assert "whole number" in (await seen.get("/api/results?offset=x"))["error"]


ACTIONS = {
    "pause": {},
    "resume": {},
    "freeze": {"account": "total"},
    "thaw": {"account": "total"},
    "redrive": {},
    "replay": {"on": "2026-11-20"},
    "review/some": {"decision": "approve", "by": "me"},
}


@pytest.mark.parametrize("name", ACTIONS)
async def test_nobody_acts_without_the_token(name, night, tmp_path):
    async with watched(night, tmp_path / "out", TOLERANT) as seen:
        for wrong in (None, "", "open", TOKEN + "x"):
            status, said = await seen.post(f"/api/{name}", wrong, **ACTIONS[name])
            assert (status, "token" in said["error"]) == (401, True)
        assert not seen.run.lane.credit.paused
        async with seen.session.get(f"/api/{name}") as answer:
            assert answer.status in (404, 405)


async def test_where_no_token_is_set_nobody_acts_at_all(night, tmp_path):
    settings = load(None).model_copy(update={"status": load(None).status.model_copy()})
    model = service.identify_model("galaxies")
    invoker = InlineInvoker(Answering(model.weights_sha256))
    async with (
        service.prepare(night, tmp_path / "out", settings, invoker=invoker) as run,
        serve(run) as (address, _),
        aiohttp.ClientSession(address) as session,
        session.post("/api/pause", headers={"Authorization": "Bearer "}) as answer,
    ):
        assert answer.status == 403
        assert "status.token" in (await answer.json())["error"]


async def test_a_paused_source_gives_nothing_until_it_is_resumed(tmp_path):
    location = archive(tmp_path / "night.sqlite", [notice(n) for n in range(600)])
    few = "[flow]\nitems = 16\nfetch = 4\n"
    async with watched(location, tmp_path / "out", few) as seen:
        status, said = await seen.post("/api/pause")
        assert (status, "paused" in said["done"]) == (200, True)
        while seen.run.lane.doing is not Doing.PAUSED:  # what was granted before is taken
            await asyncio.sleep(0.01)
        found = await seen.until(lambda found: not found["books"]["in_flight"])
        assert (found["run"]["state"], found["held"]["by"]) == ("paused", "pause")
        await asyncio.sleep(0.3)
        later = await seen.get("/api/status")
        assert later["books"] == found["books"]
        assert found["books"]["received"] < 600
        assert (await seen.get("/live"))["ok"]
        await seen.post("/api/resume")
        assert (await seen.until(over))["books"]["written"] == 600


async def test_money_is_frozen_and_thawed_by_hand(tmp_path):
    location = archive(tmp_path / "night.sqlite", [notice(n) for n in range(40)])
    paid = "[spend]\nprice = 'aws-lambda/us-east-1/x86_64'\nnight_usd = 1\n[flow]\nitems = 8\n"
    async with watched(location, tmp_path / "out", paid) as seen:
        await seen.post("/api/freeze", account="total")
        found = await seen.until(lambda found: found["money"]["frozen"] == ["total"])
        status, said = await seen.post("/api/freeze", account="nobody's")
        assert (status, "no account" in said["error"]) == (409, True)
        await seen.post("/api/thaw", account="total")
        found = await seen.until(over, 40)
        assert found["books"]["written"] == 40
        found = await seen.until(lambda found: found["money"]["windows"][0]["spent_usd"] != "0")
        night = next(
            each
            for each in found["money"]["windows"]
            if (each["account"], each["window"]) == ("total", "night")
        )
        assert 0 < float(night["spent_usd"]) < float(night["cap_usd"]) == 1
        assert float(night["by_end_usd"]) >= float(night["spent_usd"])


async def test_dead_letters_are_sent_again_while_the_night_goes_on(tmp_path):
    few = "[flow]\nitems = 8\nfetch = 4\n"
    bodies = [b"rubbish %d" % n for n in range(4)] + [notice(n) for n in range(500)]
    location = archive(tmp_path / "night.sqlite", bodies)
    async with watched(location, tmp_path / "out", few) as seen:
        await seen.until(lambda found: found["books"]["dead"] == 4)
        status, said = await seen.post("/api/redrive", reasons=["unknown_format"])
        assert (status, "sent again" in said["done"]) == (200, True)
        found = await seen.until(
            lambda found: found["errands"] and found["errands"][0]["state"] == "done"
        )
        # Nothing was mended, so they die again; the books of the night do not notice.
        assert found["errands"][0]["settled"] == 4
        found = await seen.until(over, 40)
        assert (found["books"]["written"], found["books"]["dead"]) == (500, 4)
        assert found["books"]["balanced"]
        status, said = await seen.post("/api/redrive")
        assert (status, "over" in said["error"]) == (409, True)
        status, said = await seen.post("/api/freeze", nonsense=1)
        assert (status, "nonsense" in said["error"]) == (409, True)
    letters = (tmp_path / "out" / "deadletters.jsonl").read_text().splitlines()
    assert {json.loads(each)["redriven"] for each in letters} >= {1}


async def test_a_redrive_that_the_run_does_not_outlast_says_so_and_keeps_its_letters(tmp_path):
    bodies = [b"rubbish %d" % n for n in range(4)] + [notice(n) for n in range(200)]
    location = archive(tmp_path / "night.sqlite", bodies)
    few = "[flow]\nitems = 8\nfetch = 4\n"
    async with watched(location, tmp_path / "out", few) as seen:
        await seen.until(lambda found: found["books"]["dead"] == 4)

        async def never(errands, *, strict=True):
            if strict:
                return await accept(errands, strict=strict)
            await asyncio.Event().wait()

        accept = seen.run.pipeline.accept
        with mock.patch.object(type(seen.run.pipeline), "accept", side_effect=never):
            await seen.post("/api/redrive", reasons=["unknown_format"])
            found = await seen.until(
                lambda found: found["errands"] and found["errands"][0]["state"] == "failed", 40
            )
        assert "ended first" in found["errands"][0]["message"]
        assert found["books"]["balanced"]
    letters = (tmp_path / "out" / "deadletters.jsonl").read_text().splitlines()
    assert len(letters) == 4


async def test_a_page_of_somebody_else_cannot_ask_by_its_own_name(night, tmp_path):
    async with watched(night, tmp_path / "out", TOLERANT) as seen:
        for host in ("evil.example", "evil.example:8077"):
            async with seen.session.get("/api/status", headers={"Host": host}) as answer:
                assert answer.status == 421
        async with seen.session.get("/", headers={"Host": "localhost:1"}) as answer:
            assert answer.status == 200
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/assets/../server.py", "/assets/%2e%2e%2fserver.py", "/assets/none.js", "/api/none"]
)
async def test_nothing_else_is_served(path, night, tmp_path):
    async with (
        watched(night, tmp_path / "out", TOLERANT) as seen,
        seen.session.get(path) as answer,
    ):
        assert answer.status == 404


async def test_a_port_that_is_taken_is_told_and_the_usual_one_is_given_up_for_another(
    night, tmp_path
):
    settings = load(None)
    model = service.identify_model("galaxies")
    async with contextlib.AsyncExitStack() as stack:
        runs = [
            await stack.enter_async_context(
                service.prepare(
                    night,
                    tmp_path / f"out{n}",
                    settings,
                    invoker=InlineInvoker(Answering(model.weights_sha256)),
                )
            )
            for n in range(2)
        ]
        addresses = {(await stack.enter_async_context(serve(run)))[0] for run in runs}
        assert len(addresses) == 2
        taken = int(addresses.pop().rsplit(":", 1)[1].strip("/"))
        given = settings.status.model_copy(update={"port": taken})
        runs[0].settings.__dict__["status"] = given
        with pytest.raises(SettingsError, match="choose another"):
            await stack.enter_async_context(serve(runs[0]))
        assert free_port() != taken
