"""One contract for every sink: what was written is there, once, whatever happens."""

import json
import random
import sqlite3
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from sinks import open_sink
from sinks.errors import SinkRefused
from sinks.memory import MemorySink
from sinks.record import ResultRecord, Status
from sinks.sink import Stored


def record(n, **changed):
    fields = {
        "result_id": f"{n:032x}",
        "survey": "LSST",
        "alert_id": str(2**62 + n),
        "source_id": 2**62 + n,
        "ra": 10.0 + n / 1000,
        "dec": -30.5,
        "status": Status.OK,
        "z_median": 0.1 + n / 1e6,
        "quality_flag": 0,
        "model_name": "m",
        "model_version": "1",
        "weights_sha256": "0" * 64,
        "run_id": "r",
        "src_topic": "t",
        "src_partition": "p",
        "src_offset": n,
        "t_broker_in": 1.5,
        "t_published": 2.5,
    }
    return ResultRecord(**{**fields, **changed})


@pytest.fixture(params=["memory", "sqlite", "jsonl", "parquet"])
def new_sink(request, tmp_path):
    """Makes a sink; called again, the same one after a restart (but for the one in memory)."""
    if request.param == "memory":
        sink = MemorySink()
        return lambda: sink
    return lambda: open_sink(tmp_path / f"results.{request.param}")


async def scanned(sink):
    return sorted([each async for each in sink.scan()])


async def test_what_is_written_is_there(new_sink):
    sink = new_sink()
    await sink.open()
    await sink.write([record(1), record(2, status=Status.NO_STAMP, z_median=None)])
    await sink.write([record(3)])
    assert await scanned(sink) == [
        Stored(f"{1:032x}", "t", "p", 1, "ok"),
        Stored(f"{2:032x}", "t", "p", 2, "no_stamp"),
        Stored(f"{3:032x}", "t", "p", 3, "ok"),
    ]
    await sink.close()


async def test_a_key_is_stored_once(new_sink):
    sink = new_sink()
    await sink.open()
    await sink.write([record(1), record(1), record(2)])
    await sink.write([record(2), record(3)])
    assert len(await scanned(sink)) == 3
    await sink.close()


async def test_a_restart_with_other_batches_doubles_nothing(new_sink):
    source = random.Random(4)
    for _ in range(4):
        sink = new_sink()
        await sink.open()
        numbers = list(range(60))
        source.shuffle(numbers)
        while numbers:
            size = source.randint(1, 20)
            batch, numbers = numbers[:size], numbers[size:]
            await sink.write([record(n) for n in batch])
        assert [each.src_offset for each in await scanned(sink)] == list(range(60))
        await sink.close()


async def test_an_empty_sink_scans_to_nothing(new_sink):
    sink = new_sink()
    await sink.open()
    await sink.write([])
    assert await scanned(sink) == []
    await sink.close()


@pytest.mark.parametrize("ending", ["sqlite", "jsonl", "parquet"])
async def test_every_value_comes_back_as_it_was(ending, tmp_path):
    path = tmp_path / f"results.{ending}"
    sink = open_sink(path)
    await sink.open()
    extreme = record(
        1,
        source_id=-(2**63),
        src_offset=2**63 - 1,
        z_median=None,
        quality_flag=None,
        object_id="a 'quoted' \n näme",
        reason="",
        ra=359.99999999999994,
    )
    await sink.write([extreme])
    await sink.close()
    assert _rows(path, ending) == [extreme]


def _rows(path, ending):
    if ending == "sqlite":
        db = sqlite3.connect(path)
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM results")]
        db.close()
    elif ending == "jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert rows[0]["source_id"] == str(-(2**63)), "ids are strings in JSON"
    else:
        rows = pq.read_table(path).to_pylist()
    return [ResultRecord(**row) for row in rows]


WRITER = """
import asyncio, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from sinks import open_sink
from test_contract import record

async def main():
    sink = open_sink(Path(sys.argv[1]))
    await sink.open()
    for start in range(int(sys.argv[2]), 10**9, 7):
        await sink.write([record(n) for n in range(start, start + 7)])
        print(start + 7, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("ending", ["sqlite", "jsonl", "parquet"])
async def test_what_was_acknowledged_survives_a_kill(ending, tmp_path):
    source = random.Random(11)
    path, acknowledged = tmp_path / f"results.{ending}", 0
    here = str(__import__("pathlib").Path(__file__).parent)
    for _ in range(4):
        # Begin a little earlier than it got: a restart repeats what was not committed.
        start = max(0, acknowledged - 10)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(start), here],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(source.randint(5, 60)):
            acknowledged = int(process.stdout.readline())
        process.kill()
        rest, _ = process.communicate()
        acknowledged = max([acknowledged, *map(int, rest.split())])
        sink = open_sink(path)
        await sink.open()
        offsets = [each.src_offset for each in await scanned(sink)]
        await sink.close()
        assert sorted(offsets) == list(range(len(offsets))), "something is missing or doubled"
        assert len(offsets) >= acknowledged


@pytest.mark.parametrize("ending", ["sqlite", "jsonl", "parquet"])
async def test_a_place_that_cannot_be_written_is_refused_with_advice(ending, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    sink = open_sink(tmp_path / "file" / f"results.{ending}")

    async def use():
        await sink.open()
        await sink.write([record(1)])

    with pytest.raises(SinkRefused, match="check"):
        await use()


async def test_a_file_of_another_release_is_refused(tmp_path):
    db = sqlite3.connect(tmp_path / "results.sqlite")
    db.execute("CREATE TABLE results (result_id TEXT)")
    db.close()
    with pytest.raises(SinkRefused, match="another release"):
        await open_sink(tmp_path / "results.sqlite").open()


def test_an_unknown_ending_says_which_are_known(tmp_path):
    with pytest.raises(SinkRefused, match=r"\.sqlite.*\.jsonl.*\.parquet"):
        open_sink(tmp_path / "results.csv")
