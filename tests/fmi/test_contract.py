"""One contract for every channel: the same program, the same answers."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fmi
from fmi.communicator import Communicator
from fmi.memory import Hub
from fmi.rendezvous import Rendezvous

DEADLINE_S = 10.0


class MemoryGroup:
    def __init__(self, size, deadline_s=DEADLINE_S):
        self.hub, self.deadline_s = Hub(size), deadline_s

    def join(self, rank):
        return Communicator(self.hub.join(rank), "group", self.deadline_s)


class DirectGroup:
    def __init__(self, size, rendezvous, deadline_s=DEADLINE_S):
        self.size, self.deadline_s = size, deadline_s
        self.address, self.token = rendezvous.address, rendezvous.admit("group", size, 30)

    def join(self, rank):
        return fmi.connect(self.address, "group", rank, self.size, self.token, self.deadline_s)


@pytest.fixture(params=["memory", "direct"])
async def new_group(request):
    if request.param == "memory":
        yield MemoryGroup
        return
    rendezvous = Rendezvous()
    await rendezvous.start()
    yield lambda size, deadline_s=DEADLINE_S: DirectGroup(size, rendezvous, deadline_s)
    await rendezvous.close()


async def run(group, size, program):
    """Run `program(communicator)` on every rank; the answers in rank order."""

    def rank(number):
        with group.join(number) as ranks:
            return program(ranks)

    with ThreadPoolExecutor(size) as threads:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(threads, rank, number) for number in range(size)]
        return await asyncio.gather(*calls, return_exceptions=True)


PAYLOADS = [
    {"job": [1, "two", None], "id": 2**62},
    b"\x00bytes\xff",
    np.arange(300_000, dtype=np.float32).reshape(3, -1),
    np.zeros((0, 5), dtype=np.int64),
    np.array(2.5),
]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("payload", PAYLOADS, ids=["object", "bytes", "array", "empty", "0-d"])
async def test_bcast_gives_every_rank_the_roots_value(new_group, size, payload):
    got = await run(new_group(size), size, lambda r: r.bcast(payload if r.rank == 0 else None))
    for each in got:
        np.testing.assert_equal(each, payload)
        assert np.shape(each) == np.shape(payload)


@pytest.mark.parametrize("size", [1, 3, 8])
async def test_gather_keeps_rank_order(new_group, size):
    got = await run(new_group(size), size, lambda r: r.gather({"rank": r.rank}))
    assert got[0] == [{"rank": rank} for rank in range(size)]
    assert got[1:] == [None] * (size - 1)


async def test_messages_of_a_pair_keep_their_order(new_group):
    def program(ranks):
        if ranks.rank == 0:
            for number in range(50):
                ranks.send(number, 1, tag=number)
            return None
        return [ranks.recv(0, tag=number) for number in range(50)]

    assert (await run(new_group(2), 2, program))[1] == list(range(50))


async def test_both_may_send_first(new_group):
    def program(ranks):
        other = 1 - ranks.rank
        ranks.send(np.full(1000, ranks.rank), other)
        return int(ranks.recv(other)[0])

    assert await run(new_group(2), 2, program) == [1, 0]


async def test_what_was_sent_arrives_though_the_sender_left(new_group):
    left = threading.Event()

    def program(ranks):
        if ranks.rank == 0:
            ranks.send({"last": "words"}, 1)
            ranks.close()
            left.set()
            return None
        left.wait()
        return ranks.recv(0)

    assert (await run(new_group(2), 2, program))[1] == {"last": "words"}


async def test_nobody_passes_a_barrier_early(new_group):
    arrived = []

    def program(ranks):
        arrived.append(ranks.rank)
        ranks.barrier()
        return len(arrived)

    assert await run(new_group(4), 4, program) == [4] * 4


async def test_the_senders_array_is_left_alone(new_group):
    mine = np.arange(10.0)

    def program(ranks):
        got = ranks.bcast(mine if ranks.rank == 0 else None)
        return got.sum()

    assert await run(new_group(3), 3, program) == [45.0] * 3
    assert mine.sum() == 45.0


async def test_a_received_array_is_the_receivers_own(new_group):
    mine = np.arange(10.0)

    def program(ranks):
        got = ranks.bcast(mine if ranks.rank == 0 else None)
        if ranks.rank:
            got += ranks.rank
        ranks.barrier()
        return got.sum()

    assert await run(new_group(3), 3, program) == [45.0, 55.0, 65.0]


@pytest.mark.parametrize("tag", [-1, 65536])
async def test_a_tag_out_of_range_is_named_with_the_range(new_group, tag):
    def program(ranks):
        if ranks.rank == 0:
            ranks.send("x", 1, tag)
        else:
            ranks.recv(0, tag)

    for each in await run(new_group(2), 2, program):
        assert isinstance(each, fmi.ProtocolError)
        assert "0 to 65535" in str(each)


async def test_the_last_tag_travels(new_group):
    def program(ranks):
        return ranks.send("x", 1, 65535) if ranks.rank == 0 else ranks.recv(0, 65535)

    assert await run(new_group(2), 2, program) == [None, "x"]


async def test_ranks_that_call_different_operations_get_an_error(new_group):
    def program(ranks):
        if ranks.rank == 0:
            ranks.bcast({"x": 1})
        else:
            ranks.recv(0)

    got = await run(new_group(2), 2, program)
    assert isinstance(got[1], fmi.ProtocolError)
    assert "different operations" in str(got[1])


async def test_a_lost_rank_is_named_and_the_rest_arrives(new_group):
    def program(ranks):
        if ranks.rank == 2:
            return None  # leaves the group
        gathered, lost = ranks.gather_survivors(ranks.rank * 10)
        lost = ranks.agree_on_lost(lost)
        return gathered, lost

    got = await run(new_group(4), 4, program)
    assert got[0] == ({0: 0, 1: 10, 3: 30}, (2,))
    assert got[1] == (None, (2,))
    assert got[3] == (None, (2,))


async def test_a_lost_root_is_named_on_every_survivor(new_group):
    def program(ranks):
        if ranks.rank == 0:
            return None
        ranks.bcast()
        return None

    got = await run(new_group(3), 3, program)
    assert [each.ranks for each in got[1:]] == [(0,), (0,)]


async def test_a_silent_rank_is_lost_at_the_deadline(new_group):
    done = threading.Event()

    def program(ranks):
        if ranks.rank == 1:
            done.wait(5)
            return None
        try:
            ranks.recv(1)
        finally:
            done.set()
        return None

    got = await run(new_group(2, deadline_s=0.3), 2, program)
    assert isinstance(got[0], fmi.PeerLost)
    assert got[0].ranks == (1,)
    assert "deadline" in str(got[0])


def survivors_of(hung, program, size=4):
    """Ranks that run `program`, and `hung` that is there and silent until all others are done.

    The survivors answer what `program` returns and how many seconds it took.
    """
    end = threading.Barrier(size)

    def rank(ranks):
        if ranks.rank == hung:
            end.wait(20)
            return None
        started = time.monotonic()
        try:
            return program(ranks), time.monotonic() - started
        finally:
            end.wait(20)

    return rank


def part_and_lost(ranks):
    gathered, lost = ranks.gather_survivors(ranks.rank * 10)
    return gathered, ranks.agree_on_lost(lost)


@pytest.mark.parametrize("hung", [1, 2, 3])
async def test_every_survivor_names_a_hung_rank_in_time_and_no_part_is_lost(new_group, hung):
    got = await run(new_group(4, deadline_s=1.5), 4, survivors_of(hung, part_and_lost))
    here = [rank for rank in range(4) if rank != hung]
    for rank in here:
        (gathered, lost), took_s = got[rank]
        assert lost == (hung,)
        assert gathered == ({each: each * 10 for each in here} if rank == 0 else None)
        assert took_s < 1.5  # though it called two operations


async def test_a_rank_that_hangs_after_its_part_is_named_in_time(new_group):
    def program(ranks):
        if ranks.rank == 2:
            ranks.gather_survivors(20)
        end_of_part.wait(20)
        return survivors(ranks)

    end_of_part = threading.Barrier(4)

    def rest(ranks):
        gathered, lost = ranks.gather_survivors(ranks.rank * 10)
        assert lost == ()
        return gathered, ranks.agree_on_lost(lost)

    survivors = survivors_of(2, rest)
    got = await run(new_group(4, deadline_s=1.5), 4, program)
    for rank in (0, 1, 3):
        (gathered, lost), took_s = got[rank]
        assert lost == (2,)
        assert gathered == ({0: 0, 1: 10, 2: 20, 3: 30} if rank == 0 else None)
        assert took_s < 1.5


@pytest.mark.parametrize("leaves", [1, 2, 3])
async def test_who_leaves_before_all_agree_is_in_everybodys_list(new_group, leaves):
    def program(ranks):
        _, lost = ranks.gather_survivors(ranks.rank)
        return None if ranks.rank == leaves else ranks.agree_on_lost(lost)

    got = await run(new_group(4), 4, program)
    assert got == [None if rank == leaves else (leaves,) for rank in range(4)]


async def test_nobody_learns_who_is_lost_before_all_have_come(new_group):
    arrived = []

    def program(ranks):
        time.sleep(0.05 * ranks.rank)
        arrived.append(ranks.rank)
        ranks.agree_on_lost()
        return len(arrived)

    assert await run(new_group(4), 4, program) == [4] * 4


async def test_a_gather_that_needs_everybody_waits_its_whole_deadline(new_group):
    def program(ranks):
        if ranks.rank == 1:
            time.sleep(1.0)
        return ranks.gather(ranks.rank)

    assert await run(new_group(3, deadline_s=1.5), 3, program) == [[0, 1, 2], None, None]


async def test_a_slow_rank_is_waited_for_as_long_as_the_caller_says(new_group):
    def program(ranks):
        if ranks.rank == 1:
            time.sleep(1.2)
        gathered, lost = ranks.gather_survivors(ranks.rank, wait_s=10)
        return gathered, ranks.agree_on_lost(lost, wait_s=20)

    got = await run(new_group(3, deadline_s=1.0), 3, program)
    assert got == [({0: 0, 1: 1, 2: 2}, ()), (None, ()), (None, ())]


async def test_a_late_answer_is_not_taken_for_the_next_one(new_group):
    first_is_over, late_is_sent = threading.Event(), threading.Event()

    def program(ranks):
        if ranks.rank == 1:
            first_is_over.wait(20)
            ranks.gather_survivors("late")
            late_is_sent.set()
            return None
        first = ranks.gather_survivors("first", wait_s=0.1)
        first_is_over.set()
        late_is_sent.wait(20)
        return first, ranks.gather_survivors("second")

    got = await run(new_group(2), 2, program)
    assert got[0] == (({0: "first"}, (1,)), ({0: "second"}, (1,)))


async def test_objects_that_are_not_data_do_not_travel(new_group):
    def program(ranks):
        if ranks.rank == 0:
            ranks.send(np.array([object()]), 1)

    got = await run(new_group(2), 2, program)
    assert isinstance(got[0], fmi.ProtocolError)
