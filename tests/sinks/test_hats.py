"""The HATS catalogue: what LSDB, DuckDB and Arrow read of it, at any moment, after any crash."""

import json
import random
import signal
import subprocess
import sys
import uuid
import warnings
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import dask
import duckdb
import hats
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hats.io.validation import is_valid_catalog
from hats.pixel_math.spatial_index import compute_spatial_index
from parts.aws import ACCESS
from places import close, place, record
from pyarrow import fs

from sinks.errors import SinkRefused, SinkUnavailable
from sinks.hats import HatsSink, compact, compaction, parts, sink, store
from sinks.hats.sky import Leaf, Partitioning, healpix_29, split
from sinks.record import ResultRecord
from sinks.sink import Stored

with warnings.catch_warnings():
    # LSDB sets an option that pandas has given up.
    warnings.filterwarnings("ignore", ".*mode.chained_assignment", pd.errors.Pandas4Warning)
    import lsdb

# And nested-pandas, which it is built on, drops columns as pandas will not have it any more.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The inplace keyword in NestedFrame:pandas.errors.Pandas4Warning"
)


@contextmanager
def opened(location, **options):
    """Without awaiting: also for what must not run on in the background."""
    made = HatsSink(location, **options)
    made._open()
    try:
        yield made
    finally:
        made._close()


def filled(location, numbers, size=50, of=record, **options):
    """A closed catalogue with these records, written in batches."""
    numbers = list(numbers)
    with opened(location, **options) as made:
        for start in range(0, len(numbers), size):
            made._write([of(n) for n in numbers[start : start + size]])
    return location


def rows(catalog):
    """All rows of an LSDB catalogue, in order of source offset."""
    with dask.config.set(scheduler="synchronous"):
        return catalog.compute(progress_bar=False).sort_values("src_offset")


def offsets(location):
    """What LSDB finds, by source offset."""
    return rows(lsdb.open_catalog(location))["src_offset"].tolist()


def listed(location):
    """The same with fewer words, for many looks: every file of every leaf that is listed."""
    paths = hats.read_hats(location).main_catalog.get_pixel_paths()
    tables = (pq.read_table(path.path, columns=["src_offset"], partitioning=None) for path in paths)
    return sorted(offset for table in tables for offset in table["src_offset"].to_pylist())


def catalogue_of(location):
    """The folder of the generation that counts."""
    return Path(hats.read_hats(location).main_catalog_dir)


def files(location):
    return sorted(catalogue_of(location).glob("dataset/*/*/*/*"))


async def scanned(made):
    return sorted([each async for each in made.scan()])


# What is in it


def test_lsdb_finds_every_value_and_place(tmp_path):
    at = filled(tmp_path / "z.hats", range(100))
    catalog = lsdb.open_catalog(at, columns="all")
    frame = rows(catalog)
    assert len(catalog) == 100
    assert frame["z_median"].tolist() == [record(n).z_median for n in range(100)]
    assert frame["source_id"].tolist() == [2**62 + n for n in range(100)]
    assert frame["reason"].isna().all()
    assert frame.index.tolist() == compute_spatial_index(frame["ra"], frame["dec"]).tolist()
    ra, dec = place(7)
    near = rows(lsdb.open_catalog(at, search_filter=lsdb.ConeSearch(ra, dec, 2)))
    assert near["src_offset"].tolist() == [7]
    assert rows(catalog.cone_search(ra, dec, 2))["src_offset"].tolist() == [7]


def test_every_value_comes_back_as_it_was(tmp_path):
    extreme = record(
        1,
        source_id=-(2**63),
        src_offset=2**63 - 1,
        z_median=None,
        object_id="a 'quoted' \n näme",
        reason="",
        ra=359.99999999999994,
    )
    with opened(tmp_path / "z.hats") as made:
        made._write([extreme])
    (part,) = files(tmp_path / "z.hats")
    (row,) = pq.read_table(part, partitioning=None).drop_columns("_healpix_29").to_pylist()
    assert ResultRecord(**row) == extreme


