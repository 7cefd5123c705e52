"""What must hold here, and does not in FMI, the C++ library that this package takes its idea from.

Its weaknesses are numbered 1 to 20. The docstring of each test begins with the number, and says
what FMI does: so it would fail there. Where FMI is slow, what makes it slow is tested, not time.
"""

import asyncio
import itertools
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fmi
from fmi.channels.resp import Connection
from fmi.channels.server import Server
from fmi.deadline import Deadline
from fmi.meeting.rendezvous import Rendezvous

MIB = 1 << 20
STREAMS = ["shared", "direct", "relay"]
THROUGH_A_SERVER = ["direct", "relay", "redis"]


def over(*names):
    return pytest.mark.parametrize("meeting", names, indirect=True)


# That S3 carries what the others carry, the contract suite shows; here it would take minutes.
CHANNELS = ["memory", "shared", "direct", "relay", "redis"]


@pytest.fixture
def ask(valkey_server):
    """Ask the Valkey server something."""
    connection = Connection(Server.parse(valkey_server.url), Counter(), Deadline.after(5))
    yield connection.ask
    connection.close()


def joining(meeting, transport, group, rank, size, program, deadline_s=10.0):
    """A call that is one rank of a group, and what `program` returns."""

    def join():
        limit_s = deadline_s * meeting.slow
        with fmi.connect_blocking(group, rank, size, transport, deadline_s=limit_s) as ranks:
            return program(ranks)

    return join


def all_of(meeting, group, size, program, deadline_s=10.0):
    """A call for each rank of a group of this name."""
    transport = meeting.transport(group, size)
    return [
        joining(meeting, transport, group, rank, size, program, deadline_s) for rank in range(size)
    ]


def alone(transport, group, rank, size, program):
    """Run a rank in a process of its own, where `program` is a text about `ranks`."""
    code = (
        "import os, pickle, signal, sys, fmi\n"
        f"ranks = fmi.connect_blocking(*pickle.load(sys.stdin.buffer), deadline_s=10)\n{program}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        input=pickle.dumps((group, rank, size, transport)),
        check=False,
    )
    return done.returncode


# 1 to 8: values that are wrong, or lost.


async def test_what_was_sent_arrives_though_the_sender_left(meeting):
    """1. A sender deletes what was not received yet when it leaves; the receiver times out."""

    def program(ranks):
        large = np.arange(MIB // 8)
        if ranks.rank:
            ranks.send("last words", 0)
            ranks.send(large, 0)
            ranks.reduce(ranks.rank, root=0)
            return None  # and leaves at once
        time.sleep(0.3)
        words = [ranks.recv(source) for source in (1, 2)]
        rest = [np.array_equal(ranks.recv(source), large) for source in (1, 2)]
        return words, rest, ranks.reduce(0)

    got = await meeting.run(3, program)
    assert got == [(["last words"] * 2, [True, True], 3), None, None]


async def test_a_barrier_waits_for_the_ranks_of_its_own_group(meeting, in_threads):
    """2. A barrier counts the keys of all groups: two that are half there release each other."""
    connected, second_comes, passed = threading.Barrier(5), threading.Event(), []

    def program(group, ranks):
        connected.wait(30)
        if ranks.rank == 1:
            second_comes.wait(30)
        ranks.barrier()
        passed.append((group, ranks.rank))

    def watch():
        connected.wait(30)
        time.sleep(0.5)
        early = list(passed)
        second_comes.set()
        return early

    groups = [all_of(meeting, group, 2, partial(program, group)) for group in ("one", "other")]
    assert await in_threads(watch, *itertools.chain(*groups)) == [[], None, None, None, None]
    assert len(passed) == 4


@over("direct", "relay", "redis", "s3")
async def test_what_a_crashed_run_left_is_never_read(meeting, in_threads, request):
    """3. What is left of a crashed run of the same name is delivered to the next one as data."""
    crashed = []

    def crash(ranks):
        if ranks.rank == 0:
            ranks.send("old", 1)
        ranks._pulse.stop()
        crashed.append(ranks)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fmi.Communicator, "__exit__", lambda *_: None)
        assert await in_threads(*all_of(meeting, "again", 2, crash)) == [None, None]
    if meeting.name in ("direct", "relay"):
        request.getfixturevalue("rendezvous").close_group("again")

    def program(ranks):
        if ranks.rank == 0:
            ranks.barrier()
            ranks.send("new", 1)
            return None
        ranks.barrier()
        return ranks.recv(0)

    assert await in_threads(*all_of(meeting, "again", 2, program)) == [None, "new"]
    for each in crashed:
        each.mailbox.channel.close(Deadline.after(1))


