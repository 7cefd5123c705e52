"""The channel through Redis, on a real server: what is on the server, and what can go wrong."""

import os
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress

import pytest
from recording import Rank
from servers import behind_tls, valkey

from fmi.channels.redis import PART, Redis
from fmi.channels.resp import Connection, command
from fmi.channels.server import Server
from fmi.deadline import Deadline
from fmi.errors import ChannelBroken, ProtocolError


@pytest.fixture
async def pair(through_redis, in_threads):
    pair = await meet(through_redis, in_threads)
    yield pair
    for each in pair:
        each.close()


@pytest.fixture
def ask(valkey_server):
    connection = Connection(Server.parse(valkey_server.url), Counter(), Deadline.after(5))
    yield connection.ask
    connection.close()


async def meet(transport, in_threads, size=2):
    group = uuid.uuid4().hex
    met = await in_threads(
        *(lambda rank=rank: Rank(transport, group, rank, size) for rank in range(size))
    )
    for each in met:
        if isinstance(each, BaseException):
            raise each
    return met


def send_many(rank, dest, count, payload):
    for _ in range(count):
        rank.send(dest, payload)
        time.sleep(0.01)


async def test_a_large_payload_goes_where_it_belongs(pair):
    memory = memoryview(bytearray(20_000_001))
    sent = os.urandom(len(memory))
    pair[1].places.append(memory)
    pair[0].send(1, sent, b"description")
    pair[1].receive(0)
    pair[1].until(lambda: pair[1].got)
    assert pair[1].placed[0] is memory
    assert pair[1].got[0][2:] == (b"description", sent)


@pytest.mark.parametrize("size", [0, 1, (1 << 14) - 60, 1 << 14, 1 << 16, PART, PART + 1, 3 * PART])
async def test_payloads_of_all_sizes(pair, size):
    for _ in range(2):
        sent = os.urandom(size)
        pair[0].send(1, sent, b"abc")
        pair[1].until(lambda: pair[1].got)
        assert pair[1].got.pop()[2:] == (b"abc", sent)


async def test_a_long_description(pair):
    for description in (bytes(1 << 14), bytes(1 << 16)):
        pair[0].send(1, b"payload", description)
        pair[1].until(lambda: pair[1].got)
        assert pair[1].got.pop()[2:] == (description, b"payload")


async def test_parts_of_two_sources_mix(through_redis, in_threads):
    ranks = await meet(through_redis, in_threads, 3)
    sent = [os.urandom(5 * PART + 7) for _ in range(2)]
    await in_threads(*(lambda i=i: ranks[i].send(2, sent[i]) for i in range(2)))
    assert sorted(ranks[2].receive(2)) == sorted(sent)
    for each in ranks:
        each.close()


async def test_memory_that_was_let_go_is_not_written_to(pair):
    one, other = pair
    memory = memoryview(bytearray(2 * PART))
    other.places.append(memory)
    sent = os.urandom(len(memory))
    one.send(1, sent)
    while not other.channel._partial:
        other.channel._ask()
        other.channel._pops.fill(1)
        other.channel._take()
    other.channel.let_go()
    memory[:] = bytes(len(memory))
    assert other.receive(1) == [sent]
    assert memory == bytes(len(memory))


async def test_many_messages_cost_few_pops(pair):
    one, other = pair
    for i in range(300):
        one.send(1, b"%d" % i)
    assert other.receive(300) == [b"%d" % i for i in range(300)]
    assert one.channel.usage["RPUSH"] == 300
    assert other.channel.usage["BLPOP"] < 330


async def test_every_key_goes_by_itself(pair, ask):
    one, other = pair
    one.send(1, b"never read")
    one.send(1, bytes(3 * PART))
    one.channel.beat(b"")
    other.channel.beat(b"")
    time.sleep(0.1)
    keys = ask("KEYS", "fmi:*")
    mine = [key for key in keys if one.channel.run.hex().encode() in key]
    assert len(mine) == 3
    assert all(0 < ask("PTTL", bytes(key)) <= 600_000 for key in keys)


async def test_nothing_stays_when_all_have_left(through_redis, in_threads, ask):
    one, other = await meet(through_redis, in_threads)
    one.send(1, b"read")
    other.receive(1)
    one.send(1, b"not read")
    for each in (one, other):
        each.channel.beat(b"")
        each.close()
    end = time.monotonic() + 5
    while ask("KEYS", f"fmi:{one.channel.run.hex()}*") and time.monotonic() < end:
        time.sleep(0.05)
    assert ask("KEYS", f"fmi:{one.channel.run.hex()}*") == []


async def test_messages_wait_as_long_as_their_receiver_lives(valkey_server, in_threads, ask):
    one, other = await meet(Redis(valkey_server.url, ttl_s=0.3), in_threads)
    one.send(1, b"patience")
    for _ in range(5):
        time.sleep(0.1)
        other.channel.beat(b"")
    assert other.receive(1) == [b"patience"]
    one.send(1, b"forgotten")
    time.sleep(0.4)
    assert ask("EXISTS", f"fmi:{one.channel.run.hex()}:1") == 0
    for each in (one, other):
        each.close()


async def test_the_database_is_never_searched(pair, ask):
    ask("CONFIG", "RESETSTAT")
    one, other = pair
    for each in (one, other):
        each.channel.beat(b"")
    one.send(1, b"x")
    other.receive(1)
    other.until(lambda: other.beats)
    used = ask("INFO", "commandstats").decode()
    assert "cmdstat_rpush:" in used
    assert "cmdstat_keys" not in used
    assert "cmdstat_scan" not in used


