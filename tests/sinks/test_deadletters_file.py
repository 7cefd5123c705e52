"""Dead letters in a file: continued, mended, rewritten, and killed in the middle."""

import signal
import subprocess
import sys
import tracemalloc
from contextlib import aclosing
from pathlib import Path

import pytest
from letters import by_place, held, letter, new_name, opened

from sinks.deadletters import DeadLetterFile
from sinks.deadletters.table import DeadLetterTable
from sinks.errors import SinkRefused

OLD_LINE = (
    b'{"src_topic":"night:n.sqlite","src_partition":"p","src_offset":"1152921504606846977",'
    b'"reason":"bad_sync","detail":"the sync marker is missing","attempts":0,"body":"AAH/",'
    b'"run_id":"r","t_dead":1.5,"cost_usd_pico":null,"headers":{"unreadable":"no"},'
    b'"survey":null,"alert_id":null,"result_id":null}\n'
)


async def test_a_file_of_the_first_release_is_read_and_continued(tmp_path):
    path = tmp_path / "deadletters.jsonl"
    path.write_bytes(OLD_LINE)
    old = letter(1, body=b"\x00\x01\xff")
    async with opened(DeadLetterFile(path)) as sink:
        assert await held(sink) == by_place(old)
        await sink.write([old, letter(2)])
        assert await held(sink) == by_place(old, letter(2))
    assert path.read_bytes().startswith(OLD_LINE)


async def test_what_a_restart_repeats_is_not_appended(tmp_path):
    path = tmp_path / "deadletters.jsonl"
    async with opened(DeadLetterFile(path)) as sink:
        await sink.write([letter(1)])
    before = path.read_bytes()
    async with opened(DeadLetterFile(path)) as sink:
        await sink.write([letter(1, run_id="another", t_dead=99.0)])
    assert path.read_bytes() == before


async def test_a_torn_last_line_is_cut_off_by_who_writes_only(tmp_path):
    path = tmp_path / "deadletters.jsonl"
    async with opened(DeadLetterFile(path)) as sink:
        await sink.write([letter(1)])
    whole = path.read_bytes()
    torn = whole + whole[: len(whole) // 2]
    path.write_bytes(torn)
    async with opened(DeadLetterFile(path)) as reader:
        assert await held(reader) == by_place(letter(1))
    assert path.read_bytes() == torn
    async with opened(DeadLetterFile(path)) as sink:
        await sink.write([letter(2)])
        assert await held(sink) == by_place(letter(1), letter(2))


async def test_a_file_that_is_mostly_dead_lines_is_rewritten(tmp_path):
    path = tmp_path / "deadletters.jsonl"
    path.with_name("deadletters.jsonl.rewriting").write_bytes(b"what a crash left")
    async with opened(DeadLetterFile(path)) as sink:
        await sink.write([letter(n) for n in range(50)])
        await sink.remove([letter(n).place for n in range(45)])
    full = path.stat().st_size
    path.chmod(0o640)
    async with opened(DeadLetterFile(path)) as sink:
        async with aclosing(sink.scan()) as looking:
            first = await anext(looking)
            await sink.write([letter(99)])
            assert path.stat().st_size < full / 5
            # Who was looking goes on with the file that he opened.
            assert by_place(first, *[each async for each in looking]).keys() == {
                letter(n).place for n in range(45, 50)
            }
        assert await held(sink) == by_place(*(letter(n) for n in (*range(45, 50), 99)))
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


async def test_bodies_are_not_kept_in_memory(tmp_path):
    path = tmp_path / "deadletters.jsonl"
    async with opened(DeadLetterFile(path)) as sink:
        for n in range(0, 200, 20):
            await sink.write([letter(n + m, body=bytes(100_000)) for m in range(20)])
    tracemalloc.start()
    try:
        async with opened(DeadLetterFile(path)) as sink:
            await sink.remove([letter(0).place])
            async with aclosing(sink.scan()) as scan:
                assert sum([1 async for _ in scan]) == 199
        assert tracemalloc.get_traced_memory()[1] < 3_000_000  # of 20 MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("line", [b"rubbish\n", b"[1]\n", b"{}\n"])
async def test_a_file_of_something_else_is_refused(tmp_path, line):
    path = tmp_path / "deadletters.jsonl"
    path.write_bytes(OLD_LINE + line)
    async with opened(DeadLetterFile(path)) as sink:
        with pytest.raises(SinkRefused, match=f"at byte {len(OLD_LINE)} what is no dead letter"):
            await held(sink)
        with pytest.raises(SinkRefused, match="no dead letter"):
            await sink.write([letter(1)])


async def test_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(SinkRefused, match="check the folder"):
        await DeadLetterFile(tmp_path / "absent" / "deadletters.jsonl").open()


# Writes forever, every third time removing what it wrote two writes ago, and says what was done.
WRITER = """
import asyncio, sys
from pathlib import Path
from sinks.deadletters import DeadLetter, DeadLetterFile
from sinks.deadletters.table import DeadLetterTable

def letter(n):
    return DeadLetter("t", "p", n, "bad_sync", "d", 0, n.to_bytes(4, "big") * 5000, "r", 1.5)

async def main(kind, where):
    sink = DeadLetterFile(Path(where)) if kind == "file" else DeadLetterTable(*where.split(" "))
    await sink.open()
    n = int(sys.argv[3])
    while True:
        await sink.write([letter(n), letter(n + 1)])
        print("wrote", n, n + 1, flush=True)
        await sink.remove([letter(n).place])
        print("removed", n, flush=True)
        n += 2

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.parametrize("kind", ["file", "table"])
async def test_a_killed_writer_lost_nothing_and_brought_nothing_back(kind, request, tmp_path):
    if kind == "file":
        where = str(tmp_path / "deadletters.jsonl")
        sink = DeadLetterFile(Path(where))
    else:
        dsn, table = request.getfixturevalue("postgres"), new_name()
        where, sink = f"{dsn} {table}", DeadLetterTable(dsn, table)
    wrote, removed, begin = set(), set(), 0
    for rounds, lines in enumerate((7, 20, 41), start=1):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, where, str(begin)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(lines):
            take(writer.stdout.readline(), wrote, removed)
        writer.send_signal(signal.SIGKILL)
        for line in writer.communicate()[0].splitlines():
            take(line, wrote, removed)
        begin = max(wrote) + 3  # behind what may have been written and not told
        async with opened(sink):
            found = {each.src_offset: each.body for each in (await held(sink)).values()}
        assert all(body == n.to_bytes(4, "big") * 5000 for n, body in found.items())
        assert not found.keys() & removed
        assert {n for n in wrote if n % 2} <= found.keys(), "what is never removed"
        # A removal may be done and not told, one each time.
        assert len(wrote - removed - found.keys()) <= rounds


def take(line, wrote, removed):
    word, *numbers = line.split()
    (wrote if word == "wrote" else removed).update(map(int, numbers))
