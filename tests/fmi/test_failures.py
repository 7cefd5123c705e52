"""What goes wrong: one contract for every channel. Everybody learns it, in time, with a name."""

import asyncio
import threading
import time

import numpy as np
import pytest
from meetings import CHANNELS

import fmi


def is_lost(got, *ranks):
    """Whether a rank was told that exactly these are lost."""
    return isinstance(got, fmi.PeerLost) and got.ranks == ranks


async def test_ranks_that_call_different_operations_get_an_error(meeting):
    def program(ranks):
        if ranks.rank == 0:
            ranks.bcast({"x": 1})
            ranks.barrier()
        else:
            ranks.recv(0)

    got = await meeting.run(2, program)
    assert all(isinstance(each, fmi.ProtocolError) for each in got)
    assert "different operations" in str(got[1])


CALLS = {
    "barrier or gather": (lambda r: r.barrier(), lambda r: r.gather(1)),
    "sum or max": (lambda r: r.allreduce(np.ones(5)), lambda r: r.allreduce(np.ones(5), fmi.MAX)),
    "shapes": (lambda r: r.allreduce(np.ones(5)), lambda r: r.allreduce(np.ones(6))),
    "sizes": (lambda r: r.allreduce(np.ones(5)), lambda r: r.allreduce(np.ones(50_000))),
    "same bytes": (lambda r: r.reduce(np.ones(6)), lambda r: r.reduce(np.ones((2, 3)))),
    "dtypes": (lambda r: r.allreduce(np.ones(5)), lambda r: r.allreduce(np.ones(5, np.int64))),
    "array or number": (lambda r: r.allreduce(np.ones(1)), lambda r: r.allreduce(1.0)),
    "large dtypes": (
        lambda r: r.allreduce(np.ones(20_000)),
        lambda r: r.allreduce(np.ones(20_000, np.int64)),
    ),
    "roots": (lambda r: r.gather(1, 0), lambda r: r.gather(1, 1)),
    "roots of bcast": (
        lambda r: (r.bcast(r.rank, 0), r.barrier()),
        lambda r: (r.bcast(r.rank, 1), r.barrier()),
    ),
    "one call more": (lambda r: (r.barrier(), r.scan(np.ones(3))), lambda r: r.scan(np.ones(3))),
    "scans": (lambda r: r.scan(np.ones(3)), lambda r: r.scan(np.ones((3, 1)))),
    "rows": (lambda r: r.allgatherv(np.ones((2, 2))), lambda r: r.allgatherv(np.ones((2, 3)))),
    "blocks": (lambda r: r.reduce_scatter(np.ones(4)), lambda r: r.reduce_scatter(np.ones(6))),
}


# Through S3 each takes seconds: what is sent is the same, so a few show that it arrives.
OVER_S3 = ["barrier or gather", "roots of bcast", "large dtypes"]
CASES = [(each, name) for each in CHANNELS for name in (OVER_S3 if each == "s3" else CALLS)]


@pytest.mark.parametrize(("meeting", "calls"), CASES, indirect=["meeting"])
async def test_a_program_that_differs_gets_an_error_and_no_numbers(meeting, calls):
    """On all ranks, and long before the deadline, whichever rank it is."""
    usual, unusual = CALLS[calls]

    def program(odd):
        def run(ranks):
            (unusual if ranks.rank == odd else usual)(ranks)
            ranks.barrier()  # who only sent has nothing wrong to see before
            return "numbers"

        return run

    started = time.monotonic()
    runs = [meeting.run(3, program(odd), deadline_s=20) for odd in (0, 1)]
    for got in await asyncio.gather(*runs):
        assert all(isinstance(each, fmi.FmiError) for each in got), got
        assert any(isinstance(each, fmi.ProtocolError) for each in got), got
    assert time.monotonic() - started < 15


async def test_a_call_that_the_others_never_make_is_found_at_the_end(meeting):
    sent = threading.Event()

    def program(ranks):
        if ranks.rank == 0:
            ranks.bcast("nobody waits for this")
            sent.set()
        else:
            sent.wait(60)
            time.sleep(0.1)

    got = await meeting.run(2, program)
    assert isinstance(got[1], fmi.ProtocolError)
    assert "never made" in str(got[1])