@pytest.mark.parametrize("root", range(3))
async def test_functions_that_do_not_commute_get_their_arguments_in_order(meeting, root):
    """4. With root 1 it folds 13 where 11 is right, and scans 16."""

    def minus_twice(left, right):
        return left - 2 * right

    def program(ranks):
        mine = 10 * (ranks.rank + 1) ** 2
        array = np.full(5000, mine)
        return (
            ranks.reduce(mine, minus_twice, root),
            ranks.scan(mine, minus_twice),
            ranks.exscan(mine, minus_twice),
            ranks.allreduce(mine, minus_twice),
            ranks.allreduce(str(mine), lambda left, right: left + right),
            set(ranks.scan(array, minus_twice)),
        )

    right = [10, 10 - 2 * 40, 10 - 2 * 40 - 2 * 90]
    assert await meeting.run(3, program) == [
        (
            right[2] if rank == root else None,
            right[rank],
            right[rank - 1] if rank else None,
            right[2],
            "104090",
            {right[rank]},
        )
        for rank in range(3)
    ]


@over(*STREAMS, "redis")
async def test_a_receive_from_a_dead_rank_raises_and_writes_nothing(meeting, in_threads):
    """5. A receive from a dead rank returns, with what its buffer held before."""
    transport, mine = meeting.transport("g", 2), np.full(10_000, 7.0)

    def program(ranks):
        first = ranks.recv(1)
        with pytest.raises(fmi.PeerLost) as lost:
            ranks.recv(1, 0, out=mine)
        with pytest.raises(fmi.PeerLost) as again:
            ranks.send("are you there?", 1)
        with pytest.raises(fmi.PeerLost) as sum_:
            ranks.allreduce(mine)
        return first, lost.value.ranks, again.value.ranks, sum_.value.ranks

    dies = "ranks.send('alive', 0)\nos.kill(os.getpid(), signal.SIGKILL)"
    got = await in_threads(
        joining(meeting, transport, "g", 0, 2, program),
        lambda: alone(transport, "g", 1, 2, dies),
    )
    assert got == [("alive", (1,), (1,), (1,)), -signal.SIGKILL]
    assert set(mine) == {7.0}


async def test_messages_keep_their_length(meeting):
    """6. Of messages that are longer than expected the rest is read as the next: 9, 9, 5, 5."""

    def program(ranks):
        if ranks.rank == 0:
            ranks.send(np.full(6, 9), 1)
            ranks.send(np.full(4, 5), 1)
            return None
        return [ranks.recv(0).tolist() for _ in range(2)]

    assert await meeting.run(2, program) == [None, [[9] * 6, [5] * 4]]


@pytest.mark.parametrize("length", [4, 20_000])
async def test_a_message_of_another_length_is_an_error_and_is_not_cut(meeting, length):
    """6. The other way round: Redis cuts it, and nobody is told."""

    def receive(ranks):
        if ranks.rank == 0:
            return ranks.send(np.full(length, 5), 1)
        out = np.full(length - 1, 1)
        with pytest.raises(fmi.ProtocolError, match="as `out` is"):
            ranks.recv(0, 0, out)
        return set(out.tolist())

    assert (await meeting.run(2, receive))[1] == {1}
    for each in await meeting.run(2, lambda ranks: ranks.allreduce(np.ones(length + ranks.rank))):
        assert isinstance(each, fmi.ProtocolError)
        assert "shape" in str(each)


