"""Collectives: one contract for every channel, at several sizes, small and large."""

import threading

import numpy as np
import pytest

import fmi


def arrays(rank):
    """Below and above where algorithms change, and not a multiple of the ranks."""
    source = np.random.default_rng(rank)
    return [source.standard_normal(7), source.standard_normal((101, 333))]


async def test_bcast_gives_every_rank_the_roots_value(meeting, size):
    values = [{"job": 1}, b"raw", np.arange(10.0), np.arange(300_000.0).reshape(3, -1)]
    root = size - 1

    def program(ranks):
        return [ranks.bcast(each if ranks.rank == root else None, root) for each in values]

    for got in await meeting.run(size, program):
        for value, each in zip(values, got, strict=True):
            np.testing.assert_equal(each, value)


async def test_a_received_array_is_the_receivers_own(meeting):
    mine = np.arange(10.0)

    def program(ranks):
        got = ranks.bcast(mine if ranks.rank == 0 else None)
        if ranks.rank:
            got += ranks.rank
        ranks.barrier()
        return got.sum()

    assert await meeting.run(3, program) == [45.0, 55.0, 65.0]


async def test_gather_and_scatter_keep_rank_order(meeting, size):
    root = size // 2

    def program(ranks):
        gathered = ranks.gather({"rank": ranks.rank}, root)
        given = [[rank, "given"] for rank in range(ranks.size)] if ranks.rank == root else None
        return gathered, ranks.scatter(given, root)

    got = await meeting.run(size, program)
    for rank, (gathered, given) in enumerate(got):
        assert gathered == ([{"rank": r} for r in range(size)] if rank == root else None)
        assert given == [rank, "given"]


async def test_rows_are_cut_and_joined(meeting, size):
    whole = np.arange(60).reshape(20, 3)
    counts = [0] * size
    counts[-1] += 15
    counts[0] += 5

    def program(ranks):
        mine = ranks.scatterv(whole if ranks.rank == 0 else None)
        uneven = ranks.scatterv(whole if ranks.rank == 0 else None, counts)
        return ranks.gatherv(mine), ranks.allgatherv(uneven), len(uneven)

    for rank, (gathered, joined, rows) in enumerate(await meeting.run(size, program)):
        if rank == 0:
            np.testing.assert_array_equal(gathered, whole)
        else:
            assert gathered is None
        np.testing.assert_array_equal(joined, whole)
        assert rows == counts[rank]


async def test_allgather_and_alltoall(meeting, size):
    def program(ranks):
        everything = ranks.allgather(f"of {ranks.rank}")
        mine = ranks.alltoall([[ranks.rank, dest] for dest in range(ranks.size)])
        rows = np.repeat(np.arange(ranks.size), 2) * 100 + ranks.rank
        return everything, mine, ranks.alltoallv(rows).tolist()

    for rank, (everything, mine, rows) in enumerate(await meeting.run(size, program)):
        assert everything == [f"of {r}" for r in range(size)]
        assert mine == [[source, rank] for source in range(size)]
        assert rows == [rank * 100 + source for source in range(size) for _ in range(2)]


def from_the_left(parts, op):
    result = parts[0].copy()
    for each in parts[1:]:
        result = op.ufunc(result, each)
    return result


@pytest.mark.parametrize("op", [fmi.SUM, fmi.PROD, fmi.MAX], ids=lambda op: op.name)
async def test_every_reduction_folds_from_the_left_to_the_bit(meeting, size, op):
    """Also in what is rounded: the sum of floats depends on its order, and ours is stated."""
    root = size - 1

    def program(ranks):
        return [
            (
                ranks.allreduce(each, op),
                ranks.reduce(each, op, root),
                ranks.scan(each, op),
                ranks.exscan(each, op),
                ranks.reduce_scatter(each, None, op),
            )
            for each in arrays(ranks.rank)
        ]

    got = await meeting.run(size, program)
    for which in range(2):
        parts = [arrays(rank)[which] for rank in range(size)]
        whole = from_the_left(parts, op)
        rows = np.array_split(whole, size)
        for rank in range(size):
            everywhere, at_root, upto, before, mine = got[rank][which]
            np.testing.assert_array_equal(everywhere, whole)
            np.testing.assert_array_equal(upto, from_the_left(parts[: rank + 1], op))
            np.testing.assert_array_equal(mine, rows[rank])
            if rank == root:
                np.testing.assert_array_equal(at_root, whole)
            else:
                assert at_root is None
            if rank:
                np.testing.assert_array_equal(before, from_the_left(parts[:rank], op))
            else:
                assert before is None


async def test_a_function_that_does_not_commute_gets_what_it_expects(meeting, size):
    """Nor need it be associative: ((x0 op x1) op x2) op ... is what it gets."""

    def program(ranks):
        mine = ranks.rank + 1
        root = ranks.size - 1
        return [
            ranks.allreduce(mine, lambda a, b: 2 * a + b),
            ranks.reduce(mine, lambda a, b: 2 * a + b, root),
            ranks.scan(mine, lambda a, b: 2 * a + b),
            ranks.exscan(mine, lambda a, b: 2 * a + b),
            ranks.allreduce(f"{mine}", lambda a, b: a + b),
        ]

    folded = [1]
    for mine in range(2, size + 1):
        folded.append(2 * folded[-1] + mine)
    text = "".join(str(rank + 1) for rank in range(size))
    for rank, got in enumerate(await meeting.run(size, program)):
        assert got == [
            folded[-1],
            folded[-1] if rank == size - 1 else None,
            folded[rank],
            folded[rank - 1] if rank else None,
            text,
        ]


