"""Dead letters keep everything, once, through crashes."""

import pytest

from sinks.deadletters import DeadLetter, DeadLetterFile, MemoryDeadLetters


def letter(n, **changed):
    fields = {
        "src_topic": "t",
        "src_partition": "p",
        "src_offset": 2**60 + n,
        "reason": "bad_sync",
        "detail": "the sync marker is missing",
        "attempts": 0,
        "body": bytes(range(256)),
        "run_id": "r",
        "t_dead": 1.5,
        "headers": {"unreadable": "no"},
    }
    return DeadLetter(**{**fields, **changed})


@pytest.fixture(params=["memory", "file"])
def new_sink(request, tmp_path):
    if request.param == "memory":
        sink = MemoryDeadLetters()
        return lambda: sink
    return lambda: DeadLetterFile(tmp_path / "deadletters.jsonl")


async def test_a_letter_comes_back_as_it_was(new_sink):
    sink = new_sink()
    await sink.open()
    await sink.write([letter(1), letter(2, survey="ZTF", alert_id="7", result_id="k")])
    assert [each async for each in sink.scan()] == [
        letter(1),
        letter(2, survey="ZTF", alert_id="7", result_id="k"),
    ]
    await sink.close()


async def test_a_position_is_kept_once(new_sink):
    for _ in range(3):
        sink = new_sink()
        await sink.open()
        await sink.write([letter(1), letter(1)])
        await sink.write([letter(1), letter(2)])
        assert [each.src_offset async for each in sink.scan()] == [2**60 + 1, 2**60 + 2]
        await sink.close()


async def test_a_torn_last_line_is_cut_off(tmp_path):
    path = tmp_path / "deadletters.jsonl"
    sink = DeadLetterFile(path)
    await sink.open()
    await sink.write([letter(1)])
    await sink.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    await sink.open()
    await sink.write([letter(2)])
    assert [each.src_offset async for each in sink.scan()] == [2**60 + 1, 2**60 + 2]
    await sink.close()
