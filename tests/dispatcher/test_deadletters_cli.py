"""Dead letters in a person's hands."""

import io
import json

import pytest
from rich.console import Console

from dispatcher.clock import ManualClock
from dispatcher.commands.deadletters_view import describe, show_letter, show_listing
from dispatcher.deadletters import (
    Selection,
    discard,
    discarded,
    find_letter,
    list_letters,
    save_body,
)
from dispatcher.errors import SettingsError
from sinks.deadletters import DeadLetter, DeadLetterFile, ErrorClass, MemoryDeadLetters, Place
from sinks.errors import SinkUnavailable

EVERYTHING = Selection()


def letter(n, reason="bad_notice", **changed):
    fields = {
        "src_topic": "night:n.sqlite",
        "src_partition": "p",
        "src_offset": n,
        "reason": reason,
        "detail": "ra is missing",
        "attempts": 0,
        "body": b"{}" * n,
        "run_id": "r",
        "t_dead": 1_800_000_000.0 + n,
    }
    return DeadLetter(**{**fields, **changed})


LETTERS = [
    letter(0),
    letter(1, "times_out", attempts=3, cost_usd_pico=1_250, survey="ZTF", alert_id="17"),
    letter(2, "kills_worker", attempts=5, cost_usd_pico=400),
    letter(3, src_topic="kafka:ztf", src_partition="a:b"),
]


@pytest.fixture(params=["memory", "file"])
async def sink(request, tmp_path):
    """Holds `LETTERS`."""
    made = {
        "memory": MemoryDeadLetters,
        "file": lambda: DeadLetterFile(tmp_path / "deadletters.jsonl"),
    }[request.param]()
    await made.open()
    await made.write(LETTERS)
    yield made
    await made.close()


@pytest.fixture
def printed():
    """A console, and what was printed on it."""
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    return console, console.file.getvalue


async def offsets(sink):
    return sorted([each.src_offset async for each in sink.scan()])


async def test_a_list_counts_all_and_shows_the_latest(sink):
    listing = await list_letters(sink, EVERYTHING, limit=2)
    assert [each.place.src_offset for each in listing.entries] == [3, 2]
    assert (listing.total, listing.bytes, listing.cost_usd_pico) == (4, 12, 1650)
    assert listing.reasons == {
        (ErrorClass.MALFORMED, "bad_notice"): 2,
        (ErrorClass.POISON, "times_out"): 1,
        (ErrorClass.POISON, "kills_worker"): 1,
    }


async def test_a_list_is_json(sink):
    found = json.loads(json.dumps((await list_letters(sink, EVERYTHING)).to_json()))
    assert found["reasons"][0] == {"error_class": "malformed", "reason": "bad_notice", "count": 2}
    assert len(found["letters"]) == 4
    assert found["letters"][2] == {
        "place": "night:n.sqlite:p:1",
        "error_class": "poison",
        "reason": "times_out",
        "survey": "ZTF",
        "alert_id": "17",
        "attempts": 3,
        "redriven": 0,
        "cost_usd_pico": 1250,
        "bytes": 2,
        "t_dead": 1_800_000_001.0,
    }


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (EVERYTHING, {0, 1, 2, 3}),
        (Selection(classes=frozenset({ErrorClass.POISON})), {1, 2}),
        (Selection(reasons=frozenset({"bad_notice", "times_out"})), {0, 1, 3}),
        (Selection(sources=frozenset({"kafka:ztf"})), {3}),
        (Selection(places=frozenset({"kafka:ztf:a:b:3", "night:n.sqlite:p:0"})), {0, 3}),
        (
            Selection(
                classes=frozenset({ErrorClass.MALFORMED}), sources=frozenset({"night:n.sqlite"})
            ),
            {0},
        ),
        (Selection(reasons=frozenset({"unheard_of"})), set()),
    ],
)
async def test_a_selection_narrows(sink, selection, expected):
    listing = await list_letters(sink, selection)
    assert {each.place.src_offset for each in listing.entries} == expected


async def test_the_table_says_what_a_person_asks(sink, printed):
    console, text = printed
    show_listing(await list_letters(sink, EVERYTHING, limit=3), console)
    (line,) = [line for line in text().splitlines() if line.endswith(" night:n.sqlite:p:1")]
    assert line.split()[:-1] == [
        *("poison", "times_out", "ZTF", "17", "3", "0", "$0.00000000125", "2"),
        *("2027-01-15", "08:00:01"),
    ]
    assert "4 dead letters, 12 bytes, 3 shown" in text()


