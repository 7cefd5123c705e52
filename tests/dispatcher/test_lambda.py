"""Functions through aiobotocore: bills, throttles, refusals, large payloads."""

import asyncio
import json
import time
from uuid import uuid4

import pytest
from aiobotocore.session import get_session
from functions import CLIENT, ODD, a_platform, invoker_of
from parts.aws import ACCESS

from dispatcher.errors import (
    FunctionError,
    PlatformFailed,
    Refused,
    SettingsError,
    Throttled,
    TimedOut,
    WorkerLost,
)
from dispatcher.invokers.aws_lambda import MAX_PAYLOAD, measured
from dispatcher.invokers.pointers import Pointers
from dispatcher.platform.troubles import Troubles


@pytest.fixture
async def platform():
    async with a_platform(timeout_s=2.0, concurrency=2) as made:
        yield made


@pytest.fixture
async def invoker(platform):
    made = invoker_of(platform)
    await made.open()
    yield made
    await made.close()


def deed(**event):
    return json.dumps(event).encode()


async def ask(invoker, **event):
    (answer,) = await invoker.invoke([deed(**event)], 10)
    return answer


async def test_the_bill_is_what_the_platform_wrote_down(invoker, platform):
    answers = [await ask(invoker, n=n) for n in range(3)]
    answers.append(await ask(invoker, deed="raise"))
    answers.append(await ask(invoker, deed="die"))
    answers.append(await ask(invoker, deed="sleep", seconds=9))
    assert [each.bill for each in answers] == platform.bills
    assert [each.bill.cold for each in answers] == [True, False, False, False, False, True]
    assert all(each.bill.certain and each.bill.memory_mb == 1769 for each in answers)
    assert answers[-1].bill.billed_ms >= 2000


async def test_what_failed_is_told_apart(invoker):
    marks = {"from": 0, "to": 130, "step": 64}
    raised = await ask(invoker, deed="raise", **marks)
    assert isinstance(raised.result, FunctionError)
    assert raised.result.kind == "ValueError"
    dead = await ask(invoker, deed="die", **marks)
    assert isinstance(dead.result, WorkerLost)
    late = await ask(invoker, deed="sleep", seconds=9, **marks)
    assert isinstance(late.result, TimedOut)
    assert "2.00 seconds" in str(late.result)
    assert {each.result.reached for each in (raised, dead, late)} == {128}
    large = await ask(invoker, deed="large", bytes=6_400_000)
    assert isinstance(large.result, FunctionError)
    assert "6 MB" in str(large.result)


async def test_a_log_that_babbles_does_not_push_the_bill_out(invoker):
    answer = await ask(invoker, deed="babble", **{"from": 0, "to": 1})
    assert answer.bill.certain


async def test_a_function_with_too_much_memory_is_killed():
    async with a_platform(memory_mb=200, concurrency=1) as platform:
        invoker = invoker_of(platform)
        await invoker.open()
        answer = await ask(invoker, deed="hoard", bytes=400_000_000)
        await invoker.close()
    assert isinstance(answer.result, WorkerLost)
    assert "200" in str(answer.result)
    assert answer.bill.max_memory_mb > 200


async def test_a_throttle_is_told_and_not_tried_again(platform):
    invoker = invoker_of(platform, slots=6)
    await invoker.open()
    calls = [ask(invoker, deed="sleep", seconds=0.5) for _ in range(6)]
    answers = await asyncio.gather(*calls)
    await invoker.close()
    throttled = [each for each in answers if isinstance(each.result, Throttled)]
    assert len(throttled) == platform.throttles == 4
    assert all(each.bill is None for each in throttled)
    assert len(platform.bills) == 2


async def test_a_throttled_rank_comes_again_while_its_group_is_on_the_way(platform):
    first, second = invoker_of(platform), invoker_of(platform)
    await first.open()
    await second.open()
    busy = asyncio.create_task(ask(first, deed="sleep", seconds=0.4))
    await asyncio.sleep(0.2)
    answers = await second.invoke([deed(n=0), deed(n=1)], 10)
    assert [json.loads(each.result)["event"]["n"] for each in answers] == [0, 1]
    assert platform.throttles >= 1
    await busy
    await first.close()
    await second.close()


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"alias": "dead"}, "ResourceNotFoundException.*deploy it, or mend functions.name"),
        ({"name": "lookforward"}, "ResourceNotFoundException"),
        ({"memory_mb": 512}, "has 1769 MB .spend.memory_mb is 512"),
        ({"timeout_s": 1.0}, "may take 2 s .workers.deadline_s is 1"),
        ({"architecture": "arm64"}, "is for x86_64 .spend.price is for arm64"),
        ({"region": "eu-north-1"}, "is in us-east-1"),
        ({"account": "123456789012"}, "is of account 000000000000 .functions.account"),
    ],
)
async def test_another_function_than_is_paid_for_is_not_opened(platform, expected, words):
    invoker = invoker_of(platform, **expected)
    with pytest.raises(SettingsError, match=words):
        await invoker.open()
    await invoker.close()
    assert platform.bills == []


async def test_who_may_not_invoke_learns_it_before_the_first_event(platform):
    platform.revoked = True
    invoker = invoker_of(platform)
    with pytest.raises(SettingsError, match=r"AccessDenied.*lambda:InvokeFunction"):
        await invoker.open()
    await invoker.close()


async def test_a_role_that_is_revoked_later_is_a_refusal_without_a_bill(invoker, platform):
    assert isinstance((await ask(invoker, n=1)).result, bytes)
    platform.revoked = True
    answer = await ask(invoker, n=2)
    assert isinstance(answer.result, Refused)
    assert "give the dispatcher's role lambda:InvokeFunction" in str(answer.result)
    assert answer.bill is None


