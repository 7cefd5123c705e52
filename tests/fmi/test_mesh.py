"""The opening of a mesh: one connection per pair, whoever is late, in the way or missing."""

import asyncio
import errno
import random
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fmi.deadline import Deadline
from fmi.errors import NoNetwork, PeerLost
from fmi.meeting import lines, mesh, pairing, tokens
from fmi.meeting.card import Member
from fmi.meeting.greeting import greet
from fmi.meeting.lines import Line, Switchboard
from fmi.meeting.mesh import Ways, open_mesh
from fmi.meeting.pairing import Pairing
from fmi.meeting.rendezvous import Rendezvous

ALL_WAYS = pytest.mark.parametrize("ways", Ways)


@pytest.fixture
def open_all(rendezvous, in_threads):
    """Open a mesh on `ranks` of a group of `size`; `use` says what to do with it."""

    async def open_all(size, ways=Ways.DIRECT, *, ranks=None, use=exchange, deadline_s=10.0):
        group = f"g{random.getrandbits(64)}"
        token = rendezvous.admit(group, size, 30)

        def rank(number):
            opened = open_mesh(
                rendezvous.address,
                group,
                number,
                size,
                token,
                Deadline.after(deadline_s),
                ways=ways,
            )
            try:
                return use(number, opened)
            finally:
                for each in opened.values():
                    each.close()

        chosen = range(size) if ranks is None else ranks
        return await in_threads(*(lambda number=number: rank(number) for number in chosen))

    return open_all


def exchange(rank, opened):
    """Whom this rank hears over the connection to each other rank."""
    for each in opened.values():
        each.sendall(bytes([rank]))
    return {other: each.recv(1)[0] for other, each in opened.items()}


def everybody(size):
    return [{other: other for other in range(size) if other != rank} for rank in range(size)]


async def join(rendezvous, rank, size):
    """One more rank of the only group there is, as if it had been given the token."""
    ((public, group),) = rendezvous._groups.items()
    token = f"{public}.{tokens.key_of(rendezvous._secret, group.name, public)}"

    def join():
        meeting = rendezvous.address, group.name, rank, size, token, Deadline.after(5)
        opened = open_mesh(*meeting)
        try:
            return exchange(rank, opened)
        finally:
            for each in opened.values():
                each.close()

    return await asyncio.to_thread(join)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition, within_s=5.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def seat_of(rendezvous, rank=0):
    """The address at which a rank that waits is listening."""
    while True:
        for group in rendezvous._groups.values():
            if rank in group._here:
                return group._here[rank][0].own
        await asyncio.sleep(0.002)


@ALL_WAYS
@pytest.mark.parametrize("size", [1, 2, 3, 8])
async def test_every_pair_has_one_connection(open_all, ways, size):
    assert await open_all(size, ways) == everybody(size)