def test_the_validator_of_hats_has_no_complaint(tmp_path):
    at = filled(tmp_path / "z.hats", range(100))
    assert is_valid_catalog(at)
    assert is_valid_catalog(at, strict=True)
    info = hats.read_hats(at).main_catalog.catalog_info
    assert (info.catalog_name, info.catalog_type, info.total_rows) == ("z", "object", 100)
    assert (info.ra_column, info.dec_column, info.npix_suffix) == ("ra", "dec", "/")
    assert (info.healpix_column, info.healpix_order) == ("_healpix_29", 29)
    assert info.moc_sky_fraction == pytest.approx(len(hats.read_hats(at).get_healpix_pixels()) / 12)
    assert info.hats_max_rows < 100
    assert info.hats_builder.startswith("lookback ")


def test_parts_are_sorted_and_lie_in_their_leaf(tmp_path):
    at = filled(tmp_path / "z.hats", range(200), order=1)
    assert len(files(at)) > 48
    for path in files(at):
        leaf = Leaf.of(path.as_posix())
        pixels = pq.read_table(path, partitioning=None)["_healpix_29"].to_numpy()
        assert (np.diff(pixels) >= 0).all()
        assert leaf.order == 1
        assert leaf.first <= pixels[0] <= pixels[-1] < leaf.end


def test_duckdb_reads_it_with_plain_sql(tmp_path):
    at = filled(tmp_path / "z.hats", range(100))
    compact(at, max_rows=20)  # Two generations lie there now; one counts.
    with duckdb.connect() as db:
        db.execute(
            f"""
            SET VARIABLE parts = (
                SELECT '{at}/' || regexp_extract(content, 'hats_primary_table_url=(.*)', 1)
                    || '/dataset/*/*/*/*.parquet'
                FROM read_text('{at}/collection.properties'))
            """
        )
        found = db.execute(
            "SELECT count(*), count(DISTINCT result_id), count(DISTINCT Npix) "
            "FROM read_parquet(getvariable('parts'), hive_partitioning=true)"
        ).fetchone()
    assert found == (100, 100, len(files(at)))


def test_arrow_reads_it_as_a_data_set(tmp_path):
    at = filled(tmp_path / "z.hats", range(100))
    found = ds.dataset(catalogue_of(at) / "dataset", partitioning="hive").to_table()
    assert sorted(found["src_offset"].to_pylist()) == list(range(100))
    assert {"Norder", "Dir", "Npix"} <= set(found.column_names)


def test_an_empty_catalogue_can_be_opened(tmp_path):
    assert offsets(filled(tmp_path / "z.hats", [])) == []
    assert is_valid_catalog(tmp_path / "z.hats", strict=True)


def test_what_the_fields_mean_is_said_once(tmp_path):
    at = filled(tmp_path / "z.hats", range(5))
    said = pq.read_schema(catalogue_of(at) / "dataset" / "_common_metadata")
    assert said.equals(parts.SCHEMA, check_metadata=True)
    assert said.field("z_median").metadata[b"description"] == b"0.5 quantile of p(z)"
    assert all(pq.read_schema(path).field("z_median").metadata is None for path in files(at))


# Places


def test_poles_and_the_turn_of_ra(tmp_path):
    edge = [(0, 90), (123, 90), (0, -90), (0, 0), (360, 0), (-0.0, 0), (359.9999999, 0), (45, 0)]
    with opened(tmp_path / "z.hats") as made:
        made._write([record(n, ra=ra, dec=dec) for n, (ra, dec) in enumerate(edge)])
    frame = rows(lsdb.open_catalog(tmp_path / "z.hats"))
    assert frame.index.tolist() == compute_spatial_index(*np.array(edge, float).T).tolist()
    assert frame.index[3] == frame.index[4]
    around = rows(lsdb.open_catalog(tmp_path / "z.hats").cone_search(0, 0, 1))
    assert around["src_offset"].tolist() == [3, 4, 5, 6]
    assert set(rows(lsdb.open_catalog(tmp_path / "z.hats").cone_search(7, 90, 1))["ra"]) == {0, 123}


