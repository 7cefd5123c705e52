"""Sinks of files on a full disk: nothing is stored by halves, and all is when there is room."""

import tempfile
from collections import Counter

import pytest
from rows import record

from sinks import Access, open_sink
from sinks.errors import NoRoom

_BATCH = 300


@pytest.fixture(params=["sqlite", "jsonl", "parquet", "hats"])
def new_sink(request, tmpfs, monkeypatch):
    # Keys of a catalogue that may lie in a bucket are in the temporary folder.
    monkeypatch.setattr(tempfile, "tempdir", str(tmpfs))
    return lambda: open_sink(f"results.{request.param}", tmpfs, Access())


@pytest.fixture
def hog(tmpfs):
    """Leaves so many KiB of the disk."""
    file = tmpfs / "hog"

    def leave(kib):
        file.unlink(missing_ok=True)
        if kib is not None:
            with file.open("wb", buffering=0) as taken:
                try:
                    while True:
                        taken.write(bytes(4096))
                except OSError:
                    taken.truncate(max(0, taken.tell() - kib * 1024))

    return leave


def rows(start):
    """Rows that do not pack well, so that they need their room."""
    return [
        record(n, alert_id=f"{n * 2654435761 % 2**61:x}", z_median=(n * 7919 % 99991) / 1e6)
        for n in range(start, start + _BATCH)
    ]


async def test_what_had_no_room_is_written_when_there_is_some(new_sink, hog):
    sink, refused, start = new_sink(), 0, 0
    await sink.open()
    # Wherever it is that the room ends: in the rows, in the keys, in what tells of them.
    for kib in (0, 4, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160):
        hog(kib)
        given = rows(start)
        try:
            await sink.write(given)
        except NoRoom:
            refused += 1
            hog(0)
            with pytest.raises(NoRoom, match="make room"):
                await sink.write(given)
            hog(None)
            # Other batches than before, as the writer may have gathered more meanwhile.
            await sink.write([*given[_BATCH // 2 :], *rows(start + _BATCH)])
            await sink.write(given[: _BATCH // 2])
            start += _BATCH
        hog(None)
        start += _BATCH
    await sink.close()
    assert refused
    sink = new_sink()
    await sink.open()
    found = Counter([each.result_id async for each in sink.scan()])
    await sink.close()
    assert found == Counter(f"{n:032x}" for n in range(start))