async def test_a_platform_that_goes_away_blames_nobody(platform, invoker):
    await ask(invoker, n=0)
    calls = asyncio.create_task(ask(invoker, deed="sleep", seconds=1.5))
    await asyncio.sleep(0.3)
    await platform.close()
    gone = await calls
    assert isinstance(gone.result, PlatformFailed)
    assert not gone.result.blames_items
    assert gone.result.ran
    assert isinstance((await ask(invoker, n=2)).result, PlatformFailed)


async def test_who_hangs_up_has_not_stopped_the_function_or_its_bill(invoker, platform):
    await ask(invoker, n=0)
    call = asyncio.create_task(ask(invoker, deed="sleep", seconds=0.6))
    await asyncio.sleep(0.2)
    call.cancel()
    await asyncio.wait({call})
    assert len(platform.bills) == 1
    await asyncio.sleep(0.8)
    assert platform.bills[1].billed_ms >= 600


async def test_the_kill_switch_lets_nothing_begin(invoker, platform):
    made = get_session().create_client("lambda", endpoint_url=platform.url, **CLIENT)
    async with made as client:
        name = platform.function.name
        await client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        assert isinstance((await ask(invoker, n=1)).result, Throttled)
        await client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        assert isinstance((await ask(invoker, n=1)).result, bytes)


async def test_troubles_are_the_same_again_with_the_same_seed():
    def fates(seed):
        troubles = Troubles(seed, cold=0.2, throttled=0.05, broken=0.02, hangs=0.01, killed=0.1)
        return [troubles.next() for _ in range(2000)]

    drawn = fates(5)
    assert drawn == fates(5) != fates(6)
    for name, share in (("cold", 0.2), ("throttled", 0.05), ("broken", 0.02), ("hangs", 0.01)):
        assert sum(getattr(each, name) for each in drawn) == pytest.approx(2000 * share, rel=0.5)


@pytest.fixture
async def bucket(aws):
    name = f"payloads-{uuid4().hex[:8]}"
    async with get_session().create_client("s3", endpoint_url=aws, **ACCESS) as client:
        await client.create_bucket(Bucket=name)
        yield name, client


def sized(size):
    """An event of so many bytes."""
    return deed(n=1, pad="x" * (size - len(deed(n=1, pad=""))))


async def test_one_byte_too_many_goes_by_address(aws, bucket):
    name, client = bucket
    pointers = Pointers(name, "lane/", "run-1", None, {"endpoint_url": aws, **ACCESS})
    allowed = {**ODD.environment, "LOOKBACK_PAYLOADS": f"{aws}/{name}/"}
    async with a_platform(environment=allowed) as at:
        invoker = invoker_of(at, slots=3, pointers=pointers)
        await invoker.open()
        fits, too_large = sized(MAX_PAYLOAD), sized(MAX_PAYLOAD + 1)
        assert (len(fits), len(too_large)) == (MAX_PAYLOAD, MAX_PAYLOAD + 1)
        answers = await invoker.invoke([fits, too_large, too_large], 10)
        await invoker.close()
    sizes = [json.loads(each.result)["bytes"] for each in answers]
    assert sizes == [len(each) for each in (fits, too_large, too_large)]
    left = await client.list_objects_v2(Bucket=name)
    assert left["KeyCount"] == 0, "nothing of it is kept"


async def test_without_a_bucket_it_is_refused(invoker, platform):
    (answer,) = await invoker.invoke([sized(MAX_PAYLOAD + 1)], 10)
    assert isinstance(answer.result, Refused)
    assert "functions.bucket" in str(answer.result)
    assert platform.bills == []


async def test_a_bucket_that_is_deleted_is_a_refusal_before_anything_is_invoked(aws, bucket):
    name, client = bucket
    pointers = Pointers(name, "", "run-1", None, {"endpoint_url": aws, **ACCESS})
    async with a_platform() as at:
        invoker = invoker_of(at, pointers=pointers)
        await invoker.open()
        await client.delete_bucket(Bucket=name)
        answers = await invoker.invoke([sized(MAX_PAYLOAD + 1), deed(n=0)], 10)
        await invoker.close()
        assert at.bills == []
    assert all(isinstance(each.result, Refused) and each.bill is None for each in answers)
    assert "NoSuchBucket" in str(answers[0].result)


async def test_a_bucket_that_is_not_there_does_not_open(aws, platform):
    pointers = Pointers("no-such-bucket", "", "run-1", None, {"endpoint_url": aws, **ACCESS})
    invoker = invoker_of(platform, pointers=pointers)
    with pytest.raises(SettingsError, match=r"NoSuchBucket.*functions.bucket"):
        await invoker.open()
    await invoker.close()


async def test_a_platform_that_sends_no_log_is_believed_what_the_workermeasured():
    bill = measured(json.dumps({"ms": {"total": 12.2, "init": 800.1}, "memory_mb": 300}).encode())
    assert (bill.billed_ms, bill.init_ms, bill.certain) == (813, 800, False)
    assert measured(b"[]") is None
    assert measured(b"{}") is None


async def test_idle_environments_are_thrown_away():
    async with a_platform(idle_s=0.2) as platform:
        invoker = invoker_of(platform)
        await invoker.open()
        first = await ask(invoker, n=0)
        await asyncio.sleep(0.3)
        second = await ask(invoker, n=1)
        await invoker.close()
    assert first.bill.cold
    assert second.bill.cold


async def test_warm_is_quick(invoker):
    await ask(invoker, n=0)
    started = time.monotonic()
    for n in range(10):
        await ask(invoker, n=n)
    assert time.monotonic() - started < 5
