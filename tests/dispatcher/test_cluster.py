"""What is special about a Dask cluster; what it shares with all invokers is in test_invokers."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster
from parts.process import Server, running

from dispatcher.errors import (
    FunctionError,
    PlatformFailed,
    Refused,
    SettingsError,
    TimedOut,
    WorkerLost,
)
from dispatcher.invokers.cluster import DaskInvoker
from fmi.meeting.rendezvous import Rendezvous
from workers.weights import identify
from workers.wire import Item, encode_items

# Its own threads and sockets are closed when it likes to.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
async def invoker(dask):
    made = DaskInvoker(dask, 2, handler="handlers.handler")
    await made.open()
    yield made
    await made.close()


def deed(**event):
    return json.dumps(event).encode()


async def results(invoker, *payloads, deadline_s=10):
    return [each.result for each in await invoker.invoke(payloads, deadline_s)]


def numbers(answers):
    return [json.loads(each)["event"]["n"] for each in answers]


async def test_each_payload_gets_its_answer_and_its_bill(invoker):
    answers = await invoker.invoke([deed(n=0), deed(n=1)], 10)
    assert numbers(each.result for each in answers) == [0, 1]
    assert all(each.bill.billed_ms > 0 for each in answers)
    pids = {json.loads(each.result)["pid"] for each in answers}
    assert len(pids) == 2, "a process each"


async def test_an_error_in_one_does_not_hide_the_other(invoker):
    marks = {"from": 0, "to": 70, "step": 64}
    bad, good = await results(invoker, deed(deed="raise", **marks), deed(n=1))
    assert isinstance(bad, FunctionError)
    assert (bad.kind, bad.reached) == ("ValueError", 64)
    assert numbers([good]) == [1]


async def test_a_late_one_is_stopped_with_its_process_and_replaced(invoker):
    late, good = await results(invoker, deed(deed="sleep", seconds=60), deed(n=1), deadline_s=1)
    assert isinstance(late, TimedOut)
    assert numbers([good]) == [1]
    assert numbers(await results(invoker, deed(n=2), deed(n=3))) == [2, 3]


async def test_a_dead_worker_is_told_at_once_and_nothing_is_run_again(invoker, tmp_path):
    told, began = [], time.monotonic()
    gang = [deed(deed="die", tally=str(tmp_path / "tally")), deed(n=1)]
    dead, good = await invoker.invoke(gang, 30, lambda: told.append(time.monotonic() - began))
    assert isinstance(dead.result, WorkerLost)
    assert dead.bill.billed_ms > 0
    assert numbers([good.result]) == [1]
    assert told
    assert told[0] < 5
    assert numbers(await results(invoker, deed(n=2), deed(n=3))) == [2, 3]
    assert (tmp_path / "tally").read_text().splitlines() == ["begun"]


async def test_the_real_function_as_a_group(dask):
    made = DaskInvoker(dask, 2, {"LOOKBACK_WEIGHTS": "galaxies"})
    await made.open()
    meeting, rng = Rendezvous(), np.random.default_rng(1)
    await meeting.start()
    items = [
        Item(f"item-{k}", rng.normal(size=(5, 32, 32)).astype("f4"), np.full(5, 20, "f4"))
        for k in range(4)
    ]
    token = meeting.admit("g", 2, ttl_s=30)
    payloads = [
        json.dumps(
            {
                "job": {"weights_sha256": identify("galaxies").sha256},
                "partition": encode_items(items[2 * rank : 2 * rank + 2]),
                "group": {
                    "id": "g",
                    "rank": rank,
                    "size": 2,
                    "rendezvous": meeting.address,
                    "token": token,
                    "deadline_s": 20,
                },
            }
        ).encode()
        for rank in range(2)
    ]
    root, other = (json.loads(each) for each in await results(made, *payloads, deadline_s=40))
    await meeting.close()
    await made.close()
    assert [each["id"] for each in root["verdicts"] + root["gathered"]] == [
        f"item-{k}" for k in range(4)
    ]
    assert [each["id"] for each in other["verdicts"]] == ["item-2", "item-3"]
    assert root["lost"] == []


async def test_a_cluster_is_not_stopped_by_who_leaves_it(dask):
    for _ in range(2):
        made = DaskInvoker(dask, 1, handler="handlers.handler")
        await made.open()
        assert made.slots == 1
        assert numbers(await results(made, deed(n=7))) == [7]
        await made.close()


async def test_no_item_is_blamed_for_a_worker_that_had_died_before(invoker):
    for answer in await results(invoker, deed(n=0), deed(n=1)):
        os.kill(json.loads(answer)["pid"], 9)
    seats = set(invoker._seats)
    async with asyncio.timeout(10):
        while seats & set(await invoker._workers()):
            await asyncio.sleep(0.02)
    dead = await results(invoker, deed(n=0), deed(n=1))
    assert [type(each) for each in dead] == [PlatformFailed, PlatformFailed]
    assert numbers(await results(invoker, deed(n=2), deed(n=3))) == [2, 3]


async def test_a_worker_that_could_not_be_made_ready_is_tried_again(invoker, monkeypatch, tmp_path):
    refusals, made_ready = ["not yet"], DaskInvoker._prepare

    async def prepare(self, seat):
        if refusals:
            raise SettingsError(refusals.pop())
        await made_ready(self, seat)

    monkeypatch.setattr(DaskInvoker, "_prepare", prepare)
    (lost,) = await results(invoker, deed(deed="die", tally=str(tmp_path / "tally")))
    assert isinstance(lost, WorkerLost)
    async with asyncio.timeout(30):
        while invoker._replacing:
            await asyncio.sleep(0.05)
        assert not refusals
        answers = await results(invoker, deed(n=2), deed(n=3))
        assert sorted(type(each).__name__ for each in answers) == ["PlatformFailed", "bytes"]
        assert numbers(await results(invoker, deed(n=4), deed(n=5))) == [4, 5]


async def test_a_gang_that_is_cancelled_gives_its_seats_back(invoker):
    gang = asyncio.create_task(results(invoker, deed(deed="sleep", seconds=60), deed(n=1)))
    await asyncio.sleep(0.2)
    gang.cancel()
    await asyncio.gather(gang, return_exceptions=True)
    async with asyncio.timeout(20):
        assert numbers(await results(invoker, deed(n=2), deed(n=3))) == [2, 3]


async def test_without_its_scheduler_nobody_waits_for_ever(monkeypatch):
    monkeypatch.setattr("dispatcher.invokers.cluster._CONNECT_S", 1.0)
    with running(Server(scheduler)) as center, running(Server(worker_of(center))):
        made = await opened(f"tcp://{center.address}")
        asyncio.get_running_loop().call_later(0.3, center.kill)
        (lost,) = await results(made, deed(deed="sleep", seconds=30), deadline_s=30)
        assert isinstance(lost, PlatformFailed)
        async with asyncio.timeout(10):
            while not isinstance(lost, Refused):  # Dask hopes for a while
                (lost,) = await results(made, deed(n=1))
                assert not lost.blames_items
        assert "start the cluster again" in str(lost)
        await made.close()


def scheduler(port):
    module = "distributed.cli.dask_scheduler"
    return [
        sys.executable,
        "-m",
        module,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    ]


def worker_of(center):
    where = f"{Path(__file__).parent}{os.pathsep}{Path(__file__).parents[2]}"
    module = ["-m", "distributed.cli.dask_worker", f"tcp://{center.address}", "--nthreads", "1"]
    return lambda port: [
        *("env", f"PYTHONPATH={where}", sys.executable, *module),
        *("--host", "127.0.0.1", "--nanny-port", str(port), "--no-dashboard"),
    ]


async def opened(at):
    """Its worker needs a moment to arrive."""
    async with asyncio.timeout(20):
        while True:
            made = DaskInvoker(at, 1, handler="handlers.handler")
            try:
                await made.open()
            except SettingsError:
                await made.close()
                await asyncio.sleep(0.1)
            else:
                return made


async def test_workers_without_a_nanny_are_refused():
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as threads:
        made = DaskInvoker(threads.scheduler_address, 1, handler="handlers.handler")
        with pytest.raises(SettingsError, match="no nanny"):
            await made.open()
        await made.close()


async def test_where_there_is_no_scheduler_it_says_so(monkeypatch):
    monkeypatch.setattr("dispatcher.invokers.cluster._CONNECT_S", 1.0)
    made = DaskInvoker("tcp://127.0.0.1:9", 2)
    with pytest.raises(SettingsError, match=r"no Dask scheduler at .*check dask.scheduler"):
        await made.open()
    await made.close()


async def test_workers_without_the_handler_are_told_what_to_do(dask):
    made = DaskInvoker(dask, 2, handler="no_such_module.handler")
    with pytest.raises(SettingsError, match=r"no_such_module.*same release"):
        await made.open()
    await made.close()