@pytest.mark.parametrize("count", [5, 50_000])
async def test_reductions_leave_what_they_are_given_alone(meeting, count):
    """7. Reductions write over the buffers that are sent; ranks that are no root get them back."""

    def program(ranks):
        mine = np.arange(count) + ranks.rank
        before = mine.copy()
        results = [
            ranks.reduce(mine, root=1),
            ranks.allreduce(mine),
            ranks.reduce_scatter(mine),
            ranks.scan(mine),
            ranks.exscan(mine),
        ]
        assert np.array_equal(mine, before)
        assert not any(np.may_share_memory(mine, each) for each in results if each is not None)
        return results[0] is None

    assert await meeting.run(3, program) == [True, False, True]


async def test_lists_need_no_count(meeting):
    """7. A list that is sent without its length has a random one."""
    got = await meeting.run(2, lambda r: r.bcast([3, 1, 2] if r.rank == 0 else None))
    assert got == [[3, 1, 2]] * 2


@over("memory", *STREAMS, "redis")
async def test_a_receiver_that_is_slow_gets_all_and_what_follows_is_in_place(meeting):
    """8. If only a part can be sent at first, the rest never is: all that follows is shifted."""
    large = np.arange(4 * MIB)

    def program(ranks):
        if ranks.rank == 0:
            ranks.send(large, 1)
            ranks.send("next", 1)
            return None
        time.sleep(0.5)
        return np.array_equal(ranks.recv(0), large), ranks.recv(0)

    assert await meeting.run(2, program) == [None, (True, "next")]


@over(*THROUGH_A_SERVER)
async def test_no_rank_is_taken_for_one_of_another_group(meeting, in_threads):
    """8. Rank 1 of group "x1" and rank 11 of "x" share their names, and so their messages."""

    def program(group, ranks):
        left, right = (ranks.rank - 1) % ranks.size, (ranks.rank + 1) % ranks.size
        return ranks.sendrecv([group, ranks.rank], right, source=left) == [group, left]

    small = all_of(meeting, "x1", 2, partial(program, "x1"))
    large = all_of(meeting, "x", 12, partial(program, "x"))
    assert await in_threads(*small, *large) == [True] * 14


@pytest.mark.parametrize(
    "group", ["two words", "100%s of %n", "a\r\nFLUSHALL\r\n", "../../up", "straße ☂", "*"]
)
async def test_a_group_may_have_any_name(meeting, group, in_threads):
    """8. Blanks and % in a name break the commands that are made of it."""
    got = await in_threads(*all_of(meeting, group, 2, lambda ranks: ranks.allgather(ranks.rank)))
    assert got == [[0, 1]] * 2


# 9 to 14: ranks that wait for ever.


async def test_both_may_send_first(meeting):
    """9. If both send first, both time out: each direction waits for a connection of its own."""

    def program(ranks):
        other = 1 - ranks.rank
        ranks.send(np.full(MIB, ranks.rank), other)
        return bool(np.all(ranks.recv(other) == other))

    assert await meeting.run(2, program) == [True, True]


@over(*STREAMS)
async def test_ranks_that_leave_do_not_wait_in_a_circle(meeting):
    """9. Ranks that wait for each other wait until the deadline: here, for what nobody receives."""
    sent = threading.Barrier(3)
    size = 100_000 if meeting.name == "shared" else 512_000  # fits into the kernel

    def program(ranks):
        ranks.send(bytes(size), (ranks.rank + 1) % 3)
        sent.wait(10)
        return time.monotonic()

    began = await meeting.run(3, program)
    assert time.monotonic() - min(began) < 3  # of 10


async def test_a_rank_that_comes_late_is_waited_for(meeting, in_threads):
    """10. Who comes a second late finds nobody: the first has given up."""
    transport = meeting.transport("g", 2)

    def late():
        time.sleep(1.2)
        return joining(meeting, transport, "g", 1, 2, fmi.Communicator.barrier)()

    early = joining(meeting, transport, "g", 0, 2, fmi.Communicator.barrier)
    assert await in_threads(early, late) == [None, None]


