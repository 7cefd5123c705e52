"""Dead letters sent again by the normal road; the books and the proof know of it."""

import json

import numpy as np
import pytest
from answering import Answering

from dispatcher import service
from dispatcher.clock import SystemClock
from dispatcher.deadletters import MINUTES, Selection, discard
from dispatcher.invokers import InlineInvoker
from dispatcher.reconcile import reconcile
from dispatcher.settings import load
from ingest.codecs.notice import InlineImage, NewImage
from ingest.sources.night import NightArchive
from sinks.deadletters import DeadLetterFile

LIMITS = "[dead_letters]\nmax_ratio = 1.0\n"


def body(n):
    """A notice whose stamp carries its number where `Answering` looks for it."""
    image = np.random.default_rng(n).normal(size=(5, 32, 32))
    image[0, 0, 0] = n
    stamp = InlineImage.of_pixels(image)
    return NewImage(
        id=n, survey="S", ra=1.0, dec=1.0, magnitudes=(20.0,) * 5, stamp=stamp
    ).to_bytes()


@pytest.fixture
def night(tmp_path):
    with NightArchive(tmp_path / "night.sqlite") as archive:
        for n in range(20):
            archive.add(f"p{n % 2}", b"rubbish" if n in (4, 9) else body(n))
    return str(tmp_path / "night.sqlite")


@pytest.fixture
def run(tmp_path):
    """Runs a location, or redrives; `kills` are the items that no worker survives."""

    async def follow(location, kills=(), redrive=None):
        file = tmp_path / "lookback.toml"
        file.write_text(LIMITS)
        settings = load(file)
        sha = service.identify_model("galaxies").weights_sha256
        invoker = InlineInvoker(Answering(sha, kills=kills))
        output = tmp_path / "out"
        async with service.prepare(
            location, output, settings, redrive=redrive, invoker=invoker
        ) as given:
            await given.lane.run()
            return given.totals()

    return follow


async def letters(tmp_path):
    store = DeadLetterFile(tmp_path / "out" / "deadletters.jsonl")
    await store.open()
    held = [each async for each in store.scan()]
    await store.close()
    return {each.place.src_offset * 2 + int(each.place.src_partition[1]): each for each in held}


async def proof(tmp_path, night):
    return await reconcile(night, tmp_path / "out", load(tmp_path / "lookback.toml"))


async def test_what_is_answered_now_is_a_dead_letter_no_more(run, night, tmp_path):
    first = await run(night, kills=(3.0, 6.0))
    assert first.outcomes == {"written": 16, "dead": 4}
    assert sorted(await letters(tmp_path)) == [3, 4, 6, 9]

    again = await run(None, redrive=lambda letter: letter.reason != "bad_notice")
    assert (again.outcomes["written"], again.outcomes["dead"]) == (2, 2)
    held = await letters(tmp_path)
    assert sorted(held) == [4, 9]
    assert {each.redriven for each in held.values()} == {1}

    report = await proof(tmp_path, night)
    assert report.findings == []
    assert report.totals.outcomes == {"written": 18, "dead": 2}


async def test_what_dies_again_may_be_sent_again(run, night, tmp_path):
    await run(night, kills=(3.0,))
    for times in (1, 2):
        await run(None, kills=(3.0,), redrive=lambda letter: True)
        assert (await letters(tmp_path))[3].redriven == times
    await run(None, redrive=lambda letter: letter.place.src_offset == 1)
    assert sorted(await letters(tmp_path)) == [4, 9]
    assert (await proof(tmp_path, night)).findings == []


async def test_a_discarded_letter_is_dead_and_not_missing(run, night, tmp_path):
    await run(night)
    store = DeadLetterFile(tmp_path / "out" / "deadletters.jsonl")
    await store.open()
    selection = Selection(reasons=frozenset({"unknown_format"}))
    minutes = tmp_path / "out" / MINUTES
    assert await discard(store, selection, minutes, SystemClock()) == 2
    await store.close()
    report = await proof(tmp_path, night)
    assert report.findings == []
    assert report.totals.outcomes["dead"] == 2
    assert [json.loads(each)["reason"] for each in minutes.read_text().splitlines()] == [
        "unknown_format",
        "unknown_format",
    ]
