"""What holds for every channel through a store, on real servers: the meeting, and the messages."""

import os
import time
import uuid
from collections import Counter
from contextlib import contextmanager

import pytest
from recording import Rank

from fmi.channels import redis, s3
from fmi.channels.bucket import Bucket
from fmi.channels.resp import Connection
from fmi.channels.s3 import S3
from fmi.channels.server import Server
from fmi.channels.store import meet
from fmi.deadline import Deadline
from fmi.errors import FmiError, PeerLost, Refused


@pytest.fixture
def group():
    return f"a group {uuid.uuid4()}"


@pytest.fixture
def ranks(store, in_threads):
    """Meet under a name; all ranks, or what they raised."""
    opened = []

    async def ranks(group, size, which=None, seconds=10.0):
        met = await in_threads(
            *(
                lambda rank=rank: Rank(store, group, rank, size, seconds=seconds)
                for rank in (range(size) if which is None else which)
            )
        )
        opened.extend(each for each in met if isinstance(each, Rank))
        for each in met:
            if isinstance(each, BaseException) and not isinstance(each, FmiError):
                raise each
        return met

    yield ranks
    for each in opened:
        each.close()


async def test_all_agree_on_a_run_that_no_other_meeting_has(ranks, group):
    first = await ranks(group, 3)
    second = await ranks(group, 3)
    assert len({each.channel.run for each in first}) == 1
    assert len({each.channel.run for each in first + second}) == 2


async def test_messages_of_a_source_come_in_order(ranks, group):
    one, other = await ranks(group, 2)
    sent = [b"%d" % i for i in range(60)]
    for payload in sent:
        one.send(1, payload)
    assert other.receive(60) == sent


async def test_both_may_send_first(ranks, group):
    one, other = await ranks(group, 2)
    payload = os.urandom(3 << 20)
    one.send(1, payload)
    other.send(0, payload)
    assert one.receive(1) == other.receive(1) == [payload]


async def test_a_message_has_its_description_and_may_be_empty(ranks, group):
    one, other = await ranks(group, 2)
    one.send(1, b"", b"nothing")
    one.send(1, memoryview(b"something"), b"")
    other.receive(0)
    other.until(lambda: len(other.got) == 2)
    assert [message[2:] for message in other.got] == [(b"nothing", b""), (b"", b"something")]


async def test_a_payload_goes_where_it_belongs(ranks, group):
    one, other = await ranks(group, 2)
    memory = memoryview(bytearray(5_000_000))
    other.places.append(memory)
    sent = os.urandom(len(memory))
    one.send(1, sent)
    other.receive(1)
    assert other.placed == [memory]
    assert other.placed[0] is memory
    assert memory == sent


async def test_a_message_may_be_changed_once_it_is_sent(ranks, group):
    one, other = await ranks(group, 2)
    payload = bytearray(os.urandom(3 << 20))
    sent = bytes(payload)
    one.send(1, payload)
    payload[:] = bytes(len(payload))
    assert other.receive(1) == [sent]


async def test_a_message_survives_that_its_sender_left(ranks, group):
    one, other = await ranks(group, 2)
    one.send(1, b"last words")
    one.close()
    assert other.receive(1) == [b"last words"]


async def test_waiting_ends_when_it_should(ranks, group):
    one, _ = await ranks(group, 2)
    one.wait(0)
    start = time.monotonic()
    one.wait(0.05)
    assert time.monotonic() - start < 0.5


async def test_who_beats_is_heard_until_it_stops(ranks, group):
    one, other = await ranks(group, 2)
    one.channel.beat_s = 0.2
    for note in (b"first", b"second", b"second"):
        heard = len(one.beats)
        # one that comes while the last is under way is left out
        one.until(lambda: other.channel.beat(note) or (1, note) in one.beats[heard:])  # noqa: B023
    for _ in range(2):
        heard, end = len(one.beats), time.monotonic() + 1.2 * one.channel.beat_s
        while time.monotonic() < end:
            one.wait(0.1)
    assert len(one.beats) == heard


