"""TLS: on all ways, with certificates on both sides, and refused with a word of advice."""

import asyncio
import socket
import ssl
import threading
import time

import pytest
import trustme

from fmi.deadline import Deadline
from fmi.errors import ChannelBroken, FmiError, PeerLost, Refused
from fmi.meeting.mesh import Ways, open_mesh
from fmi.meeting.relay import _End
from fmi.meeting.rendezvous import Limits, Rendezvous
from fmi.meeting.tls import Tls
from fmi.meeting.visitors import Visitor


def files(authority, folder):
    """A certificate of `authority`, as files."""
    folder.mkdir()
    issued = authority.issue_cert("rank.example")
    certificate, key, ca = (folder / name for name in ("certificate.pem", "key.pem", "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca))
    return Tls(certificate, key, ca)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return files(trustme.CA(), tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Files that another authority signed."""
    return files(trustme.CA(), tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture
async def secured(tls):
    """A rendezvous with TLS."""
    made = Rendezvous(tls=tls, limits=Limits(introduction_s=0.3))
    await made.start()
    yield made
    await made.close()


def len_of(_, opened):
    return len(opened)


def joining(rendezvous, token, rank, size, ways, tls, use=len_of, deadline_s=5.0):
    def join():
        deadline = Deadline.after(deadline_s)
        meeting = rendezvous.address, "g", rank, size, token, deadline
        opened = open_mesh(*meeting, ways=ways, tls=tls)
        try:
            return use(rank, opened)
        finally:
            for each in opened.values():
                each.close()

    return join


def exchange(rank, opened):
    for each in opened.values():
        each.sendall(b"secret of %d" % rank)
    return {
        other: (each.recv(100), isinstance(each, ssl.SSLSocket)) for other, each in opened.items()
    }


@pytest.mark.parametrize("ways", Ways)
async def test_all_connections_are_encrypted(secured, tls, in_threads, monkeypatch, ways):
    heard = bytearray()
    for each in (Visitor, _End):
        listen = each.data_received
        monkeypatch.setattr(
            each,
            "data_received",
            lambda self, data, listen=listen: (heard.extend(data), listen(self, data))[1],
        )
    token = secured.admit("g", 4, 10)
    got = await in_threads(
        *(joining(secured, token, rank, 4, ways, tls, exchange) for rank in range(4))
    )
    assert got == [
        {other: (b"secret of %d" % other, True) for other in range(4) if other != rank}
        for rank in range(4)
    ]
    assert heard
    assert token.rpartition(".")[0].encode() not in heard  # what is said to the rendezvous
    assert b"secret of" not in heard  # and what goes through the relay


async def test_what_comes_out_blocks_and_can_have_a_time_limit(secured, tls, in_threads):
    both_waited = threading.Barrier(2)

    def wait(_, opened):
        (each,) = opened.values()
        assert each.gettimeout() is None
        assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        each.settimeout(0.1)
        with pytest.raises(TimeoutError):
            each.recv(1)
        both_waited.wait(5)
        return each.version()

    token = secured.admit("g", 2, 10)
    calls = (joining(secured, token, rank, 2, Ways.DIRECT, tls, wait) for rank in range(2))
    assert await in_threads(*calls) == ["TLSv1.3"] * 2


async def test_much_goes_through_the_relay(secured, tls, in_threads):
    data = bytes(range(256)) * 20_000

    def send(rank, opened):
        (each,) = opened.values()
        if rank == 0:
            each.sendall(data)
            return each.recv(1)
        received = bytearray()
        while len(received) < len(data):
            received += each.recv(1 << 20)
        each.sendall(b"k")
        return received == data

    token = secured.admit("g", 2, 10)
    calls = (joining(secured, token, rank, 2, Ways.RELAY, tls, send) for rank in range(2))
    assert await in_threads(*calls) == [b"k", True]


async def test_a_certificate_of_another_authority_is_refused(secured, foreign, in_threads):
    token = secured.admit("g", 2, 10)
    started = time.monotonic()
    (got,) = await in_threads(joining(secured, token, 0, 2, Ways.DIRECT, foreign))
    assert isinstance(got, Refused)
    assert "one authority" in str(got)
    assert time.monotonic() - started < 1


async def test_a_rendezvous_refuses_who_shows_no_certificate(secured, tls, in_threads):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(tls.authority)
    host, port = secured.address.split(":")

    def call():
        with (
            socket.create_connection((host, int(port)), timeout=5) as sock,
            context.wrap_socket(sock) as line,
        ):
            return line.recv(100)

    (got,) = await in_threads(call)
    assert isinstance(got, ssl.SSLError)


async def test_a_rank_without_tls_does_not_get_in(secured, in_threads):
    token = secured.admit("g", 2, 10)
    (got,) = await in_threads(joining(secured, token, 0, 2, Ways.DIRECT, None, deadline_s=0.8))
    assert isinstance(got, PeerLost)
    assert "TLS" in str(got)


async def test_a_rendezvous_without_tls_is_not_told_anything(rendezvous, tls, in_threads):
    token = rendezvous.admit("g", 2, 10)
    (got,) = await in_threads(joining(rendezvous, token, 0, 2, Ways.DIRECT, tls))
    assert isinstance(got, Refused)
    assert "uses TLS, too" in str(got)


async def test_a_restart_is_tolerated(tls, in_threads):
    first = Rendezvous(b"s" * 32, tls=tls)
    await first.start()
    token = first.admit("g", 3, 10)
    calls = [joining(first, token, rank, 3, Ways.DIRECT, tls) for rank in range(3)]
    waiting = asyncio.create_task(in_threads(*calls[:2]))
    while not any(len(group._here) == 2 for group in first._groups.values()):
        await asyncio.sleep(0.005)
    await first.close()
    second = Rendezvous(b"s" * 32, tls=tls)
    await second.start(port=int(first.address.split(":")[1]))
    assert [*await in_threads(calls[2]), *await waiting] == [2, 2, 2]
    await second.close()


async def test_strangers_hold_nobody_up(secured, tls, in_threads):
    host, port = secured.address.split(":")
    strangers = [socket.create_connection((host, int(port))) for _ in range(200)]
    for number, each in enumerate(strangers):
        each.sendall(b"\x16\x03\x01\x02\x00\x01"[: number % 7] + b"x" * (number % 3))
    token = secured.admit("g", 4, 10)
    calls = (joining(secured, token, rank, 4, Ways.RELAY, tls) for rank in range(4))
    started = time.monotonic()
    assert await in_threads(*calls) == [3] * 4
    assert time.monotonic() - started < 2
    for each in strangers:
        each.close()


async def test_files_that_are_no_certificates_are_named(secured, tls, in_threads, tmp_path):
    (tmp_path / "empty.pem").touch()
    for wrong in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        broken = Tls(wrong, tls.key, tls.authority)
        (got,) = await in_threads(joining(secured, "", 0, 2, Ways.DIRECT, broken))
        assert isinstance(got, ChannelBroken)
        assert wrong.name in str(got)
        with pytest.raises(FmiError, match=wrong.name):
            await Rendezvous(tls=broken).start()
