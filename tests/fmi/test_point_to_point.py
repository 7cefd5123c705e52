"""Messages from rank to rank: one contract for every channel."""

import threading

import numpy as np
import pytest

import fmi

PAYLOADS = [
    {"job": [1, "two", None, 2.5, b"raw", float("inf")], "id": 2**63, 7: {"nested": True}},
    b"\x00bytes\xff",
    b"",
    np.arange(300_000, dtype=np.float32).reshape(3, -1),
    np.zeros((0, 5), dtype=np.int64),
    np.array(2.5),
    np.array(["2026-11-24"], dtype="datetime64[D]"),
    np.arange(6, dtype=">f8"),
    np.array(["left", "right"]),
    {"array in an object": np.arange(3, dtype=np.uint8)},
]
NAMES = ["object", "bytes", "no bytes", "array", "empty", "0-d", "dates", "big-endian", "text"]


def hand_over(obj):
    return lambda ranks: ranks.send(obj, 1) if ranks.rank == 0 else ranks.recv(0)


@pytest.mark.parametrize("payload", PAYLOADS, ids=[*NAMES, "array in an object"])
async def test_what_is_sent_arrives_as_it_was(meeting, payload):
    _, got = await meeting.run(2, hand_over(payload))
    np.testing.assert_equal(got, payload)
    assert np.shape(got) == np.shape(payload)
    if isinstance(payload, np.ndarray):
        assert got.dtype == payload.dtype


async def test_messages_of_a_pair_keep_their_order(meeting):
    def program(ranks):
        if ranks.rank == 0:
            for number in range(50):
                ranks.send(number, 1)
            return None
        return [ranks.recv(0) for _ in range(50)]

    assert (await meeting.run(2, program))[1] == list(range(50))


async def test_a_tag_chooses_among_what_arrived(meeting):
    def program(ranks):
        if ranks.rank == 0:
            for tag in (7, 8, 9, 8):
                ranks.send(f"tag {tag}", 1, tag)
            return None
        return [ranks.recv(0, 8), ranks.recv(0, 9), ranks.recv(0), ranks.recv(0, 8)]

    assert (await meeting.run(2, program))[1] == ["tag 8", "tag 9", "tag 7", "tag 8"]


async def test_any_source_takes_from_everybody_and_says_from_whom(meeting):
    def program(ranks):
        if ranks.rank:
            ranks.send(ranks.rank * 10, 0, tag=ranks.rank)
            return None
        got = {}
        for _ in range(ranks.size - 1):
            status = fmi.Status()
            value = ranks.recv(status=status)
            got[status.source] = (value, status.tag)
        return got

    assert (await meeting.run(4, program))[0] == {1: (10, 1), 2: (20, 2), 3: (30, 3)}


async def test_a_message_to_oneself_arrives(meeting):
    def program(ranks):
        ranks.send([ranks.rank], ranks.rank, 3)
        return ranks.recv(ranks.rank, 3)

    assert await meeting.run(2, program) == [[0], [1]]


@pytest.mark.parametrize("count", [10, 2_000_000], ids=["small", "16 MB"])
async def test_an_array_is_received_in_place(meeting, count):
    size = min(count, 100_000) if meeting.name == "s3" else count

    def program(ranks):
        mine = np.full(size, ranks.rank + 1.0)
        out = np.empty(size)
        got = ranks.sendrecv(mine, 1 - ranks.rank, 5, 1 - ranks.rank, 5, out=out)
        return got is out, float(out.sum()), float(mine.sum())

    assert await meeting.run(2, program) == [(True, 2.0 * size, size), (True, size, 2.0 * size)]