async def test_a_server_with_a_password(in_threads):
    with valkey("s/e:c@ret") as server:
        one, other = await meet(
            Redis(f"redis://:s%2Fe%3Ac%40ret@127.0.0.1:{server.port}/3"), in_threads
        )
        one.send(1, b"hello")
        assert other.receive(1) == [b"hello"]
        for each in (one, other):
            each.close()
        for user in ("", ":wrong@", "nobody:wrong@"):
            with pytest.raises(ChannelBroken, match="password") as caught:
                Rank(Redis(f"redis://{user}127.0.0.1:{server.port}"), "g", 0, 1)
            assert "wrong" not in str(caught.value)


async def test_a_server_behind_tls(valkey_server, tmp_path, in_threads):
    with behind_tls(valkey_server.port, tmp_path) as (port, certificate):
        url = f"rediss://127.0.0.1:{port}"
        one, other = await meet(Redis(url, ca_file=str(certificate)), in_threads)
        sent = os.urandom(2 * PART + 1)
        for payload in (b"hello", sent):
            one.send(1, payload)
            other.send(0, payload)
        assert one.receive(2) == other.receive(2) == [b"hello", sent]
        other.channel.beat(b"alive")
        one.until(lambda: one.beats)
        for each in (one, other):
            each.close()
        with pytest.raises(ChannelBroken, match="certificate"):
            Rank(Redis(url), "g", 0, 1)
    with pytest.raises(ChannelBroken, match="redis://"):
        Rank(Redis(valkey_server.url.replace("redis", "rediss")), "g", 0, 1, seconds=0.3)


def test_nobody_at_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ChannelBroken, match="see that the server runs"):
            Rank(Redis(url), "g", 0, 1)


@pytest.mark.parametrize(
    "url", ["http://host", "redis://", "redis://host/name", "host:6379", "redis://h:notaport"]
)
def test_an_address_that_is_none(url):
    with pytest.raises(ValueError, match=r"redis://|[Pp]ort"):
        Redis(url)


def test_the_password_is_not_shown():
    assert "secret" not in repr(Redis("redis://:secret@host"))
    assert "secret" not in repr(Server.parse("redis://:secret@host"))


async def test_a_server_that_dies(in_threads):
    with valkey() as server:
        one, other = await meet(Redis(server.url), in_threads)
        threading.Timer(0.2, server.kill).start()
        start = time.monotonic()
        with pytest.raises(ChannelBroken, match="see that it still runs"):
            one.until(lambda: False)
        with pytest.raises(ChannelBroken):
            send_many(other, 0, 100, b"x")
        assert time.monotonic() - start < 3
        other.channel.beat(b"")
        for each in (one, other):
            with pytest.raises(ChannelBroken):
                each.close()


async def test_a_server_that_hangs(in_threads):
    with valkey() as server:
        one, other = await meet(Redis(server.url), in_threads)
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(ChannelBroken, match="takes nothing in"):
            one.channel.send(1, bytes(100), bytes(50 << 20), Deadline.after(0.3))
        other.channel.beat(b"")
        start = time.monotonic()
        for each in (one, other):
            with pytest.raises(ChannelBroken):
                each.close(0.3)
        assert time.monotonic() - start < 2
        os.kill(server.process.pid, signal.SIGCONT)


async def test_a_server_without_memory(in_threads):
    with valkey("", "--maxmemory", "8mb") as server:
        one, other = await meet(Redis(server.url), in_threads)
        for _ in range(8):
            one.send(1, bytes(PART))
        with pytest.raises(ChannelBroken, match="no memory left"):
            one.until(lambda: False)
        send_many(other, 0, 9, bytes(PART))
        with pytest.raises(ChannelBroken, match="no memory left"):
            other.close()
        with suppress(ChannelBroken):
            one.close()


@pytest.mark.parametrize("size", [1, 100, 100_000])
async def test_what_others_write_is_noticed(pair, ask, size):
    ask("RPUSH", f"fmi:{pair[0].channel.run.hex()}:1", b"x" * size)
    with pytest.raises(ProtocolError):
        pair[1].receive(1)


async def test_a_key_that_is_no_list(pair, ask):
    ask("SET", f"fmi:{pair[0].channel.run.hex()}:1", b"x")
    with pytest.raises(ChannelBroken, match="WRONGTYPE"):
        pair[1].receive(1)


def test_replies_that_come_byte_by_byte():
    said = b"*2\r\n$1\r\nk\r\n$5\r\nhello\r\n" * 2 + b":5\r\n*2\r\n$-1\r\n$2\r\n\r\n\r\n-ERR no\r\n"

    def dribble():
        client, _ = listening.accept()
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.recv(100)
            for i in range(len(b"+PONG\r\n" + said)):
                client.sendall((b"+PONG\r\n" + said)[i : i + 1])
                time.sleep(0.001)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=dribble)
        thread.start()
        server = Server.parse(f"redis://127.0.0.1:{listening.getsockname()[1]}")
        connection = Connection(server, Counter(), Deadline.after(5))
        for _ in range(2):
            assert connection.length(b"*2\r\n$1\r\nk\r\n$") == 5
            assert connection.read(5) == b"hello"
            connection.take(2)
        assert connection.reply() == 5
        assert connection.reply() == [None, b"\r\n"]
        with pytest.raises(ChannelBroken, match="ERR no"):
            connection.length(b"*2\r\n")
        thread.join()
        with pytest.raises(ChannelBroken, match="hung up"):
            connection.reply()
        connection.close()


def test_a_command_as_it_travels():
    assert command("SET", b"\r\n", 5) == b"*3\r\n$3\r\nSET\r\n$2\r\n\r\n\r\n$1\r\n5\r\n"
