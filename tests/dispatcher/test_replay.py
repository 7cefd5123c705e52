"""Replays: what is asked for, that it is kept to the end, and what a run of one leaves behind."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest
from answering import Answering
from kafka_topics import fresh, producing

from dispatcher import replay, service
from dispatcher.commands import following
from dispatcher.commands import replay as cli_replay
from dispatcher.errors import LaneStopped, SettingsError
from dispatcher.invokers import InlineInvoker
from dispatcher.replay import Plan, Wanted
from dispatcher.replay.estimate import estimate
from dispatcher.replay.purse import with_purse
from dispatcher.settings import load
from ingest.codecs.notice import InlineImage, NewImage
from ingest.errors import SourceError
from ingest.events import Partition
from ingest.sources.night import NightArchive
from ingest.sources.rated import RatedSource
from ingest.sources.span import Range, Span

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
LAMBDA = """
[spend]
price = "aws-lambda/us-east-1/x86_64"
night_usd = 5
[flow]
grace_s = 0.2
"""


@pytest.fixture
def night(tmp_path):
    """Sixty events, a minute apart from the noon of a day on, in two partitions."""
    stamp = InlineImage.of_pixels(np.random.default_rng(3).normal(size=(5, 32, 32)))
    path = tmp_path / "night.sqlite"
    with NightArchive(path) as archive:
        for n in range(60):
            notice = NewImage(
                id=n, survey="S", ra=1.0, dec=1.0, magnitudes=(20.0,) * 5, stamp=stamp
            )
            archive.add(str(n % 2), notice.to_bytes(), NOON + 60 * n)
    return str(path)


@pytest.fixture
def inline(monkeypatch):
    """Workers without a model, in this process; gives what they were asked."""
    handler = Answering(service.identify_model("galaxies").weights_sha256)
    prepare = service.prepare

    def prepared(*arguments, **options):
        return prepare(*arguments, **options, invoker=InlineInvoker(handler))

    monkeypatch.setattr(service, "prepare", prepared)
    return handler


@pytest.fixture
def lookback(tmp_path, capsys):
    """Runs `lookback replay` with its options as the command line has them, and settings."""

    def call(location, settings="", **options):
        file = tmp_path / "lookback.toml"
        file.write_text(settings)
        options = {"into": tmp_path / "again", "settings": file, "as_json": True, **options}
        cli_replay.replay(location, **options)
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return call


def results(folder):
    with closing(sqlite3.connect(folder / "results.sqlite")) as db:
        return dict(db.execute("SELECT result_id, tense FROM results"))


def minutes(first, last):
    """Options for a part of the night."""
    times = (datetime.fromtimestamp(NOON + 60 * each, UTC).isoformat() for each in (first, last))
    return dict(zip(("since", "until"), times, strict=True))


def asked(handler):
    return sum(map(len, handler.asked))


# What is asked for.


def test_a_topic_of_the_night_is_that_of_the_date():
    wanted = Wanted("kafka://b:9092/ztf_%Y%m%d_programid1", on=date(2026, 11, 20)).resolved(12.0)
    assert wanted == Wanted("kafka://b:9092/ztf_20261120_programid1")


def test_topics_of_the_night_between_two_times_are_those_of_all_dates():
    span = Span(NOON, NOON + 86400)
    wanted = Wanted("kafka://b:9092/ztf_%Y%m%d,other", span=span).resolved(12.0)
    assert wanted.location == "kafka://b:9092/ztf_20261120,ztf_20261121,other"
    assert wanted.span == span


def test_other_sources_have_their_night_from_noon_to_noon():
    wanted = Wanted("kafka://b:9092/all", on=date(2026, 11, 20)).resolved(19.5)
    assert wanted.span == Span(NOON + 7.5 * 3600, NOON + 7.5 * 3600 + 86400)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on": "yesterday"}, "no date"),
        ({"since": "noon"}, "no time"),
        ({"on": "2026-11-20", "since": "2026-11-20"}, "not both"),
        ({"since": "2026-11-20", "until": "2026-11-19T12:00Z"}, "not after"),
        ({"offsets": ["0:5"]}, "write it like"),
        ({"offsets": ["0:5-5"]}, "write it like"),
        ({"offsets": ["0:5-6", "0:7-8"]}, "given twice"),
        ({"offsets": ["0:5-6"], "on": "2026-11-20"}, "leave --on"),
        ({"purse_usd": "much"}, "no amount"),
        ({"purse_usd": "-1"}, "no amount"),
        ({"purse_usd": "NaN"}, "no amount"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(lookback, tmp_path, night, options, said):
    with pytest.raises(SettingsError, match=said) as caught:
        lookback(night, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("kafka://b:9092/ztf_%Y%m%d", "say which"),
        ("sqs://queue", "keeps nothing"),
        ("nowhere/", "does not exist"),
    ],
)
def test_what_cannot_be_read_again_is_one_line(lookback, location, said):
    with pytest.raises((SettingsError, SourceError), match=said) as caught:
        lookback(location)
    assert "\n" not in str(caught.value)


def test_times_and_offsets_are_read_as_they_are_written():
    assert cli_replay.time_of("--from", "2026-11-20T14:00:00+02:00") == NOON
    assert cli_replay.time_of("--from", "2026-11-20T12:00") == NOON
    wanted = cli_replay.offsets_of(["topic:0:5-9", "1:7-"])
    assert wanted == {"topic:0": Range(5, 9), "1": Range(7, 2**63 - 1)}


# What is kept.


def test_a_plan_is_kept_as_it_was_found(tmp_path):
    assert Plan.load(tmp_path) is None
    plan = Plan(Wanted("x").to_json(), {Partition("t", "0"): Range(3, 9)}, None)
    plan.keep(tmp_path)
    assert Plan.load(tmp_path) == plan
    assert plan.events == 6
    (tmp_path / replay.PLAN_FILE).write_text("{")
    with pytest.raises(SettingsError, match="another folder"):
        Plan.load(tmp_path)


# What a run leaves behind.


def test_a_replay_answers_its_part_and_says_that_it_is_archival(lookback, inline, tmp_path, night):
    summary = lookback(night, **minutes(10, 30))
    assert summary["books"]["written"] == summary["books"]["received"] == asked(inline) == 20
    found = results(tmp_path / "again")
    assert len(found) == 20
    assert set(found.values()) == {"archival"}


def test_a_replay_lands_on_the_keys_of_the_live_lane(lookback, inline, tmp_path, night):
    following.follow(night, tmp_path / "live", load(None), following.Shown(as_json=True))
    lookback(night, **minutes(0, 20))
    assert results(tmp_path / "again").keys() < results(tmp_path / "live").keys()


def test_a_finished_replay_says_so_and_does_nothing_twice(lookback, inline, tmp_path, night):
    lookback(night, **minutes(10, 30))
    rows, before = results(tmp_path / "again"), asked(inline)
    again = lookback(night, **minutes(10, 30))
    assert again["finished"]
    assert again["events"] == 20
    assert asked(inline) == before
    assert results(tmp_path / "again") == rows


def test_another_replay_needs_another_folder(lookback, inline, tmp_path, night):
    lookback(night, **minutes(10, 30))
    with pytest.raises(SettingsError, match=r"another replay.*from 2026-11-20"):
        lookback(night, **minutes(0, 10))
    following.follow(night, tmp_path / "live", load(None), following.Shown(as_json=True))
    with pytest.raises(SettingsError, match="no replay"):
        lookback(night, into=tmp_path / "live")


def test_a_replay_goes_on_where_it_was_and_to_the_same_end(tmp_path, inline, lookback, night):
    folder, settings = tmp_path / "again", load(None)
    folder.mkdir()

    async def a_part():
        source, _ = await replay.resume(Wanted(night), folder, settings)
        take, taken = source.take, 0

        async def seven(limit):
            nonlocal taken
            if taken:
                run.lane.stop()
                return []
            taken = 7
            return await take(min(limit, 7))

        source.take = seven
        async with service.prepare(
            night, folder, settings, replaying=source, tense="archival"
        ) as run:
            await run.lane.run()

    asyncio.run(a_part())
    assert asked(inline) == 7
    with NightArchive(tmp_path / "night.sqlite") as archive:
        archive.add("0", b"{}", NOON)
    summary = lookback(night)
    assert asked(inline) == 60, "nothing is asked twice, and what came later is no part of it"
    assert summary["books"]["received"] == len(results(folder)) == 60
    assert lookback(night)["finished"]


def test_a_rate_is_kept(lookback, inline, night):
    summary = lookback(night, **minutes(0, 24), rate=16.0)
    assert summary["books"]["written"] == 24
    assert summary["images_per_s"] < 18


async def test_a_replay_stands_still_while_another_dispatcher_needs_the_workers(
    inline, tmp_path, night
):
    folder, settings = tmp_path / "again", load(None)
    folder.mkdir()
    source, _ = await replay.resume(Wanted(night), folder, settings)
    slow = RatedSource(source, 20.0, time.monotonic)
    async with service.prepare(night, folder, settings, replaying=slow, tense="archival") as run:
        lane = asyncio.create_task(run.lane.run())
        while not asked(inline):
            await asyncio.sleep(0.01)
        await run.pipeline.scheduler.ledger.store.need("another", time.time() + 2.0)
        await asyncio.sleep(0.6)
        assert run.pipeline.queue.paused
        before = asked(inline)
        await asyncio.sleep(0.6)
        assert asked(inline) == before < 60
        await lane
    assert asked(inline) == 60


async def _fill(kafka, topics, bodies):
    async with producing(kafka) as producer:
        for topic, body in zip(topics, bodies, strict=True):
            await producer.send_and_wait(topic, body)


def test_a_topic_of_a_night_is_read_again(lookback, inline, kafka, night):
    word = fresh("night")
    with closing(sqlite3.connect(night)) as db:
        bodies = [body for (body,) in db.execute("SELECT body FROM events LIMIT 12")]
    topics = [f"{word}_20261120"] * 8 + [f"{word}_20261121"] * 4
    asyncio.run(_fill(kafka, topics, bodies))
    location = f"kafka://{kafka}/{word}_%Y%m%d"
    assert lookback(location, on="2026-11-20", dry_run=True)["events"] == 8
    assert lookback(location, on="2026-11-20")["books"]["written"] == 8
    assert lookback(location, on="2026-11-20")["finished"]
    assert asked(inline) == 8


def test_stopped_by_hand_the_same_command_goes_on(tmp_path, night):
    """In a process of its own, with the shipped model."""
    command = "import typer; from dispatcher.commands.replay import replay; typer.run(replay)"
    into = tmp_path / "again"
    arguments = [sys.executable, "-c", command, night, "--into", str(into), "--json"]
    slow = subprocess.Popen([*arguments, "--rate", "10"], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not _rows(into) and time.monotonic() < deadline:
        time.sleep(0.05)
    slow.send_signal(signal.SIGINT)
    out, _ = slow.communicate(timeout=60)
    first = json.loads(out.splitlines()[-1])["books"]
    assert slow.returncode == 0
    assert 0 < first["received"] < 60
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    books = json.loads(done.stdout.splitlines()[-1])["books"]
    assert books["received"] == _rows(into) == 60
    assert books["duplicate"] == 0


def _rows(folder):
    if not (folder / "results.sqlite").exists():
        return 0
    with closing(sqlite3.connect(folder / "results.sqlite")) as db:
        try:
            return db.execute("SELECT count(*) FROM results").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # just being made


# Money.


def test_a_dry_run_counts_and_costs_and_leaves_nothing(lookback, inline, tmp_path, night):
    found = lookback(night, LAMBDA, **minutes(0, 30), dry_run=True, rate=0.5)
    assert found["events"] == 30
    assert found["partitions"] == 2
    assert 0 < found["usd"] < 0.01
    assert found["seconds"] == 60.0
    assert not (tmp_path / "again").exists()
    assert not asked(inline)


def test_an_estimate_grows_with_the_events(tmp_path):
    (tmp_path / "lookback.toml").write_text(LAMBDA)
    settings = load(tmp_path / "lookback.toml")
    small, large = (estimate(n, settings, tmp_path, None) for n in (1_000, 10_000))
    assert small.cost * 9 < large.cost < small.cost * 11
    assert small.seconds * 8 < large.seconds < small.seconds * 12
    nothing = estimate(0, settings, tmp_path, None)
    assert (nothing.calls, nothing.cost, nothing.seconds) == (0, 0, 0.0)


def test_the_smaller_cap_holds(tmp_path):
    (tmp_path / "lookback.toml").write_text("[replay]\nmonth_usd = 2\n")
    settings = load(tmp_path / "lookback.toml")
    assert with_purse(settings, Decimal("0.5")).replay.month_usd == Decimal("0.5")
    assert with_purse(settings, Decimal(7)).replay.month_usd == 2


def test_a_replay_ends_when_its_money_is_spent_and_goes_on_with_more(
    lookback, inline, tmp_path, night
):
    with pytest.raises(LaneStopped, match="--purse-usd"):
        lookback(night, LAMBDA, purse_usd="0.0000001")
    assert asked(inline) == 0
    summary = lookback(night, LAMBDA, purse_usd="1")
    assert summary["books"]["written"] == 60
    assert summary["spent_usd"] > 0
    assert lookback(night, LAMBDA)["finished"]
