"""Ranks behind NATs: those that can call each other do, the others talk through the relay."""

import asyncio
import socket
import time
from contextlib import ExitStack, suppress

import pytest
from nat import Internet, Nat

from fmi.deadline import Deadline
from fmi.errors import PeerLost
from fmi.meeting.mesh import Ways, open_mesh
from fmi.meeting.rendezvous import Rendezvous

SERVER, FIRST, SECOND = "198.51.100.1", "198.51.100.2", "198.51.100.3"
INSIDE = "10.0.0.2"  # every machine that is behind a NAT, as it is with functions
PORT = 4000


@pytest.fixture
def internet():
    with Internet() as internet:
        yield internet


@pytest.fixture
def rendezvous(internet):
    """A rendezvous on a machine of its own, at SERVER:PORT."""
    loop, made = asyncio.new_event_loop(), Rendezvous()

    def here(task):
        asyncio.run_coroutine_threadsafe(task, loop).result()

    serving = internet.machine(SERVER).run(loop.run_forever)
    here(made.start(SERVER, PORT))
    yield made
    here(made.close())
    loop.call_soon_threadsafe(loop.stop)
    serving.result()
    loop.close()


@pytest.fixture
def connect(rendezvous):
    """Let two machines be the ranks of a group. Their ends of the connection."""
    with ExitStack() as opened:

        def rank(number, token, ways, deadline_s):
            meeting = (f"{SERVER}:{PORT}", "g", number, 2, token, Deadline.after(deadline_s))
            (peer,) = open_mesh(*meeting, ways=ways).values()
            return opened.enter_context(peer)

        def connect(*machines, ways=Ways.DIRECT_OR_RELAY, deadline_s=10.0):
            token = rendezvous.admit("g", 2, 30)
            ranks = [
                machine.run(rank, number, token, ways, deadline_s)
                for number, machine in enumerate(machines)
            ]
            return [each.result() for each in ranks]

        yield connect


def talk(first, second):
    for sender, receiver in [(first, second), (second, first)]:
        sender.sendall(b"so far away")
        assert receiver.recv(100) == b"so far away"


def peers(*ends):
    return [end.getpeername()[0] for end in ends]


def test_two_ranks_behind_nats_that_keep_ports_connect_directly(internet, connect):
    ends = connect(internet.machine(INSIDE, Nat(FIRST)), internet.machine(INSIDE, Nat(SECOND)))
    assert peers(*ends) == [SECOND, FIRST]
    talk(*ends)


@pytest.mark.parametrize("symmetric", [(True, False), (False, True), (True, True)])
def test_ranks_whose_nats_change_ports_talk_through_the_relay(internet, connect, symmetric):
    nats = Nat(FIRST, symmetric[0]), Nat(SECOND, symmetric[1])
    ends = connect(*(internet.machine(INSIDE, nat) for nat in nats), deadline_s=3)
    assert peers(*ends) == [SERVER, SERVER]
    talk(*ends)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("public", [0, 1])
def test_a_rank_that_is_behind_no_nat_is_called_directly(internet, connect, public, symmetric):
    machines = [internet.machine(INSIDE, Nat(FIRST, symmetric))]
    machines.insert(public, internet.machine(SECOND))
    ends = connect(*machines)
    assert sorted(peers(*ends)) == [FIRST, SECOND]
    talk(*ends)


def test_without_the_relay_the_rank_that_cannot_be_called_is_named_in_time(internet, connect):
    nats = Nat(FIRST, symmetric=True), Nat(SECOND)
    began = time.monotonic()
    with pytest.raises(PeerLost, match="allow the relay") as lost:
        connect(*(internet.machine(INSIDE, nat) for nat in nats), ways=Ways.DIRECT, deadline_s=2)
    assert time.monotonic() - began < 3
    assert lost.value.ranks == (1,)


# What the NATs of these tests do, so that a rank's connection says something.


def call(peer, within_s):
    """Call `peer` again and again, always from PORT. The connection, or None."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        caller = socket.socket()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        caller.bind(("", PORT))
        caller.settimeout(0.1)
        with suppress(OSError):
            caller.connect(peer)
            return caller
        caller.close()
    return None


def call_each_other(internet, first, second, within_s):
    first = internet.machine(INSIDE, first).run(call, (SECOND, PORT), within_s)
    second = internet.machine(INSIDE, second).run(call, (FIRST, PORT), within_s)
    return first.result(), second.result()


def test_two_that_call_each_other_at_one_time_go_through_nats_that_keep_ports(internet):
    first, second = call_each_other(internet, Nat(FIRST), Nat(SECOND), 5)
    with first, second:
        assert (first.getpeername(), second.getpeername()) == ((SECOND, PORT), (FIRST, PORT))
        talk(first, second)


def test_a_port_that_depends_on_who_is_called_cannot_be_called(internet):
    first, second = Nat(FIRST, symmetric=True), Nat(SECOND)
    assert call_each_other(internet, first, second, 0.5) == (None, None)


def test_who_was_not_called_cannot_call(internet):
    inside, outside = internet.machine(INSIDE, Nat(FIRST)), internet.machine(SERVER)
    with inside.run(socket.create_server, ("", PORT)).result():
        assert outside.run(call, (FIRST, PORT), 0.5).result() is None
