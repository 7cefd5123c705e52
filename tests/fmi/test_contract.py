"""One contract for every channel: the same program, the same answers."""

import asyncio
import threading
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
]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("payload", PAYLOADS, ids=["object", "bytes", "array", "empty"])
async def test_bcast_gives_every_rank_the_roots_value(new_group, size, payload):
    got = await run(new_group(size), size, lambda r: r.bcast(payload if r.rank == 0 else None))
    for each in got:
        np.testing.assert_equal(each, payload)


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


async def test_objects_that_are_not_data_do_not_travel(new_group):
    def program(ranks):
        if ranks.rank == 0:
            ranks.send(np.array([object()]), 1)

    got = await run(new_group(2), 2, program)
    assert isinstance(got[0], fmi.ProtocolError)
