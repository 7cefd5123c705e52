"""One contract for every sink: what was written is there, once, whatever happens."""

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pyarrow.parquet as pq
import pytest
from aiobotocore.session import get_session
from parts.aws import ACCESS
from rows import record

from sinks import Access, open_sink
from sinks.errors import SinkRefused
from sinks.memory import MemorySink
from sinks.record import ResultRecord, Status
from sinks.sink import Stored

FILES = ["sqlite", "jsonl", "parquet", "hats"]
SESSION = get_session()  # what botocore knows of services is read once
SERVERS = ["postgres", "s3", "hats-s3", "kafka"]


@dataclass(frozen=True)
class Place:
    """Where a sink writes, and what it needs to get there."""

    location: str
    folder: str
    aws: dict = field(default_factory=dict)

    def sink(self):
        return open_sink(self.location, Path(self.folder), Access(aws=self.aws))


async def new_bucket(endpoint):
    """A bucket of its own, and what a client of it needs."""
    aws, name = {"endpoint_url": endpoint, **ACCESS}, f"b-{uuid.uuid4().hex}"
    async with SESSION.create_client("s3", **aws) as client:
        await client.create_bucket(Bucket=name)
    return name, aws


async def new_place(kind, request, folder):
    """An empty place of that kind; its server is started when it is the first to need it."""
    name, aws = f"t{uuid.uuid4().hex}", {}
    match kind:
        case "postgres":
            location = f"{request.getfixturevalue('postgres')}?table={name}"
        case "kafka":
            # Without transactions, what a killed writer had on its way may be doubled.
            address = request.getfixturevalue("kafka")
            location = f"kafka://{address}/{name}?transactional_id={name}"
        case "s3" | "hats-s3":
            bucket, aws = await new_bucket(request.getfixturevalue("aws"))
            location = f"s3://{bucket}/results" + (".hats" if kind == "hats-s3" else "")
        case _:
            location = f"results.{kind}"
    return Place(location, str(folder), aws)


@pytest.fixture(params=["memory", *FILES, *SERVERS])
async def new_sink(request, tmp_path):
    """Makes a sink; called again, the same one after a restart (but for the one in memory)."""
    if request.param == "memory":
        sink = MemorySink()
        return lambda: sink
    return (await new_place(request.param, request, tmp_path)).sink


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
    for _ in range(3):
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


async def test_writes_at_once_of_the_same_keys_double_nothing(new_sink):
    sink = new_sink()
    await sink.open()
    source = random.Random(5)
    batches = [[record(n) for n in source.sample(range(40), 25)] for _ in range(4)]
    await asyncio.gather(*(sink.write(batch) for batch in batches))
    expected = {each.src_offset for batch in batches for each in batch}
    assert [each.src_offset for each in await scanned(sink)] == sorted(expected)
    await sink.close()


async def test_a_write_that_was_cancelled_can_be_repeated(new_sink):
    sink = new_sink()
    await sink.open()
    batch = [record(n) for n in range(50)]
    for _ in range(3):
        write = asyncio.ensure_future(sink.write(batch))
        await asyncio.wait([write], timeout=0.003)
        write.cancel()
        await asyncio.wait([write])
    await sink.write(batch)
    assert [each.src_offset for each in await scanned(sink)] == list(range(50))
    await sink.close()


async def test_a_sink_that_was_closed_can_be_opened_again(new_sink):
    sink = new_sink()
    await sink.close()
    for n in range(2):
        await sink.open()
        await sink.write([record(0), record(n)])
        assert len(await scanned(sink)) == n + 1
        await sink.close()
        await sink.close()


def test_it_says_what_it_promises(new_sink):
    assert new_sink().guarantee.endswith(".")


@pytest.mark.parametrize("kind", ["sqlite", "jsonl", "parquet", "postgres", "s3"])
async def test_every_value_comes_back_as_it_was(kind, request, tmp_path):
    place = await new_place(kind, request, tmp_path)
    sink = place.sink()
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
    assert [ResultRecord(**row) for row in await _rows(kind, place)] == [extreme]


async def _rows(kind, place):
    path = Path(place.folder) / place.location
    if kind == "sqlite":
        db = sqlite3.connect(path)
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM results")]
        db.close()
    elif kind == "jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert rows[0]["source_id"] == str(-(2**63)), "ids are strings in JSON"
    elif kind == "parquet":
        rows = pq.read_table(path).to_pylist()
    elif kind == "postgres":
        dsn, _, table = place.location.partition("?table=")
        db = await asyncpg.connect(dsn)
        rows = [dict(row) for row in await db.fetch(f"SELECT * FROM {table}")]
        await db.close()
    else:
        bucket, _, prefix = place.location.removeprefix("s3://").partition("/")
        async with SESSION.create_client("s3", **place.aws) as client:
            name = f"{prefix}/00/{1:032x}.json"
            answer = await client.get_object(Bucket=bucket, Key=name)
            rows = [json.loads(await answer["Body"].read())]
        assert rows[0]["source_id"] == str(-(2**63)), "ids are strings in JSON"
    return rows


WRITER = """
import asyncio, json, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from rows import record
from sinks import Access, open_sink

async def main():
    place = json.loads(sys.argv[1])
    sink = open_sink(place["location"], Path(place["folder"]), Access(aws=place["aws"]))
    await sink.open()
    for start in range(0, 10**9, 7):
        await sink.write([record(n) for n in range(start, start + 7)])
        print(start + 7, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", [*FILES, *SERVERS])
async def test_what_was_acknowledged_survives_a_kill(kind, request, tmp_path):
    place = await new_place(kind, request, tmp_path)
    here = Path(__file__).parent
    given = json.dumps(vars(place)), str(here), str(here.parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, *given], stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(random.Random(kind).randint(5, 25)):
            acknowledged = int(process.stdout.readline())
    finally:
        process.kill()
        rest, _ = process.communicate()
    acknowledged = max([acknowledged, *map(int, rest.split())])
    sink = place.sink()
    await sink.open()
    offsets = [each.src_offset for each in await scanned(sink)]
    assert len(set(offsets)) == len(offsets), "something is doubled"
    assert set(range(acknowledged)) <= set(offsets), "something is missing"
    assert max(offsets) < acknowledged + 7, "of one write, more or less may be there"
    # A restart repeats what was not committed, in other batches.
    for start in range(max(0, acknowledged - 10), acknowledged + 20, 10):
        await sink.write([record(n) for n in range(start, start + 10)])
    offsets = [each.src_offset for each in await scanned(sink)]
    assert offsets == list(range(len(offsets))), "something is doubled, or missing"
    await sink.close()


@pytest.mark.parametrize("ending", FILES)
async def test_a_place_that_cannot_be_written_is_refused_with_advice(ending, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    sink = open_sink(f"results.{ending}", tmp_path / "file")

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
        await open_sink("results.sqlite", tmp_path).open()


def test_an_unknown_ending_says_which_are_known(tmp_path):
    with pytest.raises(SinkRefused, match=r"\.sqlite.*\.jsonl.*\.parquet"):
        open_sink("results.csv", tmp_path)
