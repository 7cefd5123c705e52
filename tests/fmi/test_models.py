"""Predictions: the units, the counts of messages, and what a call really takes."""

import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from delayed import Delayed, on_all

import fmi
from fmi.choosing.calibration import BURST, LARGE, Measured, calibrate, combine
from fmi.choosing.decision import Workload, choose
from fmi.choosing.models import DEFAULTS, GIB_SECOND_DOLLARS, UNKNOWN
from fmi.choosing.traffic import OPERATIONS, traffic

MIB = 1 << 20
FREE = fmi.Costs(latency_s=0, byte_s=0, message_s=0)


def test_times_are_seconds():
    costs = fmi.Costs(latency_s=0, byte_s=1 / 400e6, message_s=0)
    assert costs.seconds("send", 2, MIB) == pytest.approx(2.62e-3, rel=1e-3)
    assert DEFAULTS["direct"].seconds("send", 2, MIB) == pytest.approx(2.96e-3, rel=1e-3)
    assert DEFAULTS["s3"].seconds("send", 2, 0) == pytest.approx(0.0404)


def test_latency_and_bandwidth_weigh_alike_where_they_should():
    """The byte count at which a message takes twice its latency: 136 kB at 0.34 ms, 400 MB/s."""
    direct = DEFAULTS["direct"]
    assert direct.seconds("send", 2, 136_000) == pytest.approx(2 * direct.latency_s)


def test_prices_are_dollars():
    assert FREE.dollars("allreduce", 8, MIB, 2) == 0
    waits = replace(FREE, latency_s=10.0)
    assert waits.dollars("send", 4, 0, 2) == pytest.approx(4 * 10 * 2 * GIB_SECOND_DOLLARS)
    asks = replace(FREE, put_dollars=5e-6, get_dollars=4e-7, gets=2)
    assert asks.dollars("gather", 8, 1, 2) == pytest.approx(7 * 5.8e-6)
    moves = replace(FREE, gb_dollars=0.02)
    assert moves.dollars("send", 2, 10**9, 2) == pytest.approx(0.02)
    rents = replace(FREE, latency_s=36.0, server_dollars_h=0.5)
    assert rents.dollars("send", 2, 0, 1e-9) == pytest.approx(0.005, rel=1e-3)


def test_what_ranks_share_is_used_by_all_of_them():
    shared = replace(FREE, byte_s=1 / 100e6, shared_byte_s=1 / 400e6)
    assert shared.seconds("send", 2, 10**8) == pytest.approx(1.0)
    # 8 x 7 messages of 12.5 MB at 400 MB/s, not the 0.875 s of one rank's at 100 MB/s.
    assert shared.seconds("alltoall", 8, 12_500_000) == pytest.approx(1.75)


@pytest.mark.parametrize("name", sorted(DEFAULTS))
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_more_bytes_never_take_less(name, operation):
    for ranks in (2, 3, 16, 17, 64):
        took = [DEFAULTS[name].seconds(operation, ranks, 1 << power) for power in range(10, 15)]
        assert took == sorted(took)
        took = [DEFAULTS[name].seconds(operation, ranks, 1 << power) for power in range(20, 28)]
        assert took == sorted(took)


@pytest.mark.parametrize("name", sorted(DEFAULTS))
@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - {"reduce_scatter"}))
def test_more_ranks_never_take_less(name, operation):
    """While the algorithm is the same: up to 16 ranks and above, powers of two and others."""
    alike = (2, 4, 8, 16), (3, 5, 7, 15), (32, 64, 128), (17, 33, 65)
    for size, sizes in itertools.product((0, 1024, MIB), alike):
        took = [DEFAULTS[name].seconds(operation, ranks, size) for ranks in sizes]
        assert took == pytest.approx(sorted(took))


def test_one_rank_alone_sends_nothing():
    assert all(not traffic(each, 1, MIB).messages for each in OPERATIONS)


@pytest.mark.parametrize(
    ("operation", "ranks", "size"), [("shout", 2, 1), ("bcast", 0, 1), ("bcast", 2, -1)]
)
def test_what_cannot_be_is_refused(operation, ranks, size):
    with pytest.raises(ValueError, match=r"operation|ranks"):
        traffic(operation, ranks, size)


CALLS = {
    "send": lambda r, a: r.send(a, 1) if r.rank == 0 else r.rank == 1 and r.recv(0),
    "sendrecv": lambda r, a: r.sendrecv(a, (r.rank + 1) % r.size, source=(r.rank - 1) % r.size),
    "bcast": lambda r, a: r.bcast(a if r.rank == 0 else None),
    "scatter": lambda r, a: r.scatter([a] * r.size if r.rank == 0 else None),
    "gather": lambda r, a: r.gather(a),
    "allgather": lambda r, a: r.allgather(a),
    "alltoall": lambda r, a: r.alltoall([a] * r.size),
    "barrier": lambda r, a: r.barrier(),
    "reduce": lambda r, a: r.reduce(a),
    "allreduce": lambda r, a: r.allreduce(a),
    "reduce_scatter": lambda r, a: r.reduce_scatter(a),
    "scan": lambda r, a: r.scan(a),
    "exscan": lambda r, a: r.exscan(a),
}


class Counted(fmi.Memory):
    """Counts the messages of collectives and between ranks, and the bytes of their payloads."""

    def open(self, *args):
        channel = super().open(*args)
        send, channel.sent = channel.send, []

        def counting(dest, head, payload, deadline):
            channel.sent.append(len(payload))
            send(dest, head, payload, deadline)

        channel.send = counting
        return channel


