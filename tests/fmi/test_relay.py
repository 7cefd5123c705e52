"""The relay: what goes in comes out at the other side, and what it costs has limits."""

import asyncio
import hashlib
import random
import socket
import struct
import threading
import time

import pytest

from fmi.deadline import Deadline
from fmi.errors import FmiError, PeerLost, Refused
from fmi.meeting.card import Counter, Member
from fmi.meeting.lines import Line, Switchboard
from fmi.meeting.mesh import Ways, open_mesh
from fmi.meeting.pairing import Pairing
from fmi.meeting.rendezvous import Limits, Rendezvous


async def until(condition, within_s=5.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def start(**limits):
    made = Rendezvous(limits=Limits(**limits))
    await made.start()
    return made


@pytest.fixture
def pair(in_threads):
    """Two ranks that are connected through the relay, as sockets with a time limit."""
    opened = []

    async def pair(rendezvous, group="g"):
        token = rendezvous.admit(group, 2, 30)

        def join(rank):
            meeting = (rendezvous.address, group, rank, 2, token, Deadline.after(5))
            return open_mesh(*meeting, ways=Ways.RELAY)

        first, second = await in_threads(lambda: join(0), lambda: join(1))
        opened.extend([first[1], second[0]])
        for each in opened:
            each.settimeout(10)
        return first[1], second[0]

    yield pair
    for each in opened:
        each.close()


def receive_all(sock):
    digest, count = hashlib.sha256(), 0
    while part := sock.recv(1 << 16):
        digest.update(part)
        count += len(part)
    return count, digest.hexdigest()


def send_and_end(sock, data):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def known(data):
    return len(data), hashlib.sha256(data).hexdigest()


async def test_much_goes_both_ways_at_once(rendezvous, pair, in_threads):
    first, second = await pair(rendezvous)
    one, other = (random.Random(seed).randbytes(20_000_000) for seed in (1, 2))
    got = await in_threads(
        lambda: send_and_end(first, one),
        lambda: send_and_end(second, other),
        lambda: receive_all(second),
        lambda: receive_all(first),
    )
    assert got == [None, None, known(one), known(other)]


async def test_one_that_does_not_read_stops_the_other(rendezvous, pair, in_threads):
    first, second = await pair(rendezvous)
    first.settimeout(0.3)
    data, sent = bytes(1 << 20), 0

    def send():
        nonlocal sent
        while sent < 200 << 20:
            sent += first.send(data)

    (stuck,) = await in_threads(send)
    assert isinstance(stuck, TimeoutError)
    buffered = [each.transport.get_write_buffer_size() for each in rendezvous._visitors]
    assert max(buffered) < 1 << 20
    first.shutdown(socket.SHUT_WR)
    ((count, _),) = await in_threads(lambda: receive_all(second))
    assert count == sent


async def test_the_end_of_one_direction_is_passed_on_and_the_other_goes_on(
    rendezvous, pair, in_threads
):
    first, second = await pair(rendezvous)
    question, answer = random.Random(1).randbytes(5_000_000), random.Random(2).randbytes(5_000_000)

    def ask():
        send_and_end(first, question)
        return receive_all(first)

    def reply():
        heard = receive_all(second)  # up to the end
        send_and_end(second, answer)
        return heard

    assert await in_threads(ask, reply) == [known(answer), known(question)]
    await until(lambda: not rendezvous._visitors)


async def test_a_connection_that_breaks_ends_the_other_behind_its_last_byte(
    rendezvous, pair, in_threads
):
    first, second = await pair(rendezvous)
    first.sendall(b"last words")
    assert await asyncio.to_thread(second.recv, 10) == b"last words"
    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.close()
    assert await asyncio.to_thread(second.recv, 10) == b""
    await until(lambda: not rendezvous._visitors)


async def test_a_group_may_move_so_much_and_no_more(pair, in_threads):
    rendezvous = await start(max_relayed_bytes=1_000_000)
    first, second = await pair(rendezvous)

    def send():
        while True:
            first.sendall(bytes(10_000))

    sent, received = await in_threads(send, lambda: receive_all(second))
    assert isinstance(sent, ConnectionError)
    assert isinstance(received, ConnectionError) or received[0] <= 1_000_000
    await rendezvous.close()


async def test_a_pair_that_rests_too_long_is_cut_and_one_that_works_is_not(pair):
    rendezvous = await start(relay_idle_s=0.2)
    first, second = await pair(rendezvous)
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        first.sendall(b"x")
        assert await asyncio.to_thread(second.recv, 1) == b"x"
        await asyncio.sleep(0.05)
    started = time.monotonic()
    assert await asyncio.to_thread(second.recv, 1) == b""
    assert 0.1 < time.monotonic() - started < 2
    await rendezvous.close()


async def test_pairs_that_work_outlive_their_group_but_not_the_server(rendezvous, pair):
    first, second = await pair(rendezvous)
    rendezvous.close_group("g")
    again = await pair(rendezvous)  # a group of the same name is another one
    for _ in range(3):
        for left, right in ((first, second), again):
            left.sendall(b"x")
            assert await asyncio.to_thread(right.recv, 1) == b"x"
    await rendezvous.close()
    for each in (first, second):
        assert await asyncio.to_thread(each.recv, 1) == b""


def asking(address, member, other, wait_s=5.0):
    """Ask for a pair with `other`; returns the socket once the other is there."""

    def ask():
        host, port = address.split(":")
        failed, joined = [], []
        with Switchboard() as board:
            line = Line(socket.socket())

            def talk():
                counter = Counter(line, member, None)
                yield from counter.reach((host, int(port)))
                yield from counter.ask(wait_s, other=other)
                joined.append((yield from counter.answer()))

            board.start(line, talk(), failed.append)
            end = time.monotonic() + 5
            while not (failed or joined):
                assert time.monotonic() < end
                board.turn(0.1)
        if failed:
            raise failed[0]
        line.sock.settimeout(5)
        return line.sock

    return ask


async def test_a_pair_is_refused_to_who_does_not_know_the_token(rendezvous, in_threads):
    rendezvous.admit("g", 3, 10)
    (got,) = await in_threads(asking(rendezvous.address, Member("g", 0, 3, "3.1.0.stolen"), 1))
    assert isinstance(got, Refused)
    assert "wrong token" in str(got)


@pytest.mark.parametrize(("rank", "other"), [(0, 0), (0, 3), (3, 0), (-1, 0)])
async def test_a_pair_is_two_ranks_of_the_group(rendezvous, in_threads, rank, other):
    token = rendezvous.admit("g", 3, 10)
    (got,) = await in_threads(asking(rendezvous.address, Member("g", rank, 3, token), other))
    assert isinstance(got, Refused)


async def test_a_pair_is_refused_when_the_group_is_over(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 10)
    waits = asyncio.create_task(in_threads(asking(rendezvous.address, Member("g", 0, 2, token), 1)))
    await until(lambda: any(each.pairs._waiting for each in rendezvous._groups.values()))
    rendezvous.close_group("g")
    late = await in_threads(asking(rendezvous.address, Member("g", 1, 2, token), 0))
    for each in (*await waits, *late):
        assert isinstance(each, Refused)
        assert "over" in str(each)


async def test_a_group_that_met_in_its_last_moment_still_finds_the_relay(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 0.05)
    await asyncio.sleep(0.1)
    got = await in_threads(
        *(asking(rendezvous.address, Member("g", rank, 2, token), 1 - rank) for rank in range(2))
    )
    for each in got:
        each.close()


async def test_who_asks_again_takes_its_own_place(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 10)
    calls = [asking(rendezvous.address, Member("g", rank, 2, token), 1 - rank) for rank in range(2)]
    old = asyncio.create_task(in_threads(calls[0]))
    await until(lambda: any(each.pairs._waiting for each in rendezvous._groups.values()))
    new = asyncio.create_task(in_threads(calls[0]))
    (replaced,) = await old
    assert isinstance(replaced, ConnectionError)
    (other,), (joined,) = await in_threads(calls[1]), await new
    joined.sendall(b"x")
    assert await asyncio.to_thread(other.recv, 1) == b"x"
    # A second connection of the same pair ends the first.
    third = await in_threads(*calls)
    assert await asyncio.to_thread(joined.recv, 1) == b""
    for each in (joined, other, *third):
        each.close()


async def test_who_waits_for_one_that_never_comes_is_sent_away(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 10)
    (got,) = await in_threads(asking(rendezvous.address, Member("g", 0, 2, token), 1, 0.2))
    assert isinstance(got, ConnectionError)


async def test_one_that_talks_before_the_other_is_there_is_hung_up_on(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 10)
    waits = asyncio.create_task(in_threads(asking(rendezvous.address, Member("g", 0, 2, token), 1)))
    await until(lambda: any(each.pairs._waiting for each in rendezvous._groups.values()))
    (group,) = rendezvous._groups.values()
    ((_, visitor),) = group.pairs._waiting.values()
    visitor.data_received(b"x")
    (got,) = await waits
    assert isinstance(got, ConnectionError)
    assert not group.pairs._waiting


async def test_a_storm_of_strangers_does_not_reach_a_pair_that_works(rendezvous, pair, in_threads):
    first, second = await pair(rendezvous)
    host, port = rendezvous.address.split(":")
    over = threading.Event()

    def storm():
        silent = []
        for number in range(1000):
            stranger = socket.create_connection((host, int(port)))
            stranger.sendall(random.Random(number).randbytes(number % 50))
            silent.append(stranger)
        for number in range(100):
            thief = Member("g", number % 2, 2, "2.9999999999999.0.stolen")
            with pytest.raises(FmiError):
                asking(rendezvous.address, thief, 1 - number % 2)()
        over.set()
        for each in silent:
            each.close()

    def work():
        slowest = 0.0
        while not over.is_set():
            started = time.monotonic()
            first.sendall(b"question")
            assert second.recv(8, socket.MSG_WAITALL) == b"question"
            slowest = max(slowest, time.monotonic() - started)
        return slowest

    failed, slowest = await in_threads(storm, work)
    assert failed is None
    assert slowest < 1


async def test_a_restart_ends_pairs_but_not_the_opening_of_them(in_threads, monkeypatch):
    """Rank 1 comes to the relay only after the restart."""
    first = Rendezvous(b"s" * 32)
    await first.start()
    token = first.admit("g", 2, 30)
    gate, relay = threading.Event(), Pairing._relay

    def late(self, other, *rest):
        if self.member.rank == 1:
            gate.wait(5)
        relay(self, other, *rest)

    monkeypatch.setattr(Pairing, "_relay", late)

    def join(rank):
        meeting = (first.address, "g", rank, 2, token, Deadline.after(5))
        for each in open_mesh(*meeting, ways=Ways.RELAY).values():
            each.close()

    joins = asyncio.create_task(in_threads(lambda: join(0), lambda: join(1)))
    await until(lambda: any(each.pairs._waiting for each in first._groups.values()))
    await first.close()
    second = Rendezvous(b"s" * 32)
    await second.start(port=int(first.address.split(":")[1]))
    gate.set()
    assert await joins == [None, None]
    await second.close()


async def test_where_the_relay_is_gone_the_ranks_that_are_not_reached_are_named(
    rendezvous, in_threads, monkeypatch
):
    def none(self, other, *_):
        self._why[other] = "relay: gone"

    monkeypatch.setattr(Pairing, "_relay", none)
    token = rendezvous.admit("g", 2, 30)
    meeting = (rendezvous.address, "g")
    got = await in_threads(
        *(
            lambda rank=rank: open_mesh(
                *meeting, rank, 2, token, Deadline.after(0.3), ways=Ways.RELAY
            )
            for rank in range(2)
        )
    )
    assert all(isinstance(each, PeerLost) for each in got)
    assert [each.ranks for each in got] == [(1,), (0,)]
    assert "relay: gone" in str(got[0])
