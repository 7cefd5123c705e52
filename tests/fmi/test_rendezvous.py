"""The rendezvous: who gets in, who does not, what strangers cost, and what a restart costs."""

import asyncio
import random
import socket
import struct
import time
from functools import partial

import pytest

from fmi.deadline import Deadline
from fmi.errors import PeerLost, Refused
from fmi.meeting import tokens
from fmi.meeting.card import packed
from fmi.meeting.mesh import open_mesh
from fmi.meeting.rendezvous import Limits, Rendezvous
from fmi.meeting.visitors import Visitor

SECRET = b"s" * 32


def joining(address, group, rank, size, token, deadline_s=5.0):
    """A call that opens a mesh, and says whom it is connected to."""

    def join():
        mesh = open_mesh(address, group, rank, size, token, Deadline.after(deadline_s))
        for each in mesh.values():
            each.close()
        return list(mesh)

    return join


def all_of(address, group, size, token, deadline_s=5.0):
    return [joining(address, group, rank, size, token, deadline_s) for rank in range(size)]


def everybody(size):
    return [[other for other in range(size) if other != rank] for rank in range(size)]


async def until(condition, within_s=5.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


async def start(secret=SECRET, port=0, **limits):
    made = Rendezvous(secret, limits=Limits(**limits))
    await made.start(port=port)
    return made


def port_of(rendezvous):
    return int(rendezvous.address.rpartition(":")[2])


@pytest.mark.parametrize("token", ["stolen", "2.9999999999999.00.stolen", ""])
async def test_a_wrong_token_is_refused_and_the_group_still_meets(rendezvous, in_threads, token):
    right = rendezvous.admit("g", 2, 10)
    (thief,) = await in_threads(joining(rendezvous.address, "g", 1, 2, token))
    assert isinstance(thief, Refused)
    assert "wrong token" in str(thief)
    assert await in_threads(*all_of(rendezvous.address, "g", 2, right)) == everybody(2)


async def test_a_token_is_good_for_its_group_and_size_and_time_only(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 10)
    size, expires, *rest = token.split(".")
    longer = ".".join([size, str(int(expires) + 10**6), *rest])
    larger = ".".join(["3", expires, *rest])
    for group, ranks, forged in (("h", 2, token), ("g", 2, longer), ("g", 3, larger)):
        (got,) = await in_threads(joining(rendezvous.address, group, 0, ranks, forged))
        assert isinstance(got, Refused)
        assert "wrong token" in str(got)


async def test_the_key_never_travels(rendezvous, in_threads, monkeypatch):
    heard = bytearray()
    listen = Visitor.data_received
    monkeypatch.setattr(
        Visitor, "data_received", lambda self, data: (heard.extend(data), listen(self, data))[1]
    )
    token = rendezvous.admit("g", 2, 10)
    assert await in_threads(*all_of(rendezvous.address, "g", 2, token)) == everybody(2)
    public, key = tokens.split(token)
    assert public.encode() in heard
    assert key.encode() not in heard


async def test_a_rendezvous_that_does_not_know_the_token_is_not_believed(in_threads):
    """Or it could send the ranks to addresses of its choice."""

    async def pretend(reader, writer):
        writer.write(packed({"nonce": "0"}))
        await reader.read(1 << 16)
        writer.write(packed({"said": '{"peers": {}}', "proof": "0" * 64}))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (got,) = await in_threads(joining(f"127.0.0.1:{port}", "g", 0, 2, "2.0.0.k"))
    assert isinstance(got, Refused)
    assert "does not know the group's token" in str(got)


async def test_a_group_that_was_closed_is_over_and_its_name_can_be_used_again(
    rendezvous, in_threads
):
    old = rendezvous.admit("g", 2, 10)
    with pytest.raises(ValueError, match="name of its own"):
        rendezvous.admit("g", 2, 10)
    rendezvous.close_group("g")
    new = rendezvous.admit("g", 2, 10)
    (late,) = await in_threads(joining(rendezvous.address, "g", 0, 2, old))
    assert isinstance(late, Refused)
    assert "over" in str(late)
    assert await in_threads(*all_of(rendezvous.address, "g", 2, new)) == everybody(2)


async def test_closing_a_group_turns_away_who_waits(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 10)
    waits = asyncio.create_task(in_threads(joining(rendezvous.address, "g", 0, 2, token)))
    await until(lambda: any(group._here for group in rendezvous._groups.values()))
    rendezvous.close_group("g")
    (turned_away,) = await waits
    assert isinstance(turned_away, Refused)
    assert "over" in str(turned_away)


async def test_a_group_is_over_after_its_time(rendezvous, in_threads):
    token = rendezvous.admit("brief", 1, 0.05)
    await asyncio.sleep(0.1)
    (late,) = await in_threads(joining(rendezvous.address, "brief", 0, 1, token))
    assert isinstance(late, Refused)
    assert "over" in str(late)
    rendezvous.admit("brief", 1, 10)  # and its name is free


async def test_a_group_that_met_is_over_after_its_time_too(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 10)
    assert await in_threads(*all_of(rendezvous.address, "g", 2, token)) == everybody(2)
    (group,) = rendezvous._groups.values()
    group.expires = time.time()
    (again,) = await in_threads(joining(rendezvous.address, "g", 1, 2, token))
    assert isinstance(again, Refused)


async def test_so_many_groups_and_no_more():
    rendezvous = await start(max_groups=2)
    rendezvous.admit("a", 2, 10)
    rendezvous.admit("b", 2, 0.01)
    with pytest.raises(ValueError, match="2 groups wait"):
        rendezvous.admit("c", 2, 10)
    await asyncio.sleep(0.02)
    rendezvous.admit("c", 2, 10)
    await rendezvous.close()


async def test_ranks_that_never_come_are_named_on_all_that_did(rendezvous, in_threads):
    token = rendezvous.admit("g", 5, 10)
    started = time.monotonic()
    came = await in_threads(
        *(joining(rendezvous.address, "g", rank, 5, token, 0.5) for rank in (0, 2, 4))
    )
    assert [each.ranks for each in came] == [(1, 3)] * 3
    assert time.monotonic() - started < 2


async def test_who_left_while_it_waited_is_missing(rendezvous, in_threads):
    token = rendezvous.admit("g", 3, 10)
    brief, patient = (joining(rendezvous.address, "g", rank, 3, token, 0.3) for rank in (0, 1))
    await in_threads(brief)
    (late,) = await in_threads(patient)
    assert late.ranks == (0, 2)


@pytest.mark.parametrize(("rank", "size"), [(2, 3), (0, 1), (2, 2)])
async def test_a_wrong_size_or_rank_is_refused(rendezvous, in_threads, rank, size):
    token = rendezvous.admit("g", 2, 10)
    (wrong,) = await in_threads(joining(rendezvous.address, "g", rank, size, token))
    assert isinstance(wrong, Refused)
    assert "ranks 0 to 1" in str(wrong)


async def test_nobody_at_the_address_is_refused_soon(in_threads):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    (alone,) = await in_threads(joining(f"127.0.0.1:{port}", "g", 0, 2, "t", 0.6))
    assert isinstance(alone, Refused)
    assert "host:port" in str(alone)
    assert time.monotonic() - started < 0.6


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1", "127.0.0.1:x", " ", ":80"])
async def test_an_address_that_is_none_is_refused_at_once(in_threads, address):
    started = time.monotonic()
    (got,) = await in_threads(joining(address, "g", 0, 1, "t"))
    assert isinstance(got, Refused)
    assert "host:port" in str(got)
    assert time.monotonic() - started < 0.3


async def test_something_else_at_the_address_is_refused(in_threads):
    async def ssh(_, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(ssh, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (got,) = await in_threads(joining(f"127.0.0.1:{port}", "g", 0, 2, "t"))
    assert isinstance(got, Refused)
    assert "not this group's rendezvous" in str(got)


async def test_a_rendezvous_that_says_nothing_is_named_at_the_deadline(in_threads):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        (got,) = await in_threads(joining(f"127.0.0.1:{port}", "g", 1, 3, "t", 0.3))
    assert isinstance(got, PeerLost)
    assert got.ranks == (0, 2)
    assert "did not answer" in str(got)


async def test_an_ipv6_address_is_written_with_brackets_or_without(in_threads, ipv6):
    rendezvous = Rendezvous()
    await rendezvous.start(ipv6)
    for number, address in enumerate(
        (f"{ipv6}:{port_of(rendezvous)}", f"[{ipv6}]:{port_of(rendezvous)}")
    ):
        token = rendezvous.admit(f"g{number}", 2, 10)
        met = await in_threads(*all_of(address, f"g{number}", 2, token))
        assert met == everybody(2)
    await rendezvous.close()


def storm(address, count):
    """Garbage, huge lengths, JSON of the wrong kind, connect-and-close, and silence."""
    source = random.Random(3)
    host, port = address.split(":")
    silent = []
    says = (
        lambda: source.randbytes(source.randint(1, 200)),
        lambda: struct.pack("!I", 2**31) + b"x" * 10,
        lambda: packed({"said": "[]", "proof": 1}),
        lambda: packed({"said": 7}),
        lambda: struct.pack("!I", 1) + b"7",
        lambda: b"",
    )
    for number in range(count):
        stranger = socket.create_connection((host, int(port)))
        if number % 2:
            stranger.sendall(struct.pack("!I", 100)[: number % 5])
            silent.append(stranger)
        else:
            stranger.sendall(says[number // 2 % len(says)]())
            stranger.close()
    return silent


async def test_a_storm_of_strangers_holds_no_group_up(rendezvous, in_threads, caplog):
    """A thousand strangers and a hundred wrong tokens, while one group meets and another comes."""
    address = rendezvous.address
    early, late = rendezvous.admit("early", 8, 30), rendezvous.admit("late", 8, 30)

    def thieves():
        got = []
        for _ in range(100):
            try:
                joining(address, "early", 3, 8, "8.1.0.stolen")()
            except Refused as refused:
                got.append(refused)
        return got

    came = asyncio.create_task(in_threads(*all_of(address, "early", 8, early)[:7]))
    strangers = asyncio.create_task(in_threads(lambda: storm(address, 1000), thieves))
    met = await in_threads(*all_of(address, "late", 8, late))
    assert met == everybody(8)
    ((silent, refused),) = await asyncio.gather(strangers)
    assert len(silent) == 500
    assert len(refused) == 100
    started = time.monotonic()
    (last,) = await in_threads(joining(address, "early", 7, 8, early))
    assert [*await came, last] == everybody(8)
    assert time.monotonic() - started < 1
    for each in silent:
        each.close()
    assert not caplog.records  # an exception that nobody expected would be logged


async def test_who_does_not_say_who_it_is_must_go_when_others_come(in_threads):
    rendezvous = await start(max_strangers=20, introduction_s=60)
    silent = storm(rendezvous.address, 200)
    token = rendezvous.admit("g", 4, 10)
    assert await in_threads(*all_of(rendezvous.address, "g", 4, token)) == everybody(4)
    await until(lambda: len(rendezvous._visitors) <= 20)
    await rendezvous.close()
    for each in silent:
        each.close()


async def test_who_does_not_say_who_it_is_must_go_after_a_while():
    rendezvous = await start(introduction_s=0.05)
    silent = storm(rendezvous.address, 20)
    await until(lambda: not rendezvous._visitors)
    await rendezvous.close()
    for each in silent:
        each.close()


async def test_over_the_limit_of_connections_nobody_gets_in_until_some_leave(in_threads):
    rendezvous = await start(max_connections=5)
    silent = [socket.create_connection(("127.0.0.1", port_of(rendezvous))) for _ in range(5)]
    await until(lambda: len(rendezvous._visitors) == 5)
    token = rendezvous.admit("g", 2, 10)
    meeting = asyncio.create_task(in_threads(*all_of(rendezvous.address, "g", 2, token)))
    await asyncio.sleep(0.1)
    assert not meeting.done()
    for each in silent:
        each.close()
    assert await meeting == everybody(2)
    await rendezvous.close()


async def test_a_restart_is_tolerated_while_ranks_wait(in_threads):
    first = await start()
    token = first.admit("g", 4, 30)
    calls = all_of(first.address, "g", 4, token)
    waiting = asyncio.create_task(in_threads(*calls[:3]))
    await until(lambda: any(len(group._here) == 3 for group in first._groups.values()))
    await first.close()
    await asyncio.sleep(0.1)  # nobody answers
    second = await start(port=port_of(first))
    (last,) = await in_threads(calls[3])
    assert [*await waiting, last] == everybody(4)
    await second.close()


async def test_a_rendezvous_that_does_not_come_back_is_not_waited_for(in_threads):
    first = await start()
    token = first.admit("g", 3, 30)

    def meet(rank):
        open_mesh(first.address, "g", rank, 3, token, Deadline.after(20), restart_s=0.3)

    waiting = asyncio.create_task(in_threads(partial(meet, 0), partial(meet, 1)))
    await until(lambda: any(len(group._here) == 2 for group in first._groups.values()))
    await first.close()
    gone = time.monotonic()
    for each in await waiting:
        assert isinstance(each, Refused)
        assert "did not come back" in str(each)
    assert time.monotonic() - gone < 3


async def test_a_restart_is_tolerated_when_only_some_have_heard_where_the_others_are(
    in_threads, monkeypatch
):
    first = await start()
    token = first.admit("g", 3, 30)
    heard, say = [], Visitor.answer

    def answer(self, message):
        heard.append(self)
        if len(heard) > 1:
            self.abort()  # it dies in the middle
        else:
            say(self, message)

    monkeypatch.setattr(Visitor, "answer", answer)
    waiting = asyncio.create_task(in_threads(*all_of(first.address, "g", 3, token, 15.0)))
    await until(lambda: heard)
    await first.close()
    monkeypatch.setattr(Visitor, "answer", say)
    second = await start(port=port_of(first))
    assert await waiting == everybody(3)
    await second.close()


async def test_after_a_restart_with_another_secret_no_token_is_good(in_threads):
    first = await start()
    token = first.admit("g", 2, 30)
    waiting = asyncio.create_task(in_threads(joining(first.address, "g", 0, 2, token)))
    await until(lambda: any(group._here for group in first._groups.values()))
    await first.close()
    second = await start(b"another secret", port_of(first))
    (refused,) = await waiting
    assert isinstance(refused, Refused)
    assert "wrong token" in str(refused)
    await second.close()


async def test_a_rank_that_comes_again_counts_as_one(rendezvous, in_threads):
    token = rendezvous.admit("g", 2, 10)
    dead = asyncio.create_task(
        in_threads(partial(joining(rendezvous.address, "g", 0, 2, token, 0.8)))
    )
    await until(lambda: any(group._here for group in rendezvous._groups.values()))
    again = asyncio.create_task(in_threads(joining(rendezvous.address, "g", 0, 2, token, 0.8)))
    (alone,), (alone_too,) = await dead, await again
    assert alone.ranks == alone_too.ranks == (1,)


@pytest.mark.parametrize(("deadline_s", "wait_s"), [(1.0, 0.7), (5.0, 4.0), (100.0, 90.0)])
async def test_the_answer_has_time_to_arrive(
    rendezvous, in_threads, deadline_s, wait_s, monkeypatch
):
    asked = []
    let_in = rendezvous._let_in
    monkeypatch.setattr(
        rendezvous, "_let_in", lambda *rest: (asked.append(rest[1].wait_s), let_in(*rest))[1]
    )
    token = rendezvous.admit("g", 1, 200)
    await in_threads(joining(rendezvous.address, "g", 0, 1, token, deadline_s))
    assert asked == [pytest.approx(wait_s, abs=0.1)]
