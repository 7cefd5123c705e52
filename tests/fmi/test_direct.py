"""The direct channel: where a rank listens, and what happens when the machine says no."""

import errno
import socket
import threading
import time

import pytest

import fmi
from fmi.frames import Operation, encode, run_id

CONNECT = socket.create_connection


@pytest.fixture
def ranks_of(rendezvous, in_threads):
    """Run `program(communicator)` on every rank of a group that meets at `address`."""

    async def ranks_of(size, program, address=None, deadline_s=10.0):
        token = rendezvous.admit("g", size, 30)

        def rank(number):
            meeting = (address or rendezvous.address, "g", number, size, token, deadline_s)
            with fmi.connect(*meeting) as ranks:
                return program(ranks)

        return await in_threads(*(lambda number=number: rank(number) for number in range(size)))

    return ranks_of


async def test_a_rank_listens_where_it_reaches_the_rendezvous(rendezvous, ranks_of, monkeypatch):
    """As where the rendezvous is another machine: its address is none of this one's."""
    port = int(rendezvous.address.rpartition(":")[2])

    def connect(address, **rest):
        away = address == ("192.0.2.1", port)
        return CONNECT(("127.0.0.1", port) if away else address, **rest)

    monkeypatch.setattr(socket, "create_connection", connect)
    got = await ranks_of(3, lambda ranks: ranks.gather(ranks.rank), f"192.0.2.1:{port}")
    assert got == [[0, 1, 2], None, None]


async def test_a_machine_on_which_no_port_can_be_opened_says_what_to_do(ranks_of, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_server", refuse)
    for each in await ranks_of(2, lambda _: None):
        assert isinstance(each, fmi.NoNetwork)
        assert "Cannot assign" in str(each) and "see that it may open ports" in str(each)


async def test_a_machine_that_takes_no_calls_says_what_to_do(ranks_of, monkeypatch):
    class Full(socket.socket):
        def accept(self):
            raise OSError(errno.EMFILE, "Too many open files")

    create = socket.create_server
    monkeypatch.setattr(
        socket, "create_server", lambda *a, **rest: Full(fileno=create(*a, **rest).detach())
    )
    got = await ranks_of(2, lambda _: None, deadline_s=2.0)
    assert isinstance(got[0], fmi.NoNetwork)
    assert "ulimit" in str(got[0])
    assert all(isinstance(each, fmi.FmiError) for each in got)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1", "127.0.0.1:x", " "])
async def test_an_address_that_is_none_is_refused(ranks_of, address):
    (got,) = await ranks_of(1, lambda _: None, address)
    assert isinstance(got, fmi.Refused)
    assert "host:port" in str(got)


async def test_half_a_message_holds_nobody_up(ranks_of):
    end = threading.Barrier(4)

    def program(ranks):
        started = time.monotonic()
        if ranks.rank == 1:
            part = encode(b"x" * 1000, run_id("g"), Operation.GATHER, 0, 0)
            ranks._channel._peers[0].sendall(part.header.pack() + part.payload[:500])
            end.wait(20)
            return None
        gathered, lost = ranks.gather_survivors(ranks.rank)
        lost = ranks.agree_on_lost(lost)
        took_s = time.monotonic() - started
        end.wait(20)
        return gathered, lost, took_s < 1.5

    got = await ranks_of(4, program, deadline_s=1.5)
    assert got[0] == ({0: 0, 2: 2, 3: 3}, (1,), True)
    assert got[2] == got[3] == (None, (1,), True)


async def test_a_large_message_arrives_in_many_pieces(ranks_of):
    size = 20_000_000

    def program(ranks):
        gathered = ranks.gather(bytes([ranks.rank]) * size)
        return gathered and [(each[0], each[-1], len(each)) for each in gathered]

    assert (await ranks_of(3, program))[0] == [(rank, rank, size) for rank in range(3)]