@pytest.mark.parametrize(
    "operation",
    [
        lambda r: r.barrier(),
        lambda r: r.allreduce(np.ones(50_000)),
        lambda r: r.bcast("x" if r.rank == 0 else None),
        lambda r: r.scan(np.ones(4)),
        lambda r: r.alltoall(list(range(r.size))),
        lambda r: r.recv(2),
    ],
    ids=["barrier", "allreduce", "bcast", "scan", "alltoall", "recv"],
)
async def test_a_rank_that_left_is_named_on_every_survivor(meeting, operation):
    def program(ranks):
        if ranks.rank == 2:
            raise RuntimeError("out of paper")
        operation(ranks)
        ranks.barrier()

    got = await meeting.run(4, program)
    for rank in (0, 1, 3):
        assert is_lost(got[rank], 2), got
    assert any("out of paper" in str(got[rank]) for rank in (0, 1, 3))


async def test_after_a_loss_the_communicator_is_over(meeting):
    def program(ranks):
        if ranks.rank == 1:
            return "left"
        for _ in range(3):
            with pytest.raises(fmi.PeerLost) as raised:
                ranks.barrier()
            assert raised.value.ranks == (1,)
        return "told three times"

    assert await meeting.run(3, program) == ["told three times", "left", "told three times"]


async def test_a_silent_rank_is_lost_at_the_deadline_on_all_others(meeting):
    """Ranks 3 and 0 wait for 0 and 2, who wait for 1: it is 1 that they name."""
    everybody_knows = threading.Event()
    knowing = []

    def program(ranks):
        if ranks.rank == 1:
            everybody_knows.wait(60)
            return "slow"
        time.sleep(0 if ranks.rank == 3 else 0.3 * meeting.slow)  # the last in the chain is first
        try:
            ranks.recv({3: 0, 0: 2, 2: 1}[ranks.rank])
        finally:
            knowing.append(ranks.rank)
            if len(knowing) == 3:
                everybody_knows.set()
        return None

    got = await meeting.run(4, program, deadline_s=1.5)
    for rank in (0, 2, 3):
        assert is_lost(got[rank], 1), got
    assert any("deadline" in str(got[rank]) for rank in (0, 2, 3))


async def test_abort_ends_the_wait_of_all(meeting):
    def program(ranks):
        if ranks.rank == 1:
            ranks.abort("the stars are wrong")
        ranks.barrier()

    started = time.monotonic()
    got = await meeting.run(3, program, deadline_s=20)
    assert time.monotonic() - started < 15
    for each in got:
        assert isinstance(each, fmi.Aborted)
        assert each.rank == 1
        assert "the stars are wrong" in str(each)


@pytest.mark.parametrize("leaves", [0, 1, 3])
async def test_survivors_shrink_and_go_on(meeting, leaves):
    def program(ranks):
        if ranks.rank == leaves:
            return "left"
        with pytest.raises(fmi.PeerLost):
            ranks.barrier()
        fewer = ranks.shrink()
        total = fewer.allreduce(np.array([ranks.rank]))
        return fewer.rank, fewer.size, int(total[0]), fewer.allgather(ranks.rank)

    here = [rank for rank in range(4) if rank != leaves]
    got = await meeting.run(4, program)
    for number, rank in enumerate(here):
        assert got[rank] == (number, 3, sum(here), here)


async def test_survivors_shrink_twice(meeting):
    def program(ranks):
        for leaves in (2, 0):
            if ranks.size == 4 and ranks.rank == leaves:
                return "left"
            if ranks.size == 3 and ranks.rank == 0:
                return "left, too"
            with pytest.raises(fmi.PeerLost):
                ranks.allgather(1)
            ranks = ranks.shrink()
        return ranks.rank, ranks.size, ranks.allreduce(5)

    got = await meeting.run(4, program)
    assert got == ["left, too", (0, 2, 10), "left", (1, 2, 10)]


async def test_a_rank_that_was_given_up_is_told(meeting):
    others_went_on = threading.Event()

    def program(ranks):
        if ranks.rank == 1:
            others_went_on.wait(60)
            ranks.barrier()
            return None
        try:
            ranks.barrier()
        except fmi.PeerLost:
            if ranks.rank == 0:
                time.sleep(0.2)  # until the other one knows, too
            got = ranks.shrink().allgather(ranks.rank)
            others_went_on.set()
            return got
        return None

    got = await meeting.run(3, program, deadline_s=1.5)
    assert got[0] == got[2] == [0, 2]
    assert is_lost(got[1], 1), got


async def test_an_operation_among_threads_can_be_interrupted(meeting):
    def program(ranks):
        if ranks.rank == 0:
            threading.Timer(0.2, lambda: ranks.interrupt("the invocation ends")).start()
        ranks.recv(1 - ranks.rank)

    started = time.monotonic()
    got = await meeting.run(2, program, deadline_s=20)
    assert time.monotonic() - started < 15
    assert all(isinstance(each, fmi.Aborted) for each in got)
    assert "the invocation ends" in str(got[1])
