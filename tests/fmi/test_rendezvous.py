"""The rendezvous: who gets in, who does not, and what strangers cost."""

import asyncio
import os
import random
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import fmi


async def in_threads(*calls):
    with ThreadPoolExecutor(len(calls)) as threads:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(threads, call) for call in calls), return_exceptions=True
        )


def joining(address, group, rank, size, token, deadline_s=5.0):
    def join():
        with fmi.connect(address, group, rank, size, token, deadline_s) as ranks:
            return ranks.gather(rank)

    return join


async def test_a_wrong_token_is_refused_and_the_group_still_meets(rendezvous):
    token = rendezvous.admit("g", 2, 10)
    (thief,) = await in_threads(joining(rendezvous.address, "g", 1, 2, "stolen"))
    assert isinstance(thief, fmi.Refused)
    assert "wrong token" in str(thief)
    met = await in_threads(*(joining(rendezvous.address, "g", rank, 2, token) for rank in range(2)))
    assert met == [[0, 1], None]


async def test_a_group_of_an_earlier_run_is_over(rendezvous):
    token = rendezvous.admit("old", 2, 10)
    rendezvous.close_group("old")
    (late,) = await in_threads(joining(rendezvous.address, "old", 0, 2, token))
    assert isinstance(late, fmi.Refused)
    assert "over" in str(late)


async def test_a_group_of_one_is_over_after_its_time(rendezvous):
    token = rendezvous.admit("brief", 1, 0.05)
    await asyncio.sleep(0.1)
    (late,) = await in_threads(joining(rendezvous.address, "brief", 0, 1, token))
    assert isinstance(late, fmi.Refused)
    assert "over" in str(late)


async def test_a_group_that_met_is_over_after_its_time_too(rendezvous):
    token = rendezvous.admit("brief", 2, 10)
    met = await in_threads(
        *(joining(rendezvous.address, "brief", rank, 2, token) for rank in range(2))
    )
    assert met == [[0, 1], None]
    rendezvous._groups["brief"].expires = asyncio.get_running_loop().time()
    (again,) = await in_threads(joining(rendezvous.address, "brief", 1, 2, token))
    assert isinstance(again, fmi.Refused)


async def test_ranks_that_never_come_are_named_on_those_that_did(rendezvous):
    token = rendezvous.admit("g", 4, 10)
    started = time.monotonic()
    came = await in_threads(
        *(joining(rendezvous.address, "g", rank, 4, token, 0.5) for rank in (0, 2))
    )
    assert [each.ranks for each in came] == [(1, 3), (1, 3)]
    assert time.monotonic() - started < 2


async def test_a_wrong_size_is_refused(rendezvous):
    token = rendezvous.admit("g", 2, 10)
    (wrong,) = await in_threads(joining(rendezvous.address, "g", 2, 3, token))
    assert isinstance(wrong, fmi.Refused)


async def test_nobody_at_the_address_is_refused_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (alone,) = await in_threads(joining(f"127.0.0.1:{port}", "g", 0, 2, "t"))
    assert isinstance(alone, fmi.Refused)


async def test_strangers_are_harmless(rendezvous):
    """Garbage, connect-and-close, huge lengths, and connections that say nothing."""
    source = random.Random(3)
    host, port = rendezvous.address.split(":")
    silent = []
    for number in range(300):
        stranger = socket.create_connection((host, int(port)))
        if number % 3 == 0:
            stranger.sendall(source.randbytes(source.randint(1, 200)))
            stranger.close()
        elif number % 3 == 1:
            stranger.sendall(struct.pack("!I", 2**31) + b"x" * 10)
            stranger.close()
        else:
            silent.append(stranger)
    token = rendezvous.admit("g", 4, 10)
    met = await in_threads(*(joining(rendezvous.address, "g", rank, 4, token) for rank in range(4)))
    assert met[0] == [0, 1, 2, 3]
    for each in silent:
        each.close()


async def test_fifty_groups_meet_one_after_the_other(rendezvous):
    for number in range(50):
        token = rendezvous.admit(f"g{number}", 4, 10)
        met = await in_threads(
            *(joining(rendezvous.address, f"g{number}", rank, 4, token) for rank in range(4))
        )
        assert met[0] == [0, 1, 2, 3]
        rendezvous.close_group(f"g{number}")


PROGRAM = """
import sys, time, fmi
address, rank, size, token = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
try:
    with fmi.connect(address, "g", rank, size, token, 3.0) as ranks:
        print("in", flush=True)
        for turn in range(100000):
            gathered, lost = ranks.gather_survivors([rank, turn])
            lost = ranks.agree_on_lost(lost)
            if gathered is not None:
                assert all(part == [r, turn] for r, part in gathered.items()), gathered
            if lost:
                print("lost", list(lost), flush=True)
                break
except fmi.PeerLost as error:
    print("lost", list(error.ranks), flush=True)
"""


@pytest.mark.parametrize("seed", range(6))
async def test_a_killed_process_is_named_by_every_survivor(rendezvous, seed):
    source = random.Random(seed)
    size, victim = 3, source.randrange(3)
    token = rendezvous.admit("g", size, 20)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, rendezvous.address, str(rank), str(size), token],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    for each in processes:
        assert await asyncio.to_thread(each.stdout.readline) == "in\n"
    await asyncio.sleep(source.uniform(0, 0.2))
    os.kill(processes[victim].pid, 9)
    started = time.monotonic()
    for rank, each in enumerate(processes):
        said, _ = await asyncio.to_thread(each.communicate)
        if rank != victim:
            assert said == f"lost [{victim}]\n", (rank, victim, said)
    assert time.monotonic() - started < 6
