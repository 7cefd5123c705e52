"""A night with review: held, decided by the page and by commands, published, and proved."""

import asyncio
import json
import sqlite3
from contextlib import closing

import aiohttp
import pytest
from answering import Answering
from lookback import figures, here
from staged import TOKEN, Stage
from watched import archive, notice

from dispatcher import service
from dispatcher.invokers import InlineInvoker
from dispatcher.settings import load
from sinks.record import Review

EVENTS = 24
HOLD = {"policy": "hold", "flags": (), "share": 0.5}
SINKS = ("results.sqlite", "results.jsonl", "results.parquet")
FILE = f"[review]\npolicy = 'hold'\nflags = []\nshare = 0.5\n[sinks]\nrequired = {list(SINKS)}\n"


def bodies(_):
    return {"p0": [notice(n) for n in range(EVENTS)]}


def answering(weights=None, **given):
    return Answering(service.identify_model(weights).weights_sha256, **given)


def rows(folder):
    """What the sinks hold: in SQLite, and in JSON lines."""
    with closing(sqlite3.connect(folder / "results.sqlite")) as db:
        db.row_factory = sqlite3.Row
        table = {each["result_id"]: dict(each) for each in db.execute("SELECT * FROM results")}
    lines = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    return table, {each["result_id"]: each for each in lines}


async def post(stage, key, token=TOKEN, **body):
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stage.address}api/review/{key}", json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def published(stage, key):
    async with asyncio.timeout(5):
        while (await stage.run.desk.store.find(key)).t_published is None:
            await asyncio.sleep(0.01)


async def test_the_page_decides_while_the_night_goes_on(tmp_path):
    model = answering("galaxies")
    sinks = {"required": SINKS[:2]}
    async with Stage.of(
        tmp_path, bodies, token=TOKEN, answering=model, review=HOLD, sinks=sinks
    ) as stage:
        await stage.settled()
        snapshot, queue = await stage.ask("api/status"), await stage.ask("api/review")
        held = [each["result_id"] for each in queue["items"]]
        assert 0 < queue["total"] == len(held) < EVENTS
        assert snapshot["review"] == {
            "policy": "hold",
            "waiting": len(held),
            "approved": 0,
            "rejected": 0,
        }
        assert snapshot["books"]["written"] == EVENTS
        assert snapshot["credit"]["items"] == 0, "a person who thinks holds nothing back"
        assert {each["name"]: each["written"] for each in snapshot["sinks"]} == {
            "results.sqlite": EVENTS - len(held),
            "results.jsonl": EVENTS - len(held),
            "deadletters.jsonl": 0,
            "review.sqlite": len(held),
        }
        assert not rows(tmp_path / "out")[0].keys() & set(held)

        good, bad, noted, last = held[:4]
        assert (await post(stage, good, "wrong", decision="approve", by="ann"))[0] == 401
        status, said = await post(stage, good, decision="approve", by="ann", note="fine")
        assert status == 200
        assert said["done"].endswith("approved: it is published within 1 s.")
        await post(stage, bad, decision="reject", by="bob", note="a star")
        await post(stage, noted, decision="annotate", by="ann", note="blended?")
        status, said = await post(stage, bad, decision="approve", by="ann")
        assert (status, said["error"][:22]) == (409, f"bob has rejected {bad}"[:22])
        for each in (good, bad):
            await published(stage, each)
        command = ("review", "approve", last, "--by", "ann", "--to", tmp_path / "out")
        printed, _ = await asyncio.to_thread(here, *command)
        assert "approved: it is published by the run that is under way." in printed
        await published(stage, last)
        seen = await stage.ask(f"api/results/{good}")
        listed = await stage.ask("api/review?state=waiting&limit=500")
        latest = await stage.ask("api/results?limit=100")
        metrics_say = stage.run.desk.waiting
    table, lines = rows(tmp_path / "out")
    assert table.keys() == lines.keys()
    assert len(table) == EVENTS - len(held) + 3
    assert table[good]["z_median"] == 0.1
    assert (table[good]["review"], table[good]["review_by"]) == ("approved", "ann")
    assert (lines[bad]["status"], lines[bad]["z_median"]) == ("rejected", None)
    assert lines[bad]["reason"] == "rejected by bob: a star"
    assert seen["record"]["review"] == "approved"
    assert len(seen["stamp"]["pixels"]) == 5
    assert listed["total"] == metrics_say == len(held) - 3
    assert next(each["note"] for each in listed["items"] if each["result_id"] == noted)
    shown = {each["result_id"]: each["review"] for each in latest["results"]}
    assert (shown[good], shown[bad], shown[noted]) == ("approved", "rejected", "waiting")


@pytest.fixture
def night(tmp_path):
    """Events, two of them twice; a settings file."""
    events = [notice(n) for n in range(EVENTS)]
    (tmp_path / "lookback.toml").write_text(FILE)
    return archive(tmp_path / "night.sqlite", [*events, *events[:2]])


def run(location, folder, settings, **given):
    """Follow the night to its end, with a model that is none; gives the totals of the books."""

    async def follow():
        invoker = InlineInvoker(answering(**given))
        async with service.prepare(location, folder, load(settings), invoker=invoker) as prepared:
            await service.follow(prepared, asyncio.Event())
            return prepared.totals().to_json(), list(prepared.recent._seen)

    return asyncio.run(follow())