@ALL_WAYS
async def test_connections_block_and_do_not_wait_for_more_to_send(open_all, ways):
    def look(_, opened):
        (each,) = opened.values()
        return each.gettimeout(), bool(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    assert await open_all(2, ways, use=look) == [(None, True)] * 2


async def test_fifty_groups_of_eight_meet_one_after_the_other(open_all):
    for _ in range(50):
        assert await open_all(8) == everybody(8)


async def test_ten_groups_meet_at_the_same_time(open_all):
    assert await asyncio.gather(*(open_all(4) for _ in range(10))) == [everybody(4)] * 10


@ALL_WAYS
async def test_a_late_rank_is_waited_for(rendezvous, open_all, in_threads, ways):
    token = rendezvous.admit("g", 3, 30)

    def join(rank):
        meeting = (rendezvous.address, "g", rank, 3, token, Deadline.after(5))
        opened = open_mesh(*meeting, ways=ways)
        try:
            return exchange(rank, opened)
        finally:
            for each in opened.values():
                each.close()

    early = asyncio.create_task(in_threads(lambda: join(0), lambda: join(2)))
    await asyncio.sleep(0.4)
    (late,) = await in_threads(lambda: join(1))
    first, last = await early
    assert [first, late, last] == everybody(3)


@ALL_WAYS
async def test_ranks_that_never_come_are_named_on_all_that_did(open_all, ways):
    came = await open_all(6, ways, ranks=(0, 2, 5), deadline_s=0.5)
    assert [each.ranks for each in came] == [(1, 3, 4)] * 3


@ALL_WAYS
async def test_a_rank_that_dies_between_meeting_and_connecting_is_named(
    open_all, monkeypatch, ways
):
    learn = Pairing.learn

    def die(self, cards):
        if self.member.rank == 1:
            raise KeyboardInterrupt
        learn(self, cards)

    monkeypatch.setattr(Pairing, "learn", die)
    first, dead, last = await open_all(3, ways, deadline_s=0.5)
    assert isinstance(dead, KeyboardInterrupt)
    assert first.ranks == last.ranks == (1,)


def no_way_between(monkeypatch, first, second):
    """As if both were behind NATs that give every connection another port."""
    targets = Pairing._targets

    def some_targets(self, other):
        pair = {self.member.rank, other}
        return [] if pair == {first, second} else targets(self, other)

    monkeypatch.setattr(Pairing, "_targets", some_targets)


async def test_a_pair_that_cannot_call_each_other_goes_through_the_relay(open_all, monkeypatch):
    no_way_between(monkeypatch, 0, 2)

    def peers(rank, opened):
        return {other: each.getpeername()[1] for other, each in opened.items()}, exchange(
            rank, opened
        )

    started = time.monotonic()
    got = await open_all(3, Ways.DIRECT_OR_RELAY, use=peers, deadline_s=1.0)
    assert [heard for _, heard in got] == everybody(3)
    assert time.monotonic() - started < 0.7  # the direct way had 0.3 of it
    assert got[0][0][2] == got[2][0][0] != got[0][0][1]  # both at one port: the relay's


async def test_a_pair_that_cannot_call_each_other_is_named_where_there_is_no_relay(
    open_all, monkeypatch
):
    no_way_between(monkeypatch, 0, 2)
    got = await open_all(3, Ways.DIRECT, use=lambda _, opened: list(opened), deadline_s=0.5)
    assert got[0].ranks == (2,)
    assert got[1] == [0, 2]
    assert got[2].ranks == (0,)
    assert "allow the relay" in str(got[0])


async def test_both_agree_however_close_the_race_between_direct_and_relayed(open_all, monkeypatch):
    monkeypatch.setattr(pairing, "_DIRECT_SHARE", 0.0)
    for _ in range(15):
        assert await open_all(4, Ways.DIRECT_OR_RELAY) == everybody(4)


async def test_both_agree_when_both_call_each_other(open_all, monkeypatch):
    """From the announced port to the announced port, as through NATs, and both at one moment."""

    def outside(self, other):
        return [pairing._Target(self._cards[other].seen, from_our_port=True)]

    monkeypatch.setattr(Pairing, "_targets", outside)
    for _ in range(15):
        assert await open_all(4) == everybody(4)


async def test_a_call_that_is_refused_is_made_again(open_all, monkeypatch):
    connect, refused = Line.connect, []

    def often_refused(self, address):
        if self.other is not None and len(refused) < 4:
            refused.append(address)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "not yet")
        return (yield from connect(self, address))

    monkeypatch.setattr(Line, "connect", often_refused)
    assert await open_all(2) == everybody(2)
    assert len(refused) == 4


async def test_strangers_at_the_door_of_a_rank_hold_nobody_up(rendezvous, open_all):
    meeting = asyncio.create_task(open_all(3, ranks=(0, 1)))
    door = await seat_of(rendezvous)
    source = random.Random(5)
    silent = []
    for number in range(300):
        stranger = socket.create_connection(door)
        with suppress(ConnectionError):
            stranger.sendall(source.randbytes(number % 100))
        silent.append(stranger)
    started = time.monotonic()
    assert await join(rendezvous, 2, 3) == everybody(3)[2]
    assert await meeting == everybody(3)[:2]
    assert time.monotonic() - started < 0.4  # less than one stranger is given
    for each in silent:
        each.close()


async def test_who_does_not_know_the_token_takes_no_place_at_a_rank(rendezvous, open_all):
    meeting = asyncio.create_task(open_all(2, ranks=(0,)))
    door = await seat_of(rendezvous)
    group = next(iter(rendezvous._groups.values())).name
    thief = Member(group, 1, 2, "2.0.0.stolen")
    failed = []

    def steal():
        with Switchboard() as board:
            line = Line(socket.create_connection(door))
            talk = greet(line, thief, None, calls=True, wanted=lambda _: True)

            def run():
                yield from talk

            board.start(line, run(), failed.append)
            end = time.monotonic() + 5
            while not failed and time.monotonic() < end:
                board.turn(0.1)

    await asyncio.to_thread(steal)
    assert "does not know" in str(failed[0])
    assert await join(rendezvous, 1, 2) == {0: 0}
    assert await meeting == [{1: 1}]


async def test_a_silent_stranger_is_hung_up_on(rendezvous, open_all):
    meeting = asyncio.create_task(open_all(2, ranks=(0,), deadline_s=1.2))
    with socket.create_connection(await seat_of(rendezvous)) as stranger:
        stranger.settimeout(1.0)
        assert await asyncio.to_thread(stranger.recv, 1) == b""
    await meeting


@ALL_WAYS
async def test_nothing_stays_open(open_all, ways):
    await open_all(3, ways)
    await asyncio.sleep(0.05)
    before = open_files()
    for _ in range(3):
        assert await open_all(4, ways) == everybody(4)
        lost = await open_all(4, ways, ranks=(0, 1, 2), deadline_s=0.1)
        assert all(isinstance(each, PeerLost) for each in lost)
    await until(lambda: open_files() <= before)


