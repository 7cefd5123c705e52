"""The proof from outside: by position, and by key where two copies crossed."""

import numpy as np
import pytest

from dispatcher.reconcile import reconcile
from dispatcher.service import identify_model
from dispatcher.settings import load
from ingest.codecs import Decoder
from ingest.codecs.notice import InlineImage, NewImage
from ingest.events import Delivery, Position
from ingest.schemas import MemorySchemas
from ingest.sources.night import NightArchive
from sinks import open_sink
from sinks.record import ResultRecord

SETTINGS = '[sinks]\nrequired = ["results.sqlite", "results.jsonl"]\n'


def body(n):
    image = np.random.default_rng(n).normal(size=(5, 32, 32))
    stamp = InlineImage.of_pixels(image)
    return NewImage(id=n, survey="S", ra=1.0, dec=1.0, stamp=stamp).to_bytes()


async def record(n, partition, offset):
    model = identify_model(None)
    position = Position("night:night.sqlite", partition, offset)
    event = await Decoder(MemorySchemas(), 1 << 20).decode(Delivery(position, body(n), 0.0))
    return ResultRecord(
        result_id=event.key(model.key),
        survey="S",
        alert_id=str(n),
        ra=1.0,
        dec=1.0,
        status="ok",
        z_median=0.1,
        model_name=model.name,
        model_version=model.version,
        weights_sha256=model.weights_sha256,
        run_id="r",
        src_topic=position.source,
        src_partition=partition,
        src_offset=offset,
        t_broker_in=0.0,
        t_published=0.0,
    )


@pytest.fixture
async def prove(tmp_path):
    """Two partitions with a copy of event 1 in each, and event 2; what the sinks hold is given."""
    with NightArchive(tmp_path / "night.sqlite") as night:
        for partition, n in (("a", 1), ("a", 2), ("b", 1)):
            night.add(partition, body(n))
    (tmp_path / "lookback.toml").write_text(SETTINGS)
    output = tmp_path / "out"
    output.mkdir()
    (output / "deadletters.jsonl").touch()

    async def run(**held):
        for name, places in held.items():
            sink = open_sink(output / f"results.{name}")
            await sink.open()
            await sink.write([await record(*place) for place in places])
            await sink.close()
        settings = load(tmp_path / "lookback.toml")
        return await reconcile(str(tmp_path / "night.sqlite"), output, settings)

    return run


FIRST, SECOND, OTHER = (1, "a", 0), (1, "b", 0), (2, "a", 1)


async def test_the_second_copy_is_a_duplicate(prove):
    report = await prove(sqlite=[FIRST, OTHER], jsonl=[FIRST, OTHER])
    assert report.proved
    assert report.totals.outcomes == {"written": 2, "duplicate": 1}


async def test_copies_that_crossed_in_a_crash_are_one_event(prove):
    report = await prove(sqlite=[SECOND, OTHER], jsonl=[FIRST, OTHER])
    assert report.findings == []
    assert report.totals.outcomes == {"written": 2, "duplicate": 1}
    assert report.totals.balanced


async def test_what_one_sink_lacks_is_missing(prove):
    report = await prove(sqlite=[FIRST, OTHER], jsonl=[FIRST])
    assert [each.what for each in report.findings] == ["missing"]
    assert "a:1 is not in results.jsonl" in report.findings[0].where


async def test_what_no_sink_holds_is_missing(prove):
    report = await prove(sqlite=[OTHER], jsonl=[OTHER])
    assert [each.what for each in report.findings] == ["missing", "missing"]
    assert report.totals.in_flight == 2


async def test_a_row_that_the_source_does_not_know_is_a_stray(prove):
    report = await prove(sqlite=[FIRST, OTHER, (3, "c", 9)], jsonl=[FIRST, OTHER])
    assert [each.what for each in report.findings] == ["stray"]