@over(*THROUGH_A_SERVER)
async def test_who_comes_too_late_hangs_no_more_than_who_waited(meeting, in_threads):
    """10. Who comes after the first gave up is paired with that one, and hangs for ever."""
    transport = meeting.transport("g", 2)

    def join(rank, deadline_s, after_s=0.0):
        def timed():
            time.sleep(after_s)
            began = time.monotonic()
            try:
                return joining(meeting, transport, "g", rank, 2, lambda _: "met", deadline_s)()
            except fmi.FmiError as error:
                return error, (time.monotonic() - began) / meeting.slow

        return timed

    (early, early_s), (late, late_s) = await in_threads(
        join(0, 0.6), join(1, 1.0, 0.9 * meeting.slow)
    )
    assert isinstance(early, fmi.PeerLost)
    assert isinstance(late, fmi.PeerLost)
    assert (early.ranks, late.ranks) == ((1,), (0,))
    assert early_s < 1.6
    assert late_s < 2
    assert await in_threads(join(0, 10), join(1, 10)) == ["met", "met"]


async def test_the_rendezvous_survives_those_who_say_nothing(rendezvous, in_threads):
    """11. Two that connect and hang up end the server; one that is silent blocks all others."""
    host, _, port = rendezvous.address.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(3)]
    try:
        for _ in range(2):
            socket.create_connection((host, int(port))).close()
        with socket.create_connection((host, int(port))) as scan:
            scan.sendall(b"GET / HTTP/1.1\r\n\r\n")
        token = rendezvous.admit("g", 2, 30)
        over = fmi.Direct(rendezvous.address, token)

        def rank(number):
            with fmi.connect_blocking("g", number, 2, over, deadline_s=5) as ranks:
                return ranks.allgather(number)

        assert await in_threads(partial(rank, 0), partial(rank, 1)) == [[0, 1]] * 2
    finally:
        for each in silent:
            each.close()


@contextmanager
def busy_machine():
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.enter_context(process)
            stack.callback(process.kill)
        yield


async def set_up(rendezvous, in_threads, times, size):
    for number in range(times):
        group = f"{size}-{number}"
        over = fmi.Direct(rendezvous.address, rendezvous.admit(group, size, 60), relay=False)

        def rank(number, group=group, over=over):
            with fmi.connect_blocking(group, number, size, over, deadline_s=30) as ranks:
                ranks.barrier()

        assert await in_threads(*(partial(rank, each) for each in range(size))) == [None] * size
        rendezvous.close_group(group)


async def test_a_hundred_groups_in_a_row_meet(rendezvous, in_threads):
    """12. 5 of 200 jobs never end: a port conflict ends one rank, and the others wait for it."""
    await set_up(rendezvous, in_threads, 120, 4)


async def test_groups_meet_on_a_busy_machine(rendezvous, in_threads):
    """12. So it is with 3 of 50 set-ups of 8 ranks when the machine is busy."""
    with busy_machine():
        await set_up(rendezvous, in_threads, 30, 8)


async def test_a_rank_without_a_pulse_is_noticed_before_the_deadline(meeting):
    """13. There is no failure detector: a rank that hangs is waited for."""
    end = threading.Barrier(3)

    def program(ranks):
        channel = ranks.mailbox.channel
        channel.patience_s = min(2.5, channel.patience_s)
        ranks.barrier()
        if ranks.rank == 1:
            ranks._pulse.stop()
            end.wait(60)
            return None
        began = time.monotonic()
        try:
            ranks.recv(1)
        except fmi.PeerLost as lost:
            end.wait(60)
            return lost.ranks, lost.why, time.monotonic() - began < 10

    got = await meeting.run(3, program, deadline_s=40)
    for ranks, why, soon in (got[0], got[2]):
        assert ranks == (1,)
        assert "no sign of life" in why
        assert soon


