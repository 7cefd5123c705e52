"""One contract for every invoker: the gang runs together, failures come back as answers."""

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from functions import on_a_platform

from dispatcher.errors import FunctionError, TimedOut, WorkerLost
from dispatcher.invokers import InlineInvoker, Slots
from dispatcher.invokers.cluster import DaskInvoker
from dispatcher.invokers.local import LocalInvoker

HERE = Path(__file__).parent
# Dask closes its threads and sockets when it likes to.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(params=["inline", "local", "lambda", "dask"])
async def invoker(request, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    async with AsyncExitStack() as stack:
        if request.param == "inline":
            import handlers

            made = InlineInvoker(handlers.handler, slots=2)
        elif request.param == "local":
            made = LocalInvoker(2, {"PYTHONPATH": str(HERE)}, handler="handlers.handler")
        elif request.param == "dask":
            at = request.getfixturevalue("dask")
            made = DaskInvoker(at, 2, handler="handlers.handler")
        else:
            made = await stack.enter_async_context(on_a_platform(timeout_s=1, concurrency=2))
        await made.open()
        stack.push_async_callback(made.close)
        yield made


@pytest.fixture
async def local():
    made = LocalInvoker(2, {"PYTHONPATH": str(HERE)}, handler="handlers.handler")
    await made.open()
    yield made
    await made.close()


def deed(**event):
    return json.dumps(event).encode()


async def results(invoker, *payloads, deadline_s=10):
    return [each.result for each in await invoker.invoke(payloads, deadline_s)]


def numbers(answers):
    return [json.loads(each)["event"]["n"] for each in answers]


async def test_each_payload_gets_its_answer(invoker):
    answers = await results(invoker, deed(n=0), deed(n=1))
    assert numbers(answers) == [0, 1]
    left = [json.loads(each)["left_ms"] for each in answers]
    # Both sides round to milliseconds, and a busy machine takes its time to begin.
    assert all(500 < each <= 10_001 for each in left), left


async def test_an_error_in_one_does_not_hide_the_other(invoker):
    bad, good = await results(invoker, deed(deed="raise"), deed(n=1))
    assert isinstance(bad, FunctionError)
    assert "ValueError: no good" in str(bad)
    assert numbers([good]) == [1]


async def test_a_late_answer_is_a_time_out(invoker):
    (late,) = await results(invoker, deed(deed="sleep", seconds=1.5), deadline_s=0.3)
    assert isinstance(late, TimedOut)
    assert numbers(await results(invoker, deed(n=1))) == [1]


async def test_a_gang_gets_all_its_slots_at_once(invoker):
    """Two gangs of two on two slots: interleaved they would wait for each other for ever."""
    gangs = [results(invoker, deed(deed="sleep", seconds=0.05), deed(n=n)) for n in range(4)]
    answers = await asyncio.gather(*gangs)
    assert numbers(gang[1] for gang in answers) == [0, 1, 2, 3]


async def test_a_dead_worker_is_named_and_replaced(local):
    dead, good = await results(local, deed(deed="die"), deed(n=1))
    assert isinstance(dead, WorkerLost)
    assert "exit code 3" in str(dead)
    assert "about to end" in str(dead)
    assert numbers([good]) == [1]
    assert numbers(await results(local, deed(n=2), deed(n=3))) == [2, 3]


async def test_a_worker_killed_while_idle_is_replaced(local):
    for pid in local.pids:
        os.kill(pid, 9)
    answers = await results(local, deed(n=0), deed(n=1))
    assert (
        sum(isinstance(each, bytes) for each in answers)
        + sum(isinstance(each, WorkerLost) for each in answers)
        == 2
    )
    answers = await results(local, deed(n=0), deed(n=1))
    assert numbers(answers) == [0, 1]


async def test_an_answer_over_six_megabytes_is_an_error(local):
    (answer,) = await results(local, deed(deed="large", bytes=6_400_000))
    assert isinstance(answer, FunctionError)
    assert "6 MB" in str(answer)


async def test_a_handler_that_cannot_be_loaded_says_why():
    broken = LocalInvoker(1, handler="no_such_module.handler")
    with pytest.raises(FunctionError, match="no_such_module"):
        await broken.open()
    await broken.close()


async def test_no_worker_outlives_its_invoker(local):
    processes = [psutil.Process(pid) for pid in local.pids]
    await local.close()
    assert not any(each.is_running() for each in processes)


async def test_a_gang_that_cannot_fit_is_refused_at_once(local):
    with pytest.raises(ValueError, match="does not fit"):
        await local.invoke([deed()] * 3, deadline_s=1)


async def test_large_gangs_are_not_starved_by_small_ones():
    slots, order = Slots(2), []

    async def gang(size, name):
        await slots.take(size)
        order.append(name)
        await asyncio.sleep(0)
        await slots.give_back(size)

    await slots.take(1)
    waiting = [asyncio.create_task(gang(2, "large"))]
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(gang(1, f"small {i}")) for i in range(3)]
    await asyncio.sleep(0)
    await slots.give_back(1)
    await asyncio.gather(*waiting)
    assert order[0] == "large"


async def test_a_gang_that_gives_up_waiting_leaves_the_queue():
    slots = Slots(1)
    await slots.take(1)
    impatient = asyncio.create_task(slots.take(1))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    await slots.give_back(1)
    started = time.monotonic()
    await asyncio.wait_for(slots.take(1), 1)
    assert time.monotonic() - started < 1


async def test_who_waits_for_a_lost_one_is_told_at_once(invoker):
    told = []
    started = time.monotonic()
    gang = [deed(deed="raise"), deed(deed="sleep", seconds=0.6)]
    await invoker.invoke(gang, 10, lambda: told.append(time.monotonic() - started))
    assert len(told) == 1
    assert told[0] < time.monotonic() - started - 0.2


async def test_every_answer_has_a_bill(invoker):
    for answer in await invoker.invoke([deed(n=0), deed(deed="raise")], 10):
        assert answer.bill.billed_ms > 0