@pytest.mark.parametrize(("ra", "dec"), [(float("nan"), 0), (0, float("nan")), (0, 90.1)])
def test_a_place_that_is_not_on_the_sky_is_refused(tmp_path, ra, dec):
    with opened(tmp_path / "z.hats") as made:
        with pytest.raises(SinkRefused, match="not on the sky"):
            made._write([record(1), record(2, ra=ra, dec=dec)])
        made._write([record(1)])
    assert offsets(tmp_path / "z.hats") == [1]


def test_new_leaves_fit_between_the_old_ones():
    source = np.random.default_rng(3)
    pixels = np.sort(source.integers(0, 12 << 58, 500))
    old = [leaf for leaf, _, _ in split(Leaf(0, 4), pixels[(pixels >> 58) == 4], 3)]
    leaves = Partitioning(old[::2])
    runs = list(leaves.cut(pixels))
    assert [start for _, start, _ in runs] == [0, *(stop for _, _, stop in runs[:-1])]
    assert runs[-1][2] == 500
    for leaf, start, stop in runs:
        assert leaf.first <= pixels[start] <= pixels[stop - 1] < leaf.end
    used = sorted({leaf for leaf, _, _ in runs} | set(old[::2]), key=lambda leaf: leaf.first)
    assert all(a.end <= b.first for a, b in pairwise(used))


def test_a_leaf_is_split_by_count_and_not_for_ever():
    pixels = np.sort(healpix_29([10.0] * 50 + [11.0], [20.0] * 51))
    pieces = list(split(Leaf(0, int(pixels[0]) >> 58), pixels, 20))
    assert sum(stop - start for _, start, stop in pieces) == 51
    assert max(leaf.order for leaf, _, _ in pieces) == 11
    assert all(stop > start for _, start, stop in pieces)


# Keys


async def test_a_restart_with_other_batches_doubles_nothing(tmp_path):
    source = random.Random(4)
    for turn in range(3):
        made = HatsSink(tmp_path / "z.hats")
        await made.open()
        numbers = list(range(60 + turn))
        source.shuffle(numbers)
        while numbers:
            size = source.randint(1, 20)
            batch, numbers = numbers[:size], numbers[size:]
            await made.write([close(n) for n in [*batch, batch[0]]])
        await made.write([])
        assert [each.src_offset for each in await scanned(made)] == list(range(60 + turn))
        await made.close()
        if turn == 1:
            compact(tmp_path / "z.hats", max_rows=10)
    assert offsets(tmp_path / "z.hats") == list(range(62))


async def test_a_sink_that_is_not_open_promises_nothing(tmp_path):
    made = HatsSink(tmp_path / "z.hats")
    with pytest.raises(SinkUnavailable, match="not open"):
        await made.write([record(1)])
    await made.close()


def test_one_writer_at_a_time(tmp_path):
    at = tmp_path / "z.hats"
    with opened(at) as first:
        with pytest.raises(SinkRefused, match="another process"):
            HatsSink(at)._open()
        with pytest.raises(SinkRefused, match="another process"):
            compact(at)
        first._write([record(1)])
    assert offsets(filled(at, [1, 2])) == [1, 2]


# Releases


def test_parts_of_an_older_release_are_read_with_nulls(tmp_path, monkeypatch):
    older = pa.schema(
        [field for field in parts.SCHEMA if field.name != "cost_usd_pico"],
        metadata=parts.SCHEMA.metadata,
    )
    at = filled(tmp_path / "z.hats", range(20))
    for path in files(at):
        pq.write_table(pq.read_table(path, partitioning=None).select(older.names), path)
    with opened(at) as made:
        made._write([record(n, cost_usd_pico=7) for n in range(10, 30)])
    for _ in range(2):
        frame = rows(lsdb.open_catalog(at, columns="all"))
        assert frame["src_offset"].tolist() == list(range(30))
        assert frame["cost_usd_pico"].isna().tolist() == [True] * 20 + [False] * 10
        compact(at)


def test_another_layout_is_refused(tmp_path):
    at = filled(tmp_path / "z.hats", range(5))
    path = files(at)[0]
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.append_column("tomorrow", [[1] * len(table)]), path)
    with pytest.raises(SinkRefused, match=r"another release.*tomorrow"):
        HatsSink(at)._open()
    pq.write_table(table.drop_columns("status"), path)
    with pytest.raises(SinkRefused, match=r"another release.*status"):
        HatsSink(at)._open()
    with pytest.raises(SinkRefused, match="something else wrote"):
        HatsSink(catalogue_of(at))._open()


