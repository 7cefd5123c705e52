"""What a worker that is lost leaves behind: where it was, and a bill for the time it took."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from answering import Answering, images
from poisoned import POISON

from dispatcher.errors import FunctionError, TimedOut, WorkerLost
from dispatcher.invokers import InlineInvoker
from dispatcher.invokers.local import LocalInvoker
from workers.weights import find, identify
from workers.wire import Item, VerdictKind, decode_verdicts, encode_items

HERE = Path(__file__).parent


@pytest.fixture
async def worker():
    """One worker process with the handler that does what it is told."""
    made = LocalInvoker(1, {"PYTHONPATH": str(HERE)}, handler="handlers.handler")
    await made.open()
    yield made
    await made.close()


async def ask(invoker, deadline_s=10.0, **event):
    """The answer, and the milliseconds it took as the caller sees it."""
    started = time.perf_counter()
    (answer,) = await invoker.invoke([json.dumps(event).encode()], deadline_s)
    return answer, 1000 * (time.perf_counter() - started)


DEATHS = {
    "die": (WorkerLost, "about to end"),
    "exhaust": (FunctionError, "MemoryError"),
    "segfault": (WorkerLost, "exit code -11"),
    "abort": (WorkerLost, "exit code -6"),
    "raise": (FunctionError, "ValueError"),
}


@pytest.mark.parametrize("deed", DEATHS)
async def test_a_lost_worker_tells_where_it_was(worker, deed):
    kind, words = DEATHS[deed]
    answer, took_ms = await ask(worker, deed=deed, to=130, step=64)
    assert type(answer.result) is kind
    assert words in str(answer.result) and "lookback at" not in str(answer.result)
    assert answer.result.reached == 128
    assert 1 <= answer.bill.billed_ms <= took_ms + 1
    assert answer.bill.init_ms == 0, "it was there when the call came"


async def test_one_that_is_killed_at_the_deadline_tells_where_it_was(worker):
    answer, took_ms = await ask(worker, 0.3, deed="sleep", seconds=30, to=3)
    assert isinstance(answer.result, TimedOut)
    assert answer.result.reached == 2
    assert 300 <= answer.bill.billed_ms <= took_ms + 1


async def test_one_that_is_killed_from_outside_tells_where_it_was(worker, tmp_path):
    at_work = tmp_path / "at work"
    call = ask(worker, deed="tarry", tell=str(at_work), seconds=30, to=65, step=64)
    asked = asyncio.create_task(call)
    async with asyncio.timeout(10):
        while not at_work.exists():
            await asyncio.sleep(0.005)
    (pid,) = worker.pids
    os.kill(pid, signal.SIGKILL)
    answer, _ = await asked
    assert isinstance(answer.result, WorkerLost)
    assert answer.result.reached == 64


async def test_who_dies_before_the_first_item_names_none(worker):
    """Nor the one at which the call before it was, whose last mark may be on its way still."""
    for _ in range(20):
        good, _ = await ask(worker, to=40)
        assert json.loads(good.result)
        failed, _ = await ask(worker, deed="raise")
        assert failed.result.reached is None
    await ask(worker, deed="die", to=7)
    answer, _ = await ask(worker, deed="die")
    assert isinstance(answer.result, WorkerLost) and answer.result.reached is None


async def test_no_line_is_too_long_for_whoever_reads_along(worker):
    answer, _ = await ask(worker, deed="babble")
    assert isinstance(answer.result, WorkerLost)
    assert "exit code 4" in str(answer.result)
    assert "lookback at the sky" in str(answer.result), "that is no mark"
    assert answer.result.reached == 77


async def test_a_bill_covers_the_time_from_the_call_to_its_answer(worker):
    answer, took_ms = await ask(worker, deed="sleep", seconds=0.2)
    assert 200 <= answer.bill.billed_ms <= took_ms + 1
    assert (answer.bill.init_ms, answer.bill.cold) == (0, False)


async def test_a_call_that_had_to_start_its_worker_pays_for_that(worker):
    await ask(worker, deed="die")
    answer, took_ms = await ask(worker, deed="sleep", seconds=0.1)
    bill = answer.bill
    assert bill.cold and 0 < bill.init_ms <= bill.billed_ms - 100
    assert bill.billed_ms <= took_ms + 1
    again, _ = await ask(worker)
    assert not again.bill.cold


async def test_a_call_whose_worker_cannot_start_pays_for_the_attempt(tmp_path):
    code = tmp_path / "fleeting.py"
    code.write_text("import os\n\n\ndef handler(event, context):\n    os._exit(1)\n")
    worker = LocalInvoker(1, {"PYTHONPATH": str(tmp_path)}, handler="fleeting.handler")
    await worker.open()
    try:
        await ask(worker)
        code.unlink()
        answer, took_ms = await ask(worker)
    finally:
        await worker.close()
    assert isinstance(answer.result, FunctionError) and "cannot be loaded" in str(answer.result)
    assert answer.result.reached is None
    assert 1 <= answer.bill.init_ms <= answer.bill.billed_ms <= took_ms + 1


async def test_a_bill_tells_the_memory_that_the_worker_took(worker):
    small, _ = await ask(worker)
    large, _ = await ask(worker, deed="grow", bytes=100_000_000)
    assert large.bill.max_memory_mb - small.bill.max_memory_mb == pytest.approx(95, abs=10)
    dead, _ = await ask(worker, deed="die")
    assert dead.bill.max_memory_mb is None


@pytest.mark.parametrize(("careful", "reached"), [(False, 64), (True, 70)])
async def test_a_thread_tells_where_it_was_by_its_error(careful, reached):
    handler = Answering("ab" * 32, kills={70}, tells=True)
    asked = [Item(str(k), each, np.zeros(5)) for k, each in enumerate(images(*range(130)))]
    answer, took_ms = await ask(
        InlineInvoker(handler), careful=careful, partition=encode_items(asked)
    )
    assert isinstance(answer.result, FunctionError) and answer.result.reached == reached
    assert 1 <= answer.bill.billed_ms <= took_ms + 1


async def test_a_real_worker_that_one_of_512_items_kills_leads_to_it():
    """At first to the 64 it looked at together, and asked to be careful to the one."""
    model = LocalInvoker(
        1, {"PYTHONPATH": str(HERE), "LOOKBACK_WEIGHTS": "galaxies"}, handler="poisoned.handler"
    )
    await model.open()
    try:
        asked = items(512)
        asked[150].image[0, 0, 0] = POISON
        answer = await ask_model(model, asked)
        assert isinstance(answer.result, WorkerLost) and answer.result.reached == 128
        suspects = asked[128:192]
        answer = await ask_model(model, suspects, careful=True)
        assert isinstance(answer.result, WorkerLost) and answer.result.reached == 150 - 128
        good = [*suspects[:22], *suspects[23:]]
        answer = await ask_model(model, good[:20], careful=True)
        found = json.loads(answer.result)
        verdicts = decode_verdicts(found["verdicts"])
        assert [each.id for each in verdicts] == [each.id for each in good[:20]]
        assert {each.kind for each in verdicts} == {VerdictKind.NOT_APPLICABLE}, (
            "noise is no galaxy"
        )
        assert answer.bill.cold, "the one before it was killed"
        assert found["ms"]["total"] <= answer.bill.billed_ms - answer.bill.init_ms
    finally:
        await model.close()


async def ask_model(invoker, asked, **event):
    job = {"weights_sha256": identify(find("galaxies")).sha256}
    event |= {"job": job, "partition": encode_items(asked)}
    return (await ask(invoker, 60.0, **event))[0]


def items(n):
    rng = np.random.default_rng(n)
    noise = rng.normal(size=(n, 5, 32, 32)).astype(np.float32)
    magnitudes = rng.uniform(18, 21, (n, 5)).astype(np.float32)
    return [Item(f"item-{k}", noise[k], magnitudes[k]) for k in range(n)]
