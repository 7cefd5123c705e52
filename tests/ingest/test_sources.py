"""One contract for every source: the same events at the same places, from wherever one begins."""

import sqlite3
from contextlib import closing

import packets
import pytest

from dispatcher.onlooker import Onlooker
from ingest.errors import SourceError
from ingest.sources import open_source
from ingest.sources.memory import MemorySource
from ingest.sources.night import NightArchive

NOTICES = [packets.notice(n).to_bytes() for n in range(25)]


@pytest.fixture(params=["memory", "folder", "lines", "container", "night"])
def new_source(request, tmp_path):
    """Makes a source of 25 events, again and again."""
    if request.param == "memory":
        return lambda: MemorySource({"a": NOTICES[:10], "b": NOTICES[10:]})
    if request.param == "folder":
        (tmp_path / "deep").mkdir()
        for n, body in enumerate(NOTICES):
            (tmp_path / ("deep" if n % 2 else ".") / f"{n:03d}.json").write_bytes(body)
        (tmp_path / "notes.txt").write_text("not an event")
        (tmp_path / ".hidden.json").write_text("not an event")
        return lambda: open_source(str(tmp_path))
    if request.param == "lines":
        (tmp_path / "night.jsonl").write_bytes(b"\n".join(NOTICES) + b"\n\n")
        return lambda: open_source(str(tmp_path / "night.jsonl"))
    if request.param == "container":
        records = [{"n": n, "data": body} for n, body in enumerate(NOTICES)]
        (tmp_path / "night.avro").write_bytes(packets.container(records, "deflate"))
        return lambda: open_source(str(tmp_path / "*.avro"))
    with NightArchive(tmp_path / "night.sqlite") as archive:
        for n, body in enumerate(NOTICES):
            archive.add(f"partition {n % 3}", body)
    return lambda: open_source(str(tmp_path / "night.sqlite"))


async def everything(source, first=lambda _: 0, limit=4):
    await source.open(Onlooker(first))
    deliveries = []
    while not source.exhausted:
        taken = await source.take(limit)
        assert len(taken) <= limit
        deliveries += taken
    await source.close()
    return deliveries


async def test_every_event_comes_once_in_the_order_of_its_partition(new_source):
    deliveries = await everything(new_source())
    assert len(deliveries) == 25
    assert len({each.position for each in deliveries}) == 25
    by_partition = {}
    for each in deliveries:
        by_partition.setdefault(each.position.partition, []).append(each.position.offset)
    for offsets in by_partition.values():
        assert offsets == list(range(len(offsets)))


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_the_same_events_are_at_the_same_places_in_every_run(new_source, limit):
    first, second = [
        {d.position: d.body for d in await everything(new_source(), limit=n)} for n in (4, limit)
    ]
    assert first == second


@pytest.mark.parametrize("start", [1, 3, 8])
async def test_it_can_be_begun_anywhere(new_source, start):
    whole = {d.position: d.body for d in await everything(new_source())}
    rest = await everything(new_source(), lambda _: start)
    expected = {at: body for at, body in whole.items() if at.offset >= start}
    assert {d.position: d.body for d in rest} == expected


async def test_what_cannot_be_read_is_delivered_all_the_same(tmp_path):
    good = packets.container([{"n": n, "data": b"x" * 50} for n in range(5)], sync_interval=1)
    (tmp_path / "damaged.avro").write_bytes(good[:-30])
    (tmp_path / "garbage.avro").write_bytes(b"garbage")
    deliveries = await everything(open_source(str(tmp_path)))
    damaged = [d for d in deliveries if d.position.partition == "damaged.avro"]
    assert len(damaged) == 1, "a container whose end is missing is one event with all its bytes"
    assert damaged[0].body == good[:-30]
    (garbage,) = [d for d in deliveries if d.position.partition == "garbage.avro"]
    assert garbage.body == b"garbage"