def test_a_place_that_cannot_be_written_is_refused_with_advice(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SinkRefused, match="check"):
        HatsSink(tmp_path / "file" / "z.hats")._open()
    with pytest.raises(SinkRefused, match="nothing to compact"):
        compact(tmp_path / "none.hats")
    assert not (tmp_path / "none.hats").exists()


# Metadata


def test_a_manifest_tells_of_each_write(tmp_path):
    with opened(tmp_path / "z.hats") as made:
        made._write([record(n, src_partition=str(n % 2)) for n in range(40)])
    (path,) = catalogue_of(tmp_path / "z.hats").glob("manifests/*")
    told = json.loads(path.read_text())
    assert told["rows"] == sum(part["rows"] for part in told["parts"]) == 40
    for part in told["parts"]:
        file = tmp_path / "z.hats" / part["path"]
        assert file.stat().st_size == part["bytes"]
        pixels = pq.read_table(file, partitioning=None)["_healpix_29"].to_pylist()
        assert [str(pixels[0]), str(pixels[-1])] == part["healpix_29"]
    assert sorted(told["sources"], key=lambda each: each["partition"]) == [
        {"topic": "t", "partition": "0", "first": "0", "last": "38", "rows": 20},
        {"topic": "t", "partition": "1", "first": "1", "last": "39", "rows": 20},
    ]


def test_the_number_of_rows_is_a_minute_old_at_most(tmp_path):
    now = [0.0]
    with opened(tmp_path / "z.hats", clock=lambda: now[0]) as made:
        counts = []
        for n in range(4):
            made._write([record(n, ra=10, dec=10)])
            now[0] += 40
            counts.append(hats.read_hats(tmp_path / "z.hats").main_catalog.catalog_info.total_rows)
        assert counts == [1, 1, 3, 3]
        assert offsets(tmp_path / "z.hats") == [0, 1, 2, 3], "the rows are there, though"
    assert len(lsdb.open_catalog(tmp_path / "z.hats")) == 4


# Crashes


class Killed(BaseException):
    """The process is gone."""


CHANGES = ("create", "link", "delete", "delete_folder")


class Dying(store.Disk):
    """A disk whose process dies at a given change, before it or after it, and stays dead."""

    def __init__(self, root, at, seen):
        super().__init__(root)
        self.at, self.done, self.seen = at, 0, seen

    def change(self, name, *arguments):
        if self.done >= self.at:
            raise Killed
        done = getattr(store.Disk, name)(self, *arguments)
        self.done += 1
        self.seen()
        return done

    @contextmanager
    def create(self, path):
        if self.done >= self.at:
            raise Killed
        with super().create(path) as file:
            yield file
        self.done += 1
        self.seen()

    def link(self, path, new):
        self.change("link", path, new)

    def delete(self, path):
        self.change("delete", path)

    def delete_folder(self, path):
        self.change("delete_folder", path)


def dying(module, monkeypatch, at, seen=lambda: None):
    """Disks that the module opens die at this change; after each one before, it is `seen`."""
    monkeypatch.setattr(module, "open_store", lambda location, s3: Dying(Path(location), at, seen))


def bury(dead):
    """Let go of what the system takes from a dead process."""
    dead._store.unlock()
    dead._keys.close()
    if dead._pool:
        dead._pool.shutdown()


def test_a_write_that_dies_anywhere_is_finished_by_a_restart(tmp_path, monkeypatch):
    for steps in range(100):
        at = filled(tmp_path / f"{steps}.hats", range(4), of=close)
        with monkeypatch.context() as patched:
            dying(sink, patched, steps)
            dead = HatsSink(at)
            died = False
            try:
                dead._open()
                dead._write([close(n) for n in range(2, 14)])
            except Killed:
                died = True
            bury(dead)
        found = listed(at)
        assert set(range(4)) <= set(found) <= set(range(14))
        assert len(found) == len(set(found))
        # Other batches than before.
        filled(at, range(1, 16), size=4, of=close)
        assert listed(at) == list(range(16))
        assert is_valid_catalog(at, strict=True)
        told = [json.loads(path.read_text()) for path in catalogue_of(at).glob("manifests/*")]
        assert sum(each["rows"] for each in told) == 16
        if not died:
            break
    assert steps > 8