async def test_beats_after_the_end_do_no_harm(ranks, group):
    one, _ = await ranks(group, 2)
    one.close()
    one.channel.beat(b"")


async def test_what_a_crashed_run_left_is_not_delivered(ranks, group):
    one, _ = await ranks(group, 2)
    one.send(1, b"stale")  # rank 1 never looks, and neither says goodbye
    one.wait(0)
    _, again = await ranks(group, 2)
    again.wait(0.2)
    assert again.got == []


async def test_a_meeting_that_was_left_behind_does_not_disturb_the_next(store, ranks, group):
    class Dead(Exception):
        """A process that died; what it wrote stays."""

    def die(*_):
        raise Dead

    for rank in (0, 1):
        with pages_of(store) as pages:
            pages.erase = lambda page: None
            if rank == 0:
                pages.read = die
            else:
                wrote = pages.write
                pages.write = lambda *note, wrote=wrote: wrote(*note) or die()
            with pytest.raises(Dead):
                meet(pages, group, rank, 2, Deadline.after(2))
    one, other = await ranks(group, 2)
    one.send(1, b"hello")
    assert other.receive(1) == [b"hello"]


async def test_who_came_learns_who_is_missing(ranks, group):
    start = time.monotonic()
    came = await ranks(group, 4, (0, 2), seconds=1.5)
    assert [each.ranks for each in came] == [(1, 3), (1, 3)]
    assert all(isinstance(each, PeerLost) for each in came)
    assert time.monotonic() - start < 3


async def test_rank_0_is_missing(ranks, group):
    came = await ranks(group, 3, (1, 2), seconds=1)
    assert [each.ranks for each in came] == [(0,), (0,)]


async def test_a_rank_that_is_there_twice_is_refused_by_all(ranks, group):
    came = await ranks(group, 3, (0, 1, 1), seconds=5)
    assert [type(each) for each in came] == [Refused] * 3


async def test_two_runs_of_one_name_are_refused_when_they_meet(ranks, group):
    came = await ranks(group, 2, (0, 0), seconds=5)
    assert [type(each) for each in came] == [Refused] * 2


async def test_ranks_that_disagree_on_the_size_are_refused(store, in_threads, group):
    came = await in_threads(
        lambda: Rank(store, group, 0, 2, seconds=5), lambda: Rank(store, group, 2, 3, seconds=5)
    )
    assert [type(each) for each in came] == [Refused] * 2
    assert "rank 2 wants a group of 3" in str(came[0])


async def test_groups_do_not_see_each_other(ranks):
    unique = uuid.uuid4().hex
    names = [unique + name for name in ("x", "x1", "ñ/../ %20")]
    met = [await ranks(name, 2) for name in names]
    for i, (one, _) in enumerate(met):
        one.send(1, b"%d" % i)
    for i, (_, other) in enumerate(met):
        assert other.receive(1) == [b"%d" % i]
        other.wait(0)
        assert other.got == []


async def test_a_group_of_one_meets_at_once(ranks, group):
    (alone,) = await ranks(group, 1)
    alone.wait(0)


async def test_many_talk_to_many(ranks, group, in_threads):
    met = await ranks(group, 4)

    def talk(rank):
        for dest in range(4):
            if dest != rank.channel.rank:
                for i in range(3):
                    rank.send(dest, b"%d from %d" % (i, rank.channel.rank))
        rank.until(lambda: len(rank.got) == 9)
        return rank.got

    for me, got in enumerate(await in_threads(*(lambda each=each: talk(each) for each in met))):
        for source in {*range(4)} - {me}:
            said = [payload for who, *_, payload in got if who == source]
            assert said == [b"%d from %d" % (i, source) for i in range(3)]


@contextmanager
def pages_of(store):
    if isinstance(store, S3):
        held = Bucket(store.bucket, store.prefix, store.endpoint_url, store.region, 1)
        pages = s3._Pages(held)
    else:
        held = Connection(Server.parse(store.url), Counter(), Deadline.after(5))
        pages = redis._Pages(held, 60_000)
    yield pages
    held.close()