async def test_memory_of_an_earlier_receive_is_left_alone(meeting):
    sizes = [1000, 1000, 50_000, 50_000, 1000, 50_000, 50_000]

    def program(ranks):
        right, left = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
        outs = []
        for number, size in enumerate(sizes):
            mine = np.full(size, 10 * ranks.rank + number)
            outs.append(ranks.sendrecv(mine, right, 1, left, 1, out=np.zeros(size, mine.dtype)))
        return [sorted(set(out.tolist())) for out in outs]

    for rank, got in enumerate(await meeting.run(3, program)):
        assert got == [[10 * ((rank - 1) % 3) + number] for number in range(len(sizes))]


@pytest.mark.parametrize("other", [np.zeros(3), np.zeros(4, np.float32), b"x" * 32])
async def test_an_array_of_another_kind_is_not_taken_for_it(meeting, other):
    def program(ranks):
        if ranks.rank == 0:
            ranks.send(other, 1, 1)
            return None
        return ranks.recv(0, 1, out=np.zeros(4))

    assert isinstance((await meeting.run(2, program))[1], fmi.ProtocolError)


async def test_both_may_send_first_however_much(meeting):
    size = 20_000 if meeting.name == "s3" else 3_000_000

    def program(ranks):
        ranks.send(np.full(size, ranks.rank), 1 - ranks.rank)
        return int(ranks.recv(1 - ranks.rank)[-1])

    assert await meeting.run(2, program) == [1, 0]


async def test_what_was_sent_arrives_though_the_sender_left(meeting):
    left = threading.Event()

    def program(ranks):
        if ranks.rank == 0:
            ranks.send({"last": "words"}, 1)
            ranks.send(np.arange(5_000), 1)
            ranks.close()
            left.set()
            return None
        left.wait()
        return ranks.recv(0), int(ranks.recv(0)[-1])

    assert (await meeting.run(2, program))[1] == ({"last": "words"}, 4_999)


async def test_the_senders_memory_is_its_own_after_the_call(meeting):
    def program(ranks):
        if ranks.rank == 0:
            mine = np.zeros(100_000)
            ranks.send(mine, 1)
            mine += 1
            ranks.send(None, 1)
            return mine.sum()
        first = ranks.recv(0)
        ranks.recv(0)
        first += 5  # and what was received is the receiver's
        return first.sum()

    assert await meeting.run(2, program) == [100_000, 500_000]


# What is refused before a channel is asked is the same on all: one is enough.
ANY_CHANNEL = pytest.mark.parametrize("meeting", ["memory"], indirect=True)


@ANY_CHANNEL
@pytest.mark.parametrize("tag", [-2, 2**31])
async def test_a_tag_out_of_range_is_named_with_the_range(meeting, tag):
    def program(ranks):
        if ranks.rank == 0:
            ranks.send("x", 1, tag)
        else:
            ranks.recv(0, tag)

    for each in await meeting.run(2, program):
        assert isinstance(each, fmi.ProtocolError)
        assert "0 to 2147483647" in str(each)


@ANY_CHANNEL
@pytest.mark.parametrize("rank", [-1, 2])
async def test_a_rank_that_is_none_is_named(meeting, rank):
    def program(ranks):
        if ranks.rank == 0:
            ranks.send("x", rank)

    got = await meeting.run(2, program)
    assert isinstance(got[0], ValueError)
    assert "0 to 1" in str(got[0])


@ANY_CHANNEL
@pytest.mark.parametrize(
    "thing",
    [
        np.array([object()]),
        object(),
        {"set": {1, 2}},
        2**70,
        np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
        np.ma.masked_array([1, 2], [True, False]),
    ],
    ids=["objects", "object", "set", "huge", "structured", "masked"],
)
async def test_what_would_not_arrive_as_it_is_does_not_travel(meeting, thing):
    def program(ranks):
        if ranks.rank == 0:
            ranks.send(thing, 1)

    got = await meeting.run(2, program)
    assert isinstance(got[0], fmi.ProtocolError)


async def test_unpickling_is_not_a_way_in(meeting):
    """What pickle would run arrives as the bytes that it is."""
    evil = b"cos\nsystem\n(S'exit 1'\ntR."
    _, got = await meeting.run(2, hand_over(evil))
    assert got == evil