def test_a_write_that_fails_half_way_doubles_nothing_with_other_batches(tmp_path, monkeypatch):
    class Flaky(store.Disk):
        fails = False

        def put(self, path, data):
            if self.fails and "/dataset/Norder" in path and "Npix=4" in path:
                super().put(path, data)
                raise TimeoutError("no answer")
            super().put(path, data)

        def failure(self, error):
            return SinkUnavailable(str(error))

    monkeypatch.setattr(sink, "open_store", lambda location, s3: Flaky(Path(location)))
    with opened(tmp_path / "z.hats") as made:
        made._store.fails = True
        with pytest.raises(SinkUnavailable, match="no answer"):
            made._write([record(n) for n in range(60)])
        with pytest.raises(SinkUnavailable, match="no answer"):
            made._write([record(n) for n in range(50, 70)])
        made._store.fails = False
        made._write([record(n) for n in range(30, 70)])
        made._write([record(n) for n in range(40)])
    assert offsets(tmp_path / "z.hats") == list(range(70))
    assert len(lsdb.open_catalog(tmp_path / "z.hats")) == 70


def test_a_leaf_is_listed_even_if_the_first_attempt_to_list_it_failed(tmp_path, monkeypatch):
    at = filled(tmp_path / "z.hats", [])
    with opened(at) as made:
        with monkeypatch.context() as patched:
            patched.setattr(made._catalogue, "publish", lambda *_: (at / "no" / "x").touch())
            with pytest.raises(SinkRefused):
                made._write([record(1)])
        made._write([record(1)])
        assert listed(at) == [1]


def test_readers_find_a_valid_catalogue_after_every_single_change(tmp_path, monkeypatch):
    at, acknowledged, seen = tmp_path / "z.hats", [], []

    def look():
        if (at / "collection.properties").exists():
            seen.append(listed(at))
            assert set(acknowledged) <= set(seen[-1])
            assert len(set(seen[-1])) == len(seen[-1])

    dying(sink, monkeypatch, 10**9, look)
    with opened(at) as made:
        for n in range(0, 12, 4):
            made._write([close(m) for m in range(n, n + 4)])
            acknowledged += range(n, n + 4)
    assert len(seen) > 20
    dying(compaction, monkeypatch, 10**9, look)
    compact(at, max_rows=2)
    assert len(seen) > 35
    assert seen[-1] == list(range(12))


# Compaction


def test_compaction_merges_and_splits(tmp_path):
    at = filled(tmp_path / "z.hats", range(200), size=20)
    before = lsdb.open_catalog(at)
    leaves = len(before.get_healpix_pixels())
    done = compact(at, max_rows=20)
    assert (done.rows, done.parts_after, done.leaves) == (200, len(files(at)), len(files(at)))
    assert done.parts_before > 80
    assert offsets(at) == list(range(200))
    assert is_valid_catalog(at, strict=True)
    for path in files(at):
        table = pq.read_table(path, partitioning=None)
        leaf, pixels = Leaf.of(path.as_posix()), table["_healpix_29"].to_numpy()
        assert 0 < len(table) <= 20
        assert table.schema.equals(parts.SCHEMA)
        assert leaf.first <= pixels[0] <= pixels[-1] < leaf.end
        assert (np.diff(pixels) >= 0).all()
    # Who opened it before reads on what was there then.
    assert len(before.get_healpix_pixels()) == leaves < done.leaves
    assert rows(before)["src_offset"].tolist() == list(range(200))
    # And the sink goes on in the new leaves.
    filled(at, range(260), size=30)
    assert offsets(at) == list(range(260))
    assert is_valid_catalog(at, strict=True)


def test_what_is_compact_is_not_written_again(tmp_path):
    at = filled(tmp_path / "z.hats", range(60))
    compact(at)
    first = {path.name: path.stat().st_ino for path in files(at)}
    done = compact(at, keep_previous=False)
    assert {path.name: path.stat().st_ino for path in files(at)} == first
    assert done.generation == "generation-00000003"
    assert [each.name for each in at.glob("generation-*")] == ["generation-00000003"]
    assert offsets(at) == list(range(60))