async def test_no_letters_are_said_to_be_none(printed):
    console, text = printed
    show_listing(await list_letters(MemoryDeadLetters(), EVERYTHING), console)
    assert text() == "no dead letters\n"


async def test_a_letter_is_found_by_its_place(sink):
    assert await find_letter(sink, "kafka:ztf:a:b:3") == LETTERS[3]
    with pytest.raises(SettingsError, match="holds no dead letter at 'kafka:ztf:a:b:4'"):
        await find_letter(sink, "kafka:ztf:a:b:4")


def test_a_letter_is_shown_whole(printed):
    console, text = printed
    shown = letter(3, body=b"\x89PNG" + bytes(300), headers={"unreadable": "no"})
    show_letter(shown, console)
    assert "ra is missing" in text()
    assert "header unreadable   no" in text()
    assert "00000000  89 50 4e 47 00" in text()
    assert ".PNG...." in text()
    assert "... 48 bytes more" in text()
    told = json.loads(json.dumps(describe(shown)))
    assert told["first_bytes"].startswith("89504e4700")
    assert (told["bytes"], told["when"]) == (304, "2027-01-15 08:00:03")


def test_a_letter_cannot_write_on_the_terminal(printed):
    console, text = printed
    evil = "\x1b]0;title\x07[bold]\x1b[2J\r\n[link=http://evil]"
    show_letter(
        letter(1, detail=evil, headers={evil: evil}, alert_id=evil, body=b"\x1b[2J"), console
    )
    assert "\x1b" not in text()
    assert "\r" not in text()
    assert r"\x1b]0;title\x07[bold]\x1b[2J\r\n[link=http://evil]" in text()


def test_a_body_is_written_byte_for_byte_and_over_nothing(tmp_path):
    body = bytes(range(256)) * 1000
    save_body(letter(1, body=body), tmp_path / "body")
    assert (tmp_path / "body").read_bytes() == body
    with pytest.raises(SettingsError, match="give another file"):
        save_body(letter(1), tmp_path / "body")
    assert (tmp_path / "body").read_bytes() == body
    with pytest.raises(SettingsError, match="give another file"):
        save_body(letter(1), tmp_path / "absent" / "body")


async def test_what_is_discarded_is_gone_and_on_record(sink, tmp_path):
    minutes, clock = tmp_path / "discarded.jsonl", ManualClock(7.0)
    assert list(discarded(minutes)) == []
    poison = Selection(classes=frozenset({ErrorClass.POISON}))
    assert await discard(sink, poison, minutes, clock) == 2
    assert await offsets(sink) == [0, 3]
    assert await discard(sink, poison, minutes, clock) == 0
    one = Selection(places=frozenset({"night:n.sqlite:p:0"}))
    assert await discard(sink, one, minutes, clock) == 1
    assert await offsets(sink) == [3]
    assert {*discarded(minutes)} == {Place("night:n.sqlite", "p", n) for n in range(3)}
    line = json.loads(minutes.read_text().splitlines()[0])
    assert line["t_discarded"] == 7.0
    assert "body" not in line


async def test_nobody_discards_everything_by_leaving_something_out(sink, tmp_path):
    with pytest.raises(SettingsError, match="say which"):
        await discard(sink, EVERYTHING, tmp_path / "discarded.jsonl", ManualClock())
    assert await offsets(sink) == [0, 1, 2, 3]


async def test_a_discard_that_was_cut_off_is_done_again(tmp_path):
    class Gone(MemoryDeadLetters):
        there = False

        async def remove(self, places):
            if not self.there:
                raise SinkUnavailable("gone")
            await super().remove(places)

    sink, minutes = Gone(), tmp_path / "discarded.jsonl"
    await sink.write(LETTERS)
    chosen = Selection(reasons=frozenset({"bad_notice"}))
    with pytest.raises(SinkUnavailable):
        await discard(sink, chosen, minutes, ManualClock())
    sink.there = True
    assert await discard(sink, chosen, minutes, ManualClock()) == 2
    assert await offsets(sink) == [1, 2]
    assert {each.src_offset for each in discarded(minutes)} == {0, 3}
