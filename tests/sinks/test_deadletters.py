"""Dead letters keep everything, once, through crashes: one contract, every store."""

import asyncio
import random
import re
from contextlib import aclosing
from pathlib import Path

import orjson
import pytest
from letters import by_place, held, letter, new_name, new_queue, opened, queue, s3_at

from sinks.deadletters import DeadLetter, DeadLetterFile, ErrorClass, MemoryDeadLetters, Place
from sinks.deadletters.letter import CLASSES
from sinks.deadletters.table import DeadLetterTable
from sinks.deadletters.topic import DeadLetterTopic


@pytest.fixture(params=["memory", "file", "topic", "queue", "fifo", "table"])
async def store(request, tmp_path):
    """Makes sinks that all stand for the same, new, store."""
    name = new_name()
    match request.param:
        case "memory":
            sink = MemoryDeadLetters()
            return lambda: sink
        case "file":
            return lambda: DeadLetterFile(tmp_path / "deadletters.jsonl")
        case "topic":
            servers = request.getfixturevalue("kafka")
            return lambda: DeadLetterTopic(servers, name)
        case "table":
            dsn = request.getfixturevalue("postgres")
            return lambda: DeadLetterTable(dsn, name)
    url = request.getfixturevalue("aws")
    bucket = name.replace("_", "-")
    async with s3_at(url) as s3:
        await s3.create_bucket(Bucket=bucket)
    fifo = request.param == "fifo"
    address = await (
        new_queue(url, f"{name}.fifo", FifoQueue="true") if fifo else new_queue(url, name)
    )
    return lambda: queue(address, url, bodies=f"{bucket}/bodies")


async def test_a_letter_comes_back_as_it_was(store):
    letters = by_place(
        letter(1),
        letter(
            2,
            survey="ZTF",
            alert_id="7",
            result_id="k",
            cost_usd_pico=2**40,
            redriven=3,
            headers={"a": "", "ü\n": "\x1b[31m\ufffe🔭"},
            detail="line\nbreak \x1b[0m \ufffe ü",
        ),
        letter(3, src_topic="a:b", src_partition='c:"d', reason="kills_worker"),
        letter(3, src_topic="a", src_partition='b:c:"d', reason="kills_worker"),
        letter(4, reason="", detail=""),
        letter(5, reason="\x01 of another release " * 100),
    )
    async with opened(store()) as sink:
        await sink.write(list(letters.values()))
        assert await held(sink) == letters
    async with opened(store()) as sink:
        assert await held(sink) == letters


async def test_bodies_are_byte_for_byte(store):
    dice = random.Random(1)
    letters = by_place(
        letter(1, body=b""),
        letter(2, body=dice.randbytes(1000)),
        letter(3, body=dice.randbytes(900_000)),
        letter(4, body=b"\x00\xff\n"),
    )
    async with opened(store()) as sink:
        await sink.write(list(letters.values()))
        assert await held(sink) == letters
        await sink.remove(letters)
        assert await held(sink) == {}


async def test_a_place_is_held_once(store):
    expected = by_place(letter(1), letter(2))
    for _ in range(3):
        async with opened(store()) as sink:
            await sink.write([letter(1), letter(1)])
            await sink.write([])
            await sink.write([letter(2), letter(1)])
            assert await held(sink) == expected


async def test_a_later_letter_takes_the_place_of_the_held_one(store):
    async with opened(store()) as sink:
        await sink.write([letter(1), letter(2)])
    again = letter(1, reason="times_out", redriven=1, t_dead=2.5, body=b"mended")
    async with opened(store()) as sink:
        await sink.write([again])
        assert await held(sink) == by_place(again, letter(2))
        latest = letter(1, redriven=3)
        await sink.write([letter(1, redriven=2), latest])
    async with opened(store()) as sink:
        assert await held(sink) == by_place(latest, letter(2))


async def test_what_is_removed_stays_removed(store):
    letters = [letter(n) for n in range(25)]
    gone = {each.place for each in letters[::2]}
    async with opened(store()) as sink:
        await sink.write(letters)
        await sink.remove(gone)
        await sink.remove([letters[0].place, Place("nowhere", "p", 1)])
        await sink.remove([])
        assert await held(sink) == by_place(*letters[1::2])
    async with opened(store()) as sink:
        assert await held(sink) == by_place(*letters[1::2])
        back = letter(0, t_dead=9.0, redriven=1)
        await sink.write([back])
        assert await held(sink) == by_place(back, *letters[1::2])


async def test_a_removal_takes_every_copy(store):
    async with opened(store()) as sink:
        for n in range(3):
            await sink.write([letter(1, redriven=n), letter(2, redriven=n)])
        await sink.remove([letter(1).place])
    async with opened(store()) as sink:
        assert await held(sink) == by_place(letter(2, redriven=2))


async def test_a_scan_that_is_broken_off_changes_nothing(store):
    letters = by_place(*(letter(n) for n in range(25)))
    async with opened(store()) as sink:
        await sink.write(list(letters.values()))
        async with aclosing(sink.scan()) as scan:
            async for _ in scan:
                break
        assert await held(sink) == letters


async def test_it_may_be_changed_while_it_is_scanned(store):
    async with opened(store()) as sink:
        await sink.write([letter(n) for n in range(25)])
        async with aclosing(sink.scan()) as scan:
            async for each in scan:
                await sink.remove([each.place])
        assert await held(sink) == {}


async def test_a_write_that_was_cancelled_leaves_a_sink_that_works(store):
    async with opened(store()) as sink:
        for n in range(5):
            write = asyncio.create_task(sink.write([letter(n, body=bytes(100_000))]))
            for _ in range(3 * n):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.wait([write])
        await sink.write([letter(9)])
        found = await held(sink)
        assert found.pop(letter(9).place) == letter(9)
        assert all(each.body == bytes(100_000) for each in found.values())


async def test_it_says_what_it_guarantees(store):
    assert store().guarantee.endswith(".")
    assert store().name


CODE = re.compile(r'(?:DecodeError|Unanswerable)\(\s*"(\w+)"|^    reason = "(\w+)"', re.MULTILINE)


def test_every_reason_has_a_class():
    root = Path(__file__).parents[2]
    codes = {
        next(filter(None, found))
        for room in ("ingest", "dispatcher")
        for path in (root / room).rglob("*.py")
        for found in CODE.findall(path.read_text())
    }
    table = (root / "docs" / "events.md").read_text().split("## Dead letters")[1].split("## ")[0]
    codes |= set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    assert {"bad_notice", "kills_worker", "tried_in_vain", "not_finite"} <= codes
    assert codes <= CLASSES.keys()


def test_a_reason_of_another_release_is_never_sent_again_unasked():
    assert letter(1, reason="unheard_of").error_class is ErrorClass.POISON


def test_a_letter_goes_through_json():
    written = letter(1, cost_usd_pico=7)
    line = orjson.loads(orjson.dumps(written.to_json()))
    assert line["src_offset"] == str(2**60 + 1)
    assert (line["error_class"], line["redriven"]) == ("malformed", 0)
    assert DeadLetter.from_json({**line, "of_a_newer_release": 1}) == written