async def test_a_failure_reaches_those_who_wait_for_somebody_else(meeting):
    """13. Nobody is told of a failure: who waits for another rank waits on."""

    def program(ranks):
        if ranks.rank == 3:
            raise RuntimeError("a fault in the program")
        ranks.recv(ranks.rank + 1)

    *others, faulty = await meeting.run(4, program, deadline_s=20)
    assert isinstance(faulty, RuntimeError)
    for each in others:
        assert isinstance(each, fmi.PeerLost)
        assert each.ranks == (3,)
        assert "a fault in the program" in str(each)


async def test_abort_ends_what_the_others_wait_for(meeting):
    """13. There is no way to end the work of all."""

    def program(ranks):
        if ranks.rank == 2:
            time.sleep(0.2)
            ranks.abort("enough")
        ranks.barrier()

    for each in await meeting.run(3, program, deadline_s=20):
        assert isinstance(each, fmi.Aborted)
        assert (each.rank, each.why) == (2, "enough")


async def test_those_that_are_left_go_on(meeting):
    """13. The number of ranks is fixed: when one is lost, so is the work."""

    def program(ranks):
        if ranks.rank == 1:
            return None
        with pytest.raises(fmi.PeerLost):
            ranks.allreduce(np.ones(4))
        smaller = ranks.shrink()
        return smaller.rank, smaller.size, smaller.allreduce(np.full(4, ranks.rank)).tolist()

    got = await meeting.run(4, program)
    assert got == [(0, 3, [5] * 4), None, (1, 3, [5] * 4), (2, 3, [5] * 4)]


async def test_a_straggler_can_be_left_out(meeting):
    """13. All wait for the slowest one."""
    end = threading.Barrier(3)

    def program(ranks):
        if ranks.rank == 1:
            end.wait(30)
            return None
        gathered = ranks.gather_survivors(ranks.rank, wait_s=0.5 * meeting.slow)
        end.wait(30)
        return gathered

    got = await meeting.run(3, program)
    assert got == [({0: 0, 2: 2}, (1,)), None, (None, ())]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@over("memory", *STREAMS, "redis")
async def test_nothing_stays_of_a_group_that_left(meeting, in_threads):
    """14. Each pair that is connected leaves one or two threads and files behind."""

    async def meet(number):
        calls = all_of(meeting, f"g{number}", 3, lambda ranks: ranks.allreduce(1))
        assert await in_threads(*calls) == [3] * 3
        await asyncio.sleep(0)  # the rendezvous, in this loop, hangs up too

    for number in range(3):
        await meet(number)
    files, threads = open_files(), threading.active_count()
    for number in range(3, 53):
        await meet(number)
    end = time.monotonic() + 5
    while (open_files() > files or threading.active_count() > threads) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert open_files() <= files
    assert threading.active_count() <= threads


async def test_a_process_may_be_in_several_groups_at_once(meeting, in_threads):
    """14. What is global in it lets a process connect one pair at a time."""
    groups = ["one", "two", "three"]
    transports = {group: meeting.transport(group, 2) for group in groups}

    def rank(number):
        """All the groups in one thread."""
        with ExitStack() as stack:
            member = {
                group: stack.enter_context(
                    fmi.connect_blocking(
                        group, number, 2, transports[group], deadline_s=10 * meeting.slow
                    )
                )
                for group in groups
            }
            for group in groups:
                member[group].send(group, 1 - number)
            received = [member[group].recv(1 - number) for group in reversed(groups)]
            return received, [member[group].allreduce(1) for group in groups]

    got = await in_threads(partial(rank, 0), partial(rank, 1))
    assert got == [(groups[::-1], [2, 2, 2])] * 2


# 15 to 19: time and memory.