async def test_damage_in_a_block_costs_only_what_lies_behind_it(tmp_path):
    records = [{"n": n, "data": b"x" * 50} for n in range(5)]
    packet = bytearray(packets.container(records, "deflate", sync_interval=1))
    places = [i for i in range(len(packet)) if packet.startswith(packet[-16:], i)]
    packet[places[3] + 16 + 5] ^= 0xFF  # inside the fourth block
    (tmp_path / "damaged.avro").write_bytes(packet)
    deliveries = await everything(open_source(str(tmp_path)))
    assert [bool(d.headers) for d in deliveries] == [False, False, False, True]
    assert "damaged from here" in deliveries[-1].headers["unreadable"]


def rows(path, *values):
    """A night archive that something else wrote."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute('CREATE TABLE events (partition, "offset", body, received)')
        db.executemany("INSERT INTO events VALUES (?, ?, ?, 0)", values)
    return path


async def test_a_body_that_is_text_is_delivered_as_its_bytes(tmp_path):
    path = rows(tmp_path / "a.sqlite", ("p", 0, "{ä}"), ("p", 1, b"\xff"), ("p", 2, None))
    deliveries = await everything(open_source(str(path)))
    assert [each.body for each in deliveries] == ["{ä}".encode(), b"\xff", b""]
    assert [bool(each.headers) for each in deliveries] == [False, False, True]


@pytest.mark.parametrize("row", [("p", "one", b""), ("p", 0.5, b""), (7, 0, b""), (None, 0, b"")])
async def test_an_archive_with_other_columns_is_an_error_of_one_line(tmp_path, row):
    path = rows(tmp_path / "a.sqlite", row)
    with pytest.raises(SourceError) as caught:
        await everything(open_source(str(path)))
    assert "\n" not in str(caught.value)


async def test_a_damaged_page_is_an_error_of_one_line(tmp_path):
    path = tmp_path / "night.sqlite"
    with NightArchive(path) as archive:
        for n in range(200):
            archive.add("p", bytes(1000) + str(n).encode())
    whole = path.read_bytes()
    damaged = b"".join(
        b"\xff" * 4096 if whole[at : at + 1] == b"\x0d" and at > 8192 else whole[at : at + 4096]
        for at in range(0, len(whole), 4096)
    )  # every leaf of the table, and not the index that lists the partitions
    path.write_bytes(damaged)
    with pytest.raises(SourceError, match="a page cannot be read") as caught:
        await everything(open_source(str(path)))
    assert "\n" not in str(caught.value)


async def test_a_glob_may_name_the_file_behind_the_folders(tmp_path, monkeypatch):
    for night in ("one", "two"):
        (tmp_path / night).mkdir()
        (tmp_path / night / "y.jsonl").write_bytes(NOTICES[0])
        (tmp_path / night / "other.jsonl").write_bytes(NOTICES[1])
    names = ["one/y.jsonl", "two/y.jsonl"]
    monkeypatch.chdir(tmp_path.parent)
    for location in (f"{tmp_path}/*/y.jsonl", f"{tmp_path.name}/*/y.jsonl"):
        deliveries = await everything(open_source(location))
        assert [each.position.partition for each in deliveries] == names
        assert {each.body for each in deliveries} == {NOTICES[0]}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path / "absent", "does not exist"),
        (lambda path: path, "holds no events"),
        (lambda path: path / "*.avro", "holds no events"),
        (lambda path: path / "a**b" / "*.avro", "cannot be looked through|holds no events"),
        (lambda path: path / "*\0", "cannot be looked through|holds no events"),
        (lambda path: path / ("x" * 5000), "cannot be opened"),
        (lambda path: _written(path / "notes.txt", b"hello"), "holds no events"),
        (lambda path: _written(path / "a.sqlite", b"SQLite format 3\x00junk"), "night archive"),
    ],
    ids=[
        "absent",
        "empty folder",
        "empty glob",
        "no glob",
        "no name",
        "long",
        "other file",
        "not an archive",
    ],
)
async def test_a_source_that_is_none_says_so_in_one_line(tmp_path, make, says):
    with pytest.raises(SourceError, match=says) as caught:
        await open_source(str(make(tmp_path))).open(Onlooker())
    assert "\n" not in str(caught.value)


def _written(path, data):
    path.write_bytes(data)
    return path