@pytest.mark.parametrize("size", [8, 16 * 1024, 60 * 1024, 1_280_000])
@pytest.mark.parametrize("ranks", [2, 3, 8, 17])
def test_messages_and_bytes_are_those_of_the_algorithms(ranks, size):
    """A change of an algorithm must be a change of the model."""
    array, gate = np.ones(size // 4, np.float32), threading.Barrier(ranks)

    def program(communicator):
        sent, counts = communicator.mailbox.channel.sent, {}
        for name, call in CALLS.items():
            before = len(sent)
            call(communicator, array)
            counts[name] = (len(sent) - before, sum(sent[before:]))
        gate.wait()
        return counts

    counted = on_all(ranks, Counted(ranks), program)
    for name in OPERATIONS:
        predicted = traffic(name, ranks, size)
        messages, moved = np.sum([each[name] for each in counted], axis=0)
        assert messages == predicted.messages, name
        # What is packed together, or announced, has some bytes more.
        assert predicted.total - ranks * 8 <= moved <= 1.02 * predicted.total + 64 * ranks**2, name


def networks(size):
    """Near and narrow, far and wide, and one that all share. None is the best for everything."""
    return [
        Delayed("near", size, 0.3e-3, 1 / 20e6),
        Delayed("far", size, 2e-3, 1 / 300e6),
        Delayed("store", size, 1e-3, 1 / 100e6, 1 / 100e6),
    ]


GRID = list(itertools.product(["allreduce", "bcast", "gather", "scan"], [1024, 32768, 262144]))


def timed(size, over):
    """Costs as the ranks find them, and what each call of the grid takes until all have done it."""
    gate = threading.Barrier(size)

    def program(ranks):
        costs, took = calibrate(ranks), {}
        for name, length in GRID:
            array, times = np.ones(length // 4, np.float32), []
            for _ in range(3):
                ranks.barrier()
                gate.wait()
                began = time.perf_counter()
                CALLS[name](ranks, array)
                mine = np.array([time.perf_counter() - began])
                times.append(ranks.allreduce(mine, fmi.MAX)[0])
            took[name, length] = np.median(times)
        return costs, took

    (costs, took), *others = on_all(size, over, program)
    assert all(each[0] == costs for each in others)
    return costs, took


def test_the_chosen_channel_is_as_fast_as_the_best():
    """Whatever the operation, the number of ranks and the size."""
    ratios, names = [], set()
    for size in (2, 4, 8):
        measured = {each.name: timed(size, each) for each in networks(size)}
        costs = {name: each[0] for name, each in measured.items()}
        for call in GRID:
            choice = choose(costs, Workload(*call), size, "fast")
            took = {name: each[1][call] for name, each in measured.items()}
            ratios.append(took[choice.name] / min(took.values()))
            names.add(choice.name)
    assert names == {"near", "far", "store"}
    assert np.mean(np.array(ratios) <= 1.25) >= 0.9, ratios
    assert np.median(ratios) <= 1.1, ratios


def test_a_measurement_finds_what_the_network_is():
    for network in networks(4):
        costs, *others = on_all(4, network, calibrate)
        assert others == [costs] * 3
        # A wait for 0.3 ms takes some tenths longer on a busy machine, and a transfer a half.
        assert network.latency_s <= costs.latency_s <= network.latency_s + 1e-3
        assert 0.75 * network.byte_s <= costs.byte_s <= 1.5 * network.byte_s
        if network.shared_byte_s:
            assert costs.shared_byte_s == pytest.approx(network.shared_byte_s, rel=0.5)
        else:  # no more than all ranks together need
            assert costs.shared_byte_s <= network.byte_s / 2
        assert costs.source == "measured with 4 ranks"


def test_prices_survive_a_measurement():
    before = replace(UNKNOWN, put_dollars=3e-6, server_dollars_h=2.0)
    (costs, *_) = on_all(3, fmi.Memory(3), lambda ranks: calibrate(ranks, before))
    assert (costs.put_dollars, costs.server_dollars_h) == (3e-6, 2.0)
    assert costs.latency_s != before.latency_s


def test_a_slow_channel_is_asked_three_times_only():
    counted = Counted(2)

    def program(ranks):
        calibrate(ranks, DEFAULTS["s3"])
        return len(ranks.mailbox.channel.sent), max(ranks.mailbox.channel.sent)

    asked, answered = on_all(2, counted, program)
    assert asked == (1 + BURST + 1 + 2, LARGE)  # with what is said about the plan and the result
    assert answered == (1 + 1 + 1 + 1, LARGE)


def test_the_slowest_pair_counts():
    fast = Measured([2e-3] * 3, [3e-3] * 3, [1e-3 + 1e-8 * LARGE] * 3)
    slow = Measured([8e-3] * 3, [9e-3] * 3, [4e-3 + 3e-8 * LARGE] * 3)
    parts = [fast, Measured(large=fast.large), slow, Measured(large=slow.large)]
    costs = combine(parts, UNKNOWN)
    assert costs.latency_s == pytest.approx(4e-3)
    assert costs.byte_s == pytest.approx(3e-8)
    assert costs.message_s == pytest.approx(1e-3 / (BURST - 1))


def test_one_hiccup_does_not_count():
    measured = Measured([2e-3, 2e-3, 2e-3, 90e-3], [3e-3, 3e-3, 70e-3], [2e-3, 2e-3, 80e-3])
    costs = combine([measured, Measured(large=measured.large)], UNKNOWN)
    assert costs.latency_s == pytest.approx(1e-3)
    assert costs.byte_s == pytest.approx(1e-3 / LARGE)