def test_rows_are_merged_in_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "_PASS_ROWS", 7)
    with opened(tmp_path / "z.hats") as made:
        for start in range(0, 60, 10):
            made._write([record(n, ra=10 + n % 5, dec=3) for n in range(start, start + 10)])
    compact(tmp_path / "z.hats")
    (part,) = files(tmp_path / "z.hats")
    assert pq.read_metadata(part).num_row_groups > 2
    assert (np.diff(pq.read_table(part, partitioning=None)["_healpix_29"].to_numpy()) >= 0).all()
    assert offsets(tmp_path / "z.hats") == list(range(60))


def test_a_compaction_that_dies_anywhere_loses_and_doubles_nothing(tmp_path, monkeypatch):
    at, rows_there = filled(tmp_path / "z.hats", range(30), size=10, of=close), 30
    for steps in range(100):
        with monkeypatch.context() as patched:
            dying(compaction, patched, steps)
            try:
                compact(at, max_rows=12, keep_previous=False)
            except Killed:
                assert listed(at) == list(range(rows_there))
            else:
                break
        if steps % 6 == 5:
            # The sink goes on before the compaction is tried again.
            rows_there += 3
            filled(at, range(rows_there), of=close)
    assert steps > 7
    assert listed(at) == list(range(rows_there))
    assert is_valid_catalog(at, strict=True)
    assert len(list(at.glob("generation-*"))) == 1


def test_a_compaction_goes_on_where_the_last_one_died(tmp_path, monkeypatch):
    at = filled(tmp_path / "z.hats", range(60), size=20)
    leaves = len(hats.read_hats(at).get_healpix_pixels())
    with monkeypatch.context() as patched:
        dying(compaction, patched, 14)  # A part and a manifest for each leaf: seven leaves.
        with pytest.raises(Killed):
            compact(at)
    finished = set(at.glob("generation-00000002/dataset/*/*/*/*"))
    times = {path: path.stat().st_mtime_ns for path in finished}
    assert len(finished) == 7 < leaves
    compact(at)
    assert {path: path.stat().st_mtime_ns for path in finished} == times
    assert set(files(at)) > finished
    assert offsets(at) == list(range(60))


def test_a_write_in_the_middle_stops_a_compaction(tmp_path, monkeypatch):
    at = filled(tmp_path / "z.hats", range(30), size=10)

    def intruding(self, files):
        monkeypatch.undo()
        new = files[0].path.replace(".parquet", "-late.parquet")
        (at / new).write_bytes((at / files[0].path).read_bytes())
        return self._pixels(files)

    monkeypatch.setattr(compaction._Compaction, "_pixels", intruding)
    with pytest.raises(SinkRefused, match="nothing was changed"):
        compact(at)
    assert catalogue_of(at).name == "generation-00000001"


KILLED = """
import asyncio, sys
sys.path[:0] = sys.argv[3:]
from sinks.hats import HatsSink, compact
from places import close

async def write(at, start):
    sink = HatsSink(at)
    await sink.open()
    print("ready", flush=True)
    for n in range(start, 10**9, 40):
        await sink.write([close(m) for m in range(n, n + 40)])
        print(n + 40, flush=True)

def compactions(at):
    print("ready", flush=True)
    for n in range(10**9):
        compact(at, max_rows=200 + n % 2 * 5000, keep_previous=n % 3 > 0)
        print(n, flush=True)

if sys.argv[1] == "compact":
    compactions(sys.argv[2])
asyncio.run(write(sys.argv[2], int(sys.argv[1])))
"""