@over(*STREAMS, "redis")
async def test_all_connections_are_open_before_the_first_message(meeting):
    """15. Connections are opened one after another, within the first collective."""
    step = threading.Barrier(4)

    def count(ranks):
        step.wait(10)
        count = open_files() if ranks.rank == 0 else 0
        step.wait(10)
        return count

    def program(ranks):
        before = count(ranks)
        ranks.alltoall([np.ones(1000)] * 4)
        ranks.barrier()
        return count(ranks) > before

    assert await meeting.run(4, program) == [False] * 4


@over(*STREAMS)
async def test_two_that_send_to_each_other_move_both_ways_at_once(meeting):
    """15. An exchange is one way after the other."""
    size = 64 * MIB

    def program(ranks):
        other = 1 - ranks.rank
        ranks.send(bytes(size), other)
        arriving = ranks.mailbox.channel._peers[other]
        taken = arriving.filled if arriving.header else size * bool(ranks.mailbox._messages[0])
        return len(ranks.recv(other)), taken

    (first, taken), (second, also_taken) = await meeting.run(2, program)
    assert first == second == size
    # Who was done sending last had taken in all that the other sent; more than the kernel holds.
    assert max(taken, also_taken) > size / 2


async def test_a_reduction_folds_in_place(in_threads):
    """16. A vector is copied six times on its way through a reduction."""
    count = 4 * MIB
    size, ready, peak = 8 * count, threading.Barrier(2), []
    hub = fmi.Memory(2)  # its messages are copies: they count here, and nowhere else

    def rank(number):
        with fmi.connect_blocking("g", number, 2, hub) as ranks:
            array = np.full(count, number + 1.0)
            ranks.barrier()
            if ready.wait(10) == 0:
                tracemalloc.start()
            ready.wait(10)
            ranks.allreduce(array, out=array)
            if ready.wait(10) == 0:
                peak.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
            return bool(np.all(array == 3))

    assert await in_threads(partial(rank, 0), partial(rank, 1)) == [True, True]
    # Each rank receives half of the other's array beside half of its own, and half of the result.
    assert peak[0] < 2 * (2 * size)


def test_folding_takes_no_memory():
    """16. What folds two vectors makes others on the way."""
    blocks = [np.full(MIB, 1.0 + each) for each in range(8)]
    out = np.empty(MIB)
    tracemalloc.start()
    fmi.reductions.fold_into(out, blocks, fmi.SUM)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.all(out == 36)
    assert peak < MIB  # of 8


ARRAYS = [
    np.arange(6, dtype="f4").reshape(2, 3),
    np.array([1 + 2j, 3], dtype="c16"),
    np.array([True, False]),
    np.asfortranarray(np.arange(12, dtype="i2").reshape(3, 4)),
    np.arange(20)[::3],
    np.zeros((0, 3)),
    np.array(2.5),
    np.array(["2020-01-01"], dtype="M8[D]"),
]


async def test_arrays_arrive_as_they_are(meeting):
    """17. numpy arrays are refused, and lists become boxed numbers."""

    def program(ranks):
        received = ranks.bcast(ARRAYS if ranks.rank == 0 else None)
        each_alone = [ranks.bcast(each if ranks.rank == 0 else None) for each in ARRAYS]
        return received, each_alone

    for received in await meeting.run(2, program):
        for got in received:
            for one, sent in zip(got, ARRAYS, strict=True):
                assert (one.dtype, one.shape) == (sent.dtype, sent.shape)
                assert np.array_equal(one, sent)


async def test_other_threads_run_while_a_rank_waits(meeting):
    """17. Python stands still in a receive: a thread that ticks every 10 ms ticked once in 1 s."""

    def program(ranks):
        if ranks.rank == 0:
            time.sleep(0.6)
            return ranks.send("now", 1)
        ticks, over = [], threading.Event()

        def tick():
            while not over.wait(0.01):
                ticks.append(None)

        ticker = threading.Thread(target=tick)
        ticker.start()
        ranks.recv(0)
        over.set()
        ticker.join()
        return len(ticks)

    assert (await meeting.run(2, program))[1] > 15