async def test_a_function_gets_whole_arrays(meeting):
    """Matrices do not multiply element by element."""

    def program(ranks):
        return ranks.allreduce(np.array([[1, ranks.rank + 1], [0, 1]]), np.matmul)

    for got in await meeting.run(3, program):
        assert got.tolist() == [[1, 6], [0, 1]]


async def test_plain_numbers_are_reduced_as_python_does_it(meeting):
    def program(ranks):
        mine = ranks.rank + 1
        return [ranks.allreduce(mine, op) for op in (fmi.SUM, fmi.PROD, fmi.MAX, fmi.MIN, fmi.BXOR)]

    assert await meeting.run(3, program) == [[6, 6, 3, 1, 0]] * 3


@pytest.mark.parametrize("count", [10, 200_001])
async def test_a_reduction_leaves_its_input_alone_and_may_be_in_place(meeting, count):
    count = min(count, 20_001) if meeting.name == "s3" else count

    def program(ranks):
        mine = np.full(count, 10.0**ranks.rank)
        before = mine.copy()
        total = ranks.allreduce(mine)
        ranks.reduce(mine)
        ranks.scan(mine)
        untouched = bool((mine == before).all())
        same = ranks.allreduce(mine, out=mine)
        return untouched, same is mine, float(total[-1]), float(mine[-1])

    assert await meeting.run(3, program) == [(True, True, 111.0, 111.0)] * 3


async def test_nobody_passes_a_barrier_early(meeting, size):
    arrived = []

    def program(ranks):
        for turn in range(1, 4):
            arrived.append(ranks.rank)
            ranks.barrier()
            assert len(arrived) >= turn * ranks.size
        return True

    assert await meeting.run(size, program) == [True] * size


async def test_split_makes_groups_that_do_not_disturb_each_other(meeting):
    def program(ranks):
        half = ranks.split(ranks.rank % 2, key=-ranks.rank)
        sub = half.split(0)
        lonely = ranks.split(0 if ranks.rank == 3 else None)
        half.send(ranks.rank, (half.rank + 1) % half.size, tag=1)
        ranks.send(-ranks.rank, (ranks.rank + 1) % ranks.size, tag=1)
        return (
            (half.rank, half.size),
            half.allgather(ranks.rank),
            sub.allreduce(1),
            half.recv(tag=1),
            ranks.recv(tag=1),
            lonely and lonely.allgather("me"),
        )

    assert await meeting.run(4, program) == [
        ((1, 2), [2, 0], 2, 2, -3, None),
        ((1, 2), [3, 1], 2, 3, 0, None),
        ((0, 2), [2, 0], 2, 0, -1, None),
        ((0, 2), [3, 1], 2, 1, -2, ["me"]),
    ]


async def test_messages_and_collectives_do_not_take_each_others_parts(meeting):
    def program(ranks):
        if ranks.rank:
            ranks.send("message", 0, 5)
            ranks.gather("part")
            return None
        gathered = ranks.gather("own")
        return gathered, [ranks.recv(source, 5) for source in (2, 1)]

    got = await meeting.run(3, program)
    assert got[0] == (["own", "part", "part"], ["message", "message"])


async def test_two_groups_at_once_do_not_see_each_other(meeting):
    import asyncio

    def program(name):
        def run(ranks):
            together.wait(10)
            return ranks.allgather(name), ranks.barrier()

        return run

    together = threading.Barrier(4)
    left, right = await asyncio.gather(
        meeting.run(2, program("left")), meeting.run(2, program("right"))
    )
    assert left == [(["left", "left"], None)] * 2
    assert right == [(["right", "right"], None)] * 2


@pytest.mark.parametrize("ranks_count", [17, 20])
@pytest.mark.parametrize("meeting", ["memory", "direct"], indirect=True)
async def test_more_ranks_than_a_root_talks_to_itself(meeting, ranks_count):
    """Trees and dissemination: their shape depends on the number of ranks alone."""

    def program(ranks):
        ranks.barrier()
        root = ranks.size - 2
        big = np.arange(200_000.0)
        return (
            float(ranks.bcast(big if ranks.rank == root else None, root)[-1]),
            ranks.gather(ranks.rank, root),
            ranks.allgather(ranks.rank),
            ranks.allreduce(np.full(50_000, ranks.rank))[0],
            ranks.allreduce(ranks.rank + 1, lambda a, b: (2 * a + b) % 1009),
            ranks.scan(np.array([1]))[0],
        )

    folded = 1
    for mine in range(2, ranks_count + 1):
        folded = (2 * folded + mine) % 1009
    everybody = list(range(ranks_count))
    for rank, got in enumerate(await meeting.run(ranks_count, program, 30)):
        assert got == (
            199_999.0,
            everybody if rank == ranks_count - 2 else None,
            everybody,
            sum(everybody),
            folded,
            rank + 1,
        )