def test_commands_decide_while_nobody_runs_and_the_next_run_publishes(night, tmp_path):
    out, settings = tmp_path / "out", tmp_path / "lookback.toml"
    books, _ = run(night, out, settings)
    assert (books["written"], books["duplicate"]) == (EVENTS, 2)
    to = ("--to", out)
    queue = figures("review", "list", *to, run=here)
    held = [each["record"]["result_id"] for each in queue["items"]]
    assert queue["total"] == len(held) > 4
    assert queue["items"][0]["record"]["review_rules"] == "share"
    proof = figures("reconcile", night, "--settings", settings, *to, run=here)
    assert proof["books"]["written"] == EVENTS
    assert proof["findings"] == []

    good, also, bad, noted = held[:4]
    said, _ = here("review", "approve", good, also, *to, "--by", "ann")
    assert said.count("approved: it is published by the next run: none is under way.") == 2
    done = figures("review", "reject", bad, *to, "--by", "bob", "--note", "a star", run=here)
    assert done == {"done": [{"result_id": bad, "state": "rejected"}], "running": False}
    here("review", "annotate", noted, *to, "--by", "ann", "--note", "blended?")
    printed, error = here("review", "approve", held[4], bad, *to, code=2)
    assert f"{held[4]} is approved" in printed
    assert "bob has rejected" in error
    assert not rows(out)[0].keys() & set(held)
    assert figures("reconcile", night, "--settings", settings, *to, run=here)["findings"] == []

    run(night, out, settings)  # nothing is left in the source
    table, lines = rows(out)
    assert table.keys() == lines.keys()
    assert len(table) == EVENTS - len(held) + 4
    assert (table[good]["review"], table[also]["review"]) == ("approved", "approved")
    assert (table[bad]["status"], table[bad]["reason"]) == ("rejected", "rejected by bob: a star")
    proof = figures("reconcile", night, "--settings", settings, *to, run=here)
    assert (proof["books"]["written"], proof["findings"]) == (EVENTS, [])

    shown, _ = here("review", "show", good, *to)
    assert "approved" in shown
    listed, _ = here("review", "list", *to, "--state", "rejected")
    assert bad in listed
    assert "a star" in listed
    assert figures("review", "show", bad, *to, run=here)["record"]["z_median"] == 0.1

    forget = ("review", "forget", *to, "--yes", "--older-than")
    assert figures(*forget, "1", run=here) == {"forgotten": 0}
    assert figures(*forget, "0", run=here) == {"forgotten": 4}
    here("review", "show", good, *to, code=2)
    run(night, out, settings)
    assert rows(out)[0].keys() == table.keys()
    assert figures("reconcile", night, "--settings", settings, *to, run=here)["findings"] == []


async def test_while_the_page_stays_after_the_end_decisions_are_published(night, tmp_path):
    given, invoker = load(tmp_path / "lookback.toml"), InlineInvoker(answering())
    async with service.prepare(night, tmp_path / "out", given, invoker=invoker) as run:
        await service.follow(run, asyncio.Event())
        for each in run.pipeline.writer.results:
            each.linger_s = 0.0  # else Parquet waits for company
        _, (first, *_) = await run.desk.store.listing(Review.WAITING, 0, 1)
        key, stopping = first.record.result_id, asyncio.Event()
        staying = asyncio.create_task(service.stay(run, stopping))
        await run.desk.decide(key, "approve", "ann", "")
        async with asyncio.timeout(5):
            while (await run.desk.store.find(key)).t_published is None:
                await asyncio.sleep(0.01)
        stopping.set()
        await staying
    assert rows(tmp_path / "out")[0][key]["review_by"] == "ann"


def test_a_row_that_is_lost_is_missed_also_where_something_is_held(night, tmp_path):
    out, settings = tmp_path / "out", tmp_path / "lookback.toml"
    run(night, out, settings)
    with closing(sqlite3.connect(out / "review.sqlite")) as db:
        db.execute("DELETE FROM held WHERE number = 1")
        db.commit()
    printed, _ = here("reconcile", night, "--settings", settings, "--to", out, code=1)
    assert "in no sink and not a dead letter" in printed


def test_marked_estimates_are_published_at_once(night, tmp_path):
    settings = tmp_path / "lookback.toml"
    settings.write_text(FILE.replace("hold", "mark"))
    run(night, tmp_path / "out", settings)
    table, _ = rows(tmp_path / "out")
    assert len(table) == EVENTS
    marked = [each for each in table.values() if each["review"]]
    assert 0 < len(marked) < EVENTS
    assert {(each["review"], each["review_rules"], each["review_by"]) for each in marked} == {
        ("marked", "share", None)
    }
    assert not (tmp_path / "out" / "review.sqlite").exists()


def test_drift_sends_estimates_to_a_person_from_the_alarm_on(night, tmp_path):
    settings = tmp_path / "lookback.toml"
    settings.write_text(
        "[review]\npolicy = 'mark'\nflags = []\ndrift = true\n[batch]\nitems = 4\n"
        "[workers]\ncount = 1\nranks = 1\n"
    )
    _, seen = run(night, tmp_path / "out", settings, drift=["g-r"])
    reviews = [each.row.review for each in sorted(seen, key=lambda each: each.number)]
    assert reviews[-1] == "marked"


def test_where_nothing_was_held_the_commands_say_so(tmp_path):
    _, error = here("review", "list", "--to", tmp_path, code=2)
    assert "nothing was held for review" in error
    assert "review.policy" in error