def killed(what, at, lines):
    """Runs until it has said so many lines, then is killed; what it said."""
    tests = Path(__file__).parent
    paths = [str(tests), str(tests.parent), str(tests.parents[1])]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(what), str(at), *paths],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
    return [*said, *rest.splitlines()]


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    source, at, acknowledged = random.Random(11), tmp_path / "z.hats", 0
    for turn in range(2):
        # Begin a little earlier than it got: a restart repeats what was not committed.
        said = killed(max(0, acknowledged - 15), at, source.randint(5, 20))
        acknowledged = max(acknowledged, int(said[-1]))
        found = listed(at)
        assert found == sorted(set(found)), "doubled"
        assert set(range(acknowledged)) <= set(found), "missing"
        if turn == 0:
            killed("compact", at, 4)
            assert listed(at) == found
    compact(at)
    assert offsets(at) == found


# S3


@pytest.fixture
def bucket(aws):
    """A fresh bucket's address, what opens it, and its objects through Arrow."""
    name = f"hats-{uuid.uuid4().hex}"
    s3 = {"endpoint_url": aws, **ACCESS}
    arrow = fs.S3FileSystem(
        access_key="test",
        secret_key="test",
        region="us-east-1",
        scheme="http",
        endpoint_override=aws.removeprefix("http://"),
        allow_bucket_creation=True,
    )
    arrow.create_dir(name)
    return f"s3://{name}/night/z.hats", s3, arrow


def fetched(arrow, location, folder):
    """The catalogue as it lies in the bucket, on disk: LSDB needs s3fs to read it there."""
    fs.copy_files(location.removeprefix("s3://"), str(folder), arrow, fs.LocalFileSystem())
    return folder


async def test_a_catalogue_in_a_bucket(bucket, tmp_path):
    location, s3, arrow = bucket
    for numbers in (range(20), range(10, 40)):
        made = HatsSink(location, s3=s3)
        await made.open()
        await made.write([record(n) for n in numbers])
        await made.close()
    assert (await scanned(made))[0] == Stored(f"{0:032x}", "t", "p", 0, "ok")
    at = fetched(arrow, location, tmp_path / "before")
    assert offsets(at) == list(range(40))
    assert is_valid_catalog(at, strict=True)
    done = compact(location, s3=s3, max_rows=10, keep_previous=False)
    assert (done.rows, done.parts_before > done.leaves) == (40, True)
    at = fetched(arrow, location, tmp_path / "after")
    assert offsets(at) == list(range(40))
    assert len(files(at)) == done.leaves


async def test_a_compaction_between_two_writes_to_a_bucket(bucket, tmp_path):
    location, s3, arrow = bucket
    made = HatsSink(location, s3=s3)
    await made.open()
    await made.write([record(n) for n in range(20)])
    compact(location, s3=s3, max_rows=5)
    await made.write([record(n) for n in range(10, 30)])
    await made.close()
    assert offsets(fetched(arrow, location, tmp_path / "z")) == list(range(30))


async def test_a_bucket_that_fails_while_the_keys_are_read_is_read_again(
    bucket, tmp_path, monkeypatch
):
    location, s3, arrow = bucket
    made = HatsSink(location, s3=s3)
    await made.open()
    for start in range(0, 20, 5):
        await made.write([close(n) for n in range(start, start + 5)])
    compact(location, s3=s3, max_rows=5)
    real, left = made._keys_in, [2]

    def failing(file):
        left[0] -= 1
        if left[0] == 0:
            raise TimeoutError("no answer")
        return real(file)

    monkeypatch.setattr(made, "_keys_in", failing)
    with pytest.raises(SinkUnavailable, match="no answer"):
        await made.write([close(n) for n in range(10, 30)])
    await made.write([close(n) for n in range(10, 30)])
    await made.close()
    assert offsets(fetched(arrow, location, tmp_path / "z")) == list(range(30))


async def test_a_bucket_that_is_not_there_is_refused(bucket):
    _, s3, _ = bucket
    with pytest.raises(SinkRefused, match="check the bucket's name"):
        await HatsSink("s3://no-such-bucket/z.hats", s3=s3).open()


async def test_a_server_that_is_not_there_is_unavailable(unused_port):
    gone = {"endpoint_url": f"http://127.0.0.1:{unused_port}", **ACCESS}
    with pytest.raises(SinkUnavailable, match="does not answer") as raised:
        await HatsSink("s3://bucket/z.hats", s3=gone).open()
    assert "test" not in str(raised.value).split("127.0.0.1")[0]


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield free.getsockname()[1]
