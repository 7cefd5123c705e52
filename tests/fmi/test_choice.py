"""The choice of a channel: what decides it, that all ranks make the same one, and how it reads."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from delayed import Delayed, on_all

import fmi
from fmi.__main__ import main
from fmi.channels.redis import Redis
from fmi.choosing.decision import Choice, Workload, choose
from fmi.choosing.models import DEFAULTS

MIB = 1 << 20
ALL = {name: DEFAULTS[name] for name in ("direct", "redis", "s3")}
STORES = {name: DEFAULTS[name] for name in ("redis", "s3")}
NARROW = Workload("allreduce", 100_000_000, memory_gib=0.25)


def test_fast_takes_the_shortest_time_and_cheap_the_lowest_price():
    """64 small functions over Redis wait long, and with S3 pay for 4416 objects a call."""
    fast, cheap = (choose(STORES, NARROW, 64, hint) for hint in ("fast", "cheap"))
    assert (fast.name, cheap.name) == ("s3", "redis")
    assert fast.figures["s3"].seconds < fast.figures["redis"].seconds
    assert fast.figures["s3"].dollars > fast.figures["redis"].dollars
    assert "fastest" in fast.reason
    assert "redis would be cheaper" in fast.reason
    assert "s3 would be faster" in cheap.reason


def test_more_memory_makes_waiting_the_larger_part_of_the_price():
    large = replace(NARROW, memory_gib=10)
    assert choose(STORES, NARROW, 64, "cheap").name == "redis"
    assert choose(STORES, large, 64, "cheap").name == "s3"


def test_a_server_that_costs_too_much_is_not_cheap():
    costs = {"direct": DEFAULTS["direct"], "redis": replace(DEFAULTS["redis"], latency_s=0.1e-3)}
    dear = costs | {"redis": replace(costs["redis"], server_dollars_h=2000.0)}
    workload = Workload("send", 0)
    assert choose(costs, workload, 8, "cheap").name == "redis"
    assert choose(dear, workload, 8, "cheap").name == "direct"
    assert choose(dear, workload, 8, "fast").name == "redis"


def test_the_size_decides():
    near = fmi.Costs(latency_s=0.3e-3, byte_s=1 / 20e6, message_s=0)
    wide = fmi.Costs(latency_s=2e-3, byte_s=1 / 400e6, message_s=0)
    names = [
        choose({"near": near, "wide": wide}, Workload("bcast", size), 4, "fast").name
        for size in (100, MIB)
    ]
    assert names == ["near", "wide"]


def test_of_equal_channels_the_first_is_taken():
    one = DEFAULTS["direct"]
    assert choose({"b": one, "a": one}, Workload(), 4, "fast").name == "b"
    assert choose({"a": one, "b": one}, Workload(), 4, "cheap").name == "a"


def test_a_choice_survives_the_way_to_the_other_ranks():
    choice = choose(ALL, Workload(), 8, "cheap", {"relay": "nobody there"})
    assert Choice.from_dict(json.loads(json.dumps(choice.as_dict()))) == choice


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: choose({}, Workload(), 2, "fast"), "no channel"),
        (lambda: choose(ALL, Workload(), 2, "quick"), "'fast' or 'cheap'"),
        (lambda: Workload("shout"), "no operation 'shout'"),
        (lambda: Workload(bytes=-1), "-1 bytes"),
        (lambda: Workload(memory_gib=0), "GiB of memory"),
        (lambda: fmi.connect_blocking("g", 0, 1, []), "one channel or more"),
        (lambda: fmi.connect_blocking("g", 0, 1, [fmi.Memory(1)] * 2), "a name of its own"),
        (lambda: fmi.connect_blocking("g", 0, 1, fmi.Memory(1), hint="quick"), "'fast' or"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def two_networks(size):
    """The first is the slower one for whatever is small, the second for whatever is large."""
    return [
        Delayed("far", size, 4e-3, 1 / 400e6),
        Delayed("near", size, 0.3e-3, 1 / 10e6),
    ]


@pytest.mark.parametrize(("size", "name"), [(100, "near"), (4 * MIB, "far")])
def test_ranks_keep_the_channel_that_is_best_for_the_workload(size, name):
    def program(ranks):
        return ranks.choice, ranks.allreduce(np.ones(3)).tolist(), ranks.deadline_s

    workload = Workload("allreduce", size)
    got = on_all(3, two_networks(3), program, workload=workload, deadline_s=9.0)
    assert {each[0].name for each in got} == {name}
    assert all(each == (got[0][0], [3.0] * 3, 9.0) for each in got)
    assert set(got[0][0].costs) == {"far", "near"}
    assert got[0][0].costs["near"].source == "measured with 3 ranks"


class Lopsided(Delayed):
    """A network on which some ranks are far off, so that the ranks measure different things."""

    def send(self, source, size):
        first, last = super().send(source, size)
        far = 8e-3 if source >= 2 else 0.0
        return first + far, last + far


def test_all_ranks_choose_alike_though_they_measure_differently():
    """Ranks 0 and 1 alone would take the lopsided one, ranks 2 and 3 the other one."""

    def networks(size):
        even = Delayed("even", size, 3e-3, 1 / 400e6)
        return [even, Lopsided("lopsided", size, 0.3e-3, 1 / 400e6)]

    workload = Workload("barrier")
    two, four = (
        on_all(size, networks(size), lambda r: r.choice, workload=workload) for size in (2, 4)
    )
    assert [each.name for each in two] == ["lopsided"] * 2
    assert [each.name for each in four] == ["even"] * 4
    assert four == [four[0]] * 4


def test_what_rank_0_was_given_counts():
    """Nobody notices that others want something else: half a group on each channel would hang."""
    got = on_all(
        3,
        two_networks(3),
        lambda ranks: (ranks.choice, ranks.allreduce(1)),
        workload=lambda rank: Workload("allreduce", 100 if rank == 0 else 4 * MIB),
        hint=lambda rank: "fast" if rank == 0 else "cheap",
    )
    assert got == [(got[0][0], 3)] * 3
    assert got[0][0].name == "near"
    assert got[0][0].hint == "fast"


def test_given_prices_decide_what_is_cheap():
    dear = {"near": replace(DEFAULTS["redis"], server_dollars_h=1e4)}
    over = [Delayed("far", 2, 2e-3, 0), Delayed("near", 2, 0.2e-3, 0)]
    options = {"hint": "cheap", "workload": Workload("barrier"), "costs": dear}
    got = on_all(2, over, lambda ranks: ranks.choice, **options)
    assert [each.name for each in got] == ["far"] * 2
    assert got[0].costs["near"].server_dollars_h == 1e4


def test_one_channel_alone_is_not_measured():
    assert on_all(2, fmi.Memory(2), lambda ranks: ranks.choice) == [None, None]


class Broken:
    """A channel that some ranks cannot open; the others wait for them in vain."""

    def __init__(self, name, inner, ranks):
        self.name, self._inner, self._ranks = name, inner, ranks

    def open(self, group, rank, size, deadline):
        if rank in self._ranks:
            raise fmi.ChannelBroken("nobody answers at redis.example:6379")
        time.sleep(deadline.left_or_zero())
        raise fmi.PeerLost(self._ranks, "it did not come in time")


def test_a_channel_that_one_rank_lacks_is_on_no_rank():
    memory, near = Delayed("slow", 3, 3e-3, 0), Delayed("near", 3, 0.1e-3, 0)
    broken = Broken("redis", near, (1,))
    began = time.monotonic()
    got = on_all(
        3,
        [memory, broken, near],
        lambda ranks: (ranks.choice, ranks.allreduce(1)),
        deadline_s=3.0,
    )
    assert time.monotonic() - began < 3.0
    assert got == [(got[0][0], 3)] * 3
    assert got[0][0].name == "near"
    assert set(got[0][0].figures) == {"slow", "near"}
    assert "rank 1: ChannelBroken: nobody answers" in got[0][0].left_out["redis"]


def test_a_channel_that_one_rank_was_not_given_is_not_waited_for():
    slow, near = Delayed("slow", 2, 2e-3, 0), Delayed("near", 2, 0.1e-3, 0)
    began = time.monotonic()
    got = on_all(2, lambda rank: [slow, near] if rank == 0 else [slow], lambda ranks: ranks.choice)
    assert time.monotonic() - began < 1.0
    assert [each.name for each in got] == ["slow"] * 2
    assert got[0].left_out == {"near": "it was not given to rank 1"}


def test_a_channel_that_breaks_while_it_is_measured_is_left_out():
    class Falling(Delayed):
        def send(self, source, size):
            if source == 1 and size > 1000:
                raise fmi.ChannelBroken("the server is full")
            return super().send(source, size)

    over = [Delayed("slow", 3, 2e-3, 0), Falling("near", 3, 0.1e-3, 0)]
    got = on_all(3, over, lambda ranks: (ranks.choice, ranks.allreduce(1)), deadline_s=4.0)
    assert got == [(got[0][0], 3)] * 3
    assert got[0][0].name == "slow"
    assert "the server is full" in got[0][0].left_out["near"]


def test_a_rank_that_fails_takes_the_others_with_it():
    """Where it is the first channel that breaks there is nothing to go on with."""

    class Falling(Delayed):
        def send(self, source, size):
            if source == 1 and size > 1000:
                raise fmi.ChannelBroken("the server is full")
            return super().send(source, size)

    over = [Falling("first", 3, 1e-3, 0), Delayed("near", 3, 0.1e-3, 0)]
    got = on_all(3, over, lambda ranks: ranks.choice, deadline_s=3.0)
    assert all(isinstance(each, fmi.FmiError) for each in got)


def test_the_channels_that_were_not_chosen_are_closed():
    before = threading.active_count()
    far, near = two_networks(2)

    def program(ranks):
        gate.wait()
        seen = [line.open for line in far._lines], [line.open for line in near._lines]
        gate.wait()  # who leaves closes the one that was chosen, too
        return seen

    gate = threading.Barrier(2)
    got = on_all(2, [far, near], program, workload=Workload("allreduce", 100))
    assert got == [([False, False], [True, True])] * 2
    assert threading.active_count() == before


async def test_asyncio_ranks_choose_too(in_threads):
    import asyncio

    over = two_networks(2)

    async def rank(number):
        way = fmi.connect("group", number, 2, over, workload=Workload("allreduce", 100))
        async with way as ranks:
            return ranks.choice.name, await ranks.allreduce(1)

    assert await asyncio.gather(rank(0), rank(1)) == [("near", 2)] * 2


@pytest.mark.parametrize("others", [["shared"], ["direct", "redis"], ["redis", "shared", "s3"]])
async def test_real_channels_are_measured_and_chosen_from(
    others, request, tmp_path, rendezvous, in_threads
):
    size, ways = 3, {}
    if "direct" in others:
        token = rendezvous.admit("group", size, 60)
        ways["direct"] = fmi.Direct(rendezvous.address, token)
    if "shared" in others:
        ways["shared"] = fmi.Shared(tmp_path)
    if "redis" in others:
        ways["redis"] = Redis(request.getfixturevalue("valkey_server").url)
    if "s3" in others:
        ways["s3"] = request.getfixturevalue("through_s3")
    over = [fmi.Memory(size), *(ways[name] for name in others)]

    def program(ranks):
        return ranks.choice, ranks.allreduce(np.full(10, ranks.rank)).tolist()

    def rank(number):
        with fmi.connect_blocking("group", number, size, over) as ranks:
            return program(ranks)

    got = await in_threads(*(lambda number=number: rank(number) for number in range(size)))
    assert got == [(got[0][0], [3] * 10)] * size
    assert not got[0][0].left_out
    assert set(got[0][0].costs) == {"memory", *others}
    assert all(each.source == "measured with 3 ranks" for each in got[0][0].costs.values())


def explain(capsys, *arguments):
    code = main(["explain", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_explain_shows_every_channel_and_the_reason(capsys):
    arguments = "--ranks 64 --bytes 100MB --memory 256MiB --channels redis,s3 --hint cheap"
    code, out, _ = explain(capsys, *arguments.split())
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "An allreduce of 100 MB in a group of 64, in functions of 0.25 GiB"
    rows = {line.split()[-0 if line[0] == " " else 1]: line for line in lines if "default" in line}
    assert "> redis" in rows["redis"]
    assert "31.5 s" in rows["redis"]
    assert "400 MB/s" in rows["redis"]
    assert "$30,833.79" in out
    assert "Choice: redis. redis is the cheapest" in out
    assert "measured between functions on AWS Lambda" in out


def test_explain_prints_one_json_object(capsys):
    code, out, _ = explain(capsys, "--ranks", "8", "--operation", "barrier", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["name"] == "direct"
    assert set(said["figures"]) == {"direct", "redis", "s3"}
    assert said["figures"]["direct"]["seconds"] == pytest.approx(2 * 0.34e-3 + 12 * 15e-6)
    assert said["workload"] == {"operation": "barrier", "bytes": MIB, "memory_gib": 2.0}
    assert said["reason"].startswith("direct is the fastest for a barrier in a group of 8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--ranks none", "'none' is no number of ranks"),
        ("--ranks 0", "write 1 or more"),
        ("--bytes 1x", "'1x' is no size"),
        ("--channels pigeon", "there is no channel pigeon: there are memory"),
        ("--operation shout", "invalid choice: 'shout'"),
        ("--redis redis://host", "add --measure"),
        ("--measure", "say what to measure"),
        ("--measure --redis host", "write redis://"),
        ("--memory 0", "GiB of memory"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_a_sentence(arguments, said, capsys):
    try:
        code = main(["explain", *arguments.split()])
    except SystemExit as ending:
        code = ending.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_explain_measures_with_processes_of_its_own(valkey_server):
    command = [sys.executable, "-m", "fmi", "explain", "--measure", "--direct", "--shared"]
    command += ["--redis", valkey_server.url, "--ranks", "4", "--bytes", "64KiB", "--json"]
    ended = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert set(said["figures"]) == {"direct", "shared", "redis"}
    assert all(each["source"].startswith("measured with") for each in said["costs"].values())
    assert said["ranks"] == 4
    assert said["name"] in ("direct", "shared")


def test_explain_says_which_channel_does_not_work(capsys):
    code, out, err = explain(capsys, "--measure", "--shared", "--redis", "redis://127.0.0.1:1")
    assert (code, err) == (0, "")
    assert "redis was left out: rank 0, 1: ChannelBroken: nobody answers at 127.0.0.1:1" in out
    code, _, err = explain(capsys, "--measure", "--redis", "redis://127.0.0.1:1")
    assert code == 2
    assert "none of the channels works here: redis: rank 0" in err