async def test_connections_are_closed_where_one_cannot_be_had(open_all, monkeypatch):
    no_way_between(monkeypatch, 0, 2)
    await open_all(3, use=lambda *_: None, deadline_s=0.2)
    before = open_files()
    got = await open_all(3, use=lambda *_: None, deadline_s=0.2)
    assert isinstance(got[0], PeerLost)
    await until(lambda: open_files() <= before)


@pytest.fixture
def no_port(monkeypatch):
    """A machine that lets nobody listen."""

    def refuse(family, port=None, host=""):
        if host:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return lines.new_socket(family, port, host)

    monkeypatch.setattr(mesh, "new_socket", refuse)


async def test_a_machine_on_which_no_port_can_be_opened_says_what_to_do(open_all, no_port):
    for each in await open_all(2):
        assert isinstance(each, NoNetwork)
        assert "Cannot assign" in str(each)
        assert "see that it may open ports" in str(each)


async def test_who_cannot_listen_goes_through_the_relay_at_once(open_all, no_port):
    started = time.monotonic()
    assert await open_all(3, Ways.DIRECT_OR_RELAY) == everybody(3)
    assert time.monotonic() - started < 1


async def test_a_machine_that_takes_no_calls_says_what_to_do(open_all, monkeypatch):
    class Full(socket.socket):
        def accept(self):
            raise OSError(errno.EMFILE, "Too many open files")

    def full(family, port=None, host=""):
        made = lines.new_socket(family, port, host)
        return Full(fileno=made.detach()) if host else made

    monkeypatch.setattr(mesh, "new_socket", full)
    got = await open_all(2, deadline_s=0.5)
    assert isinstance(got[0], NoNetwork)
    assert "ulimit" in str(got[0])


async def test_a_rank_listens_where_it_reaches_the_rendezvous(in_threads):
    rendezvous = Rendezvous()
    await rendezvous.start("127.0.0.2")
    rendezvous.admit("g", 2, 10)
    met = await asyncio.gather(*(join(rendezvous, rank, 2) for rank in range(2)))
    assert met == everybody(2)
    await rendezvous.close()


@pytest.mark.parametrize(
    ("own", "seen", "their_own", "their_seen", "rank", "calls"),
    [
        # Nobody is behind a NAT: the higher rank calls.
        ("9.0.0.1", "9.0.0.1", "9.0.0.2", "9.0.0.2", "higher", ["9.0.0.2"]),
        ("9.0.0.1", "9.0.0.1", "9.0.0.2", "9.0.0.2", "lower", []),
        # One is: it calls the other, whoever is higher.
        ("10.0.0.1", "9.0.0.1", "9.0.0.2", "9.0.0.2", "higher", ["9.0.0.2"]),
        ("10.0.0.1", "9.0.0.1", "9.0.0.2", "9.0.0.2", "lower", ["9.0.0.2"]),
        ("9.0.0.1", "9.0.0.1", "10.0.0.1", "9.0.0.2", "higher", []),
        ("9.0.0.1", "9.0.0.1", "10.0.0.1", "9.0.0.2", "lower", []),
        # Both are, behind two: each calls what the rendezvous sees, from the port it shows.
        ("10.0.0.1", "9.0.0.1", "10.0.0.1", "9.0.0.2", "higher", ["9.0.0.2*"]),
        ("10.0.0.1", "9.0.0.1", "10.0.0.1", "9.0.0.2", "lower", ["9.0.0.2*"]),
        # Behind the same: first inside.
        ("10.0.0.1", "9.0.0.1", "10.0.0.2", "9.0.0.1", "higher", ["10.0.0.2", "9.0.0.1*"]),
        ("10.0.0.1", "9.0.0.1", "10.0.0.2", "9.0.0.1", "lower", ["9.0.0.1*"]),
        # One does not listen: only the relay is left.
        (None, "9.0.0.1", "9.0.0.2", "9.0.0.2", "higher", []),
        ("9.0.0.1", "9.0.0.1", None, "9.0.0.2", "higher", []),
    ],
)
def test_who_calls_whom(own, seen, their_own, their_seen, rank, calls):
    me, other = (1, 0) if rank == "higher" else (0, 1)
    with Switchboard() as board:
        pairs = Pairing(
            board, ("", 0), Member("g", me, 2, ""), Ways.DIRECT, None, Deadline.after(1)
        )
        pairs._cards = {
            each: pairing.Card(host and (host, 5), (outside, 5))
            for each, host, outside in ((me, own, seen), (other, their_own, their_seen))
        }
        got = [f"{each.address[0]}{'*' * each.from_our_port}" for each in pairs._targets(other)]
    assert got == calls