async def test_a_rank_that_waits_uses_no_processor(meeting):
    """18. A rank that waits asks every millisecond."""

    def program(ranks):
        ranks.barrier()
        if ranks.rank == 0:
            time.sleep(1)
            return ranks.send("now", 1)
        used_s = time.thread_time()
        ranks.recv(0)
        return time.thread_time() - used_s

    # S3 can only be asked; with pauses that grow, and through a client that takes its time.
    limit_s = 0.5 if meeting.name == "s3" else 0.1
    assert (await meeting.run(2, program))[1] < limit_s


def commands(ask):
    """How often each command was called on the server."""
    lines = ask("INFO", "commandstats").decode().splitlines()
    found = (re.match(r"cmdstat_([^:]+):calls=(\d+)", line) for line in lines)
    return Counter({each[1]: int(each[2]) for each in found if each})


@over("redis")
async def test_a_rank_that_waits_does_not_ask(meeting, ask):
    """18. A receive asks the server every millisecond."""

    def program(ranks):
        ranks.barrier()
        if ranks.rank == 0:
            before = commands(ask)
            time.sleep(1)
            waiting = commands(ask) - before
            ranks.send("now", 1)
            return waiting
        return ranks.recv(0)

    waiting, received = await meeting.run(2, program)
    assert received == "now"
    assert waiting["blpop"] <= 2  # the server answers when there is something
    assert waiting.total() < 30  # the others are heartbeats


@over("redis")
async def test_what_others_keep_in_the_database_costs_nothing(meeting, ask):
    """19. A barrier lists all keys of the database, again and again."""

    def program(ranks):
        for _ in range(20):
            ranks.barrier()
        own = Counter(ranks.mailbox.channel.usage)
        return own["RPUSH"], own["BLPOP"]

    alone = await meeting.run(2, program)
    for number in range(2000):
        ask("SET", f"foreign:{number}", "x")
    ask("CONFIG", "RESETSTAT")
    assert await meeting.run(2, program) == alone
    assert not commands(ask).keys() & {"keys", "scan", "sort", "randomkey"}
    for number in range(2000):
        ask("DEL", f"foreign:{number}")


@over("redis")
async def test_no_message_stays_in_the_database(meeting, ask):
    """19. Every message stays until the job ends, with all it holds."""

    def stored():
        """How many bytes are under each key."""
        return {bytes(key): ask("MEMORY", "USAGE", key) or 0 for key in ask("KEYS", "fmi:*")}

    def program(ranks):
        for _ in range(20):
            ranks.allreduce(np.ones(10_000))
        ranks.barrier()
        within = stored() if ranks.rank == 0 else None
        ranks.barrier()
        return within

    before = stored().keys()
    within, _ = await meeting.run(2, program)
    after = stored()
    # What ranks say when they meet and when they leave is short, and goes by itself.
    for each in (within, after):
        assert sum(size for key, size in each.items() if key not in before) < 4096
    assert all(0 < ask("PTTL", key) <= 600_000 for key in after)


# 20: the tests themselves.


async def test_the_tests_bring_the_servers_they_need():
    """20. The tests need a server at an address that is written into them."""
    here = Path(__file__).parent
    for name in ("conftest.py", "servers.py"):
        addresses = re.findall(r"\d+\.\d+\.\d+\.\d+", (here / name).read_text())
        assert set(addresses) <= {"127.0.0.1"}
    both = [Rendezvous(), Rendezvous()]
    for each in both:
        await each.start()  # at a port that is free
    assert both[0].address != both[1].address
    for each in both:
        await each.close()


async def test_every_channel_is_tested_on_every_machine(meeting):
    """20. Redis and S3 are tested where somebody has set up a server, so nowhere."""
    assert await meeting.run(2, lambda ranks: ranks.allgather(ranks.rank)) == [[0, 1]] * 2


def test_each_of_the_twenty_has_a_test():
    numbers = {
        int(each.__doc__.split(".", 1)[0])
        for name, each in globals().items()
        if name.startswith("test_") and each.__doc__
    }
    assert numbers == set(range(1, 21))
