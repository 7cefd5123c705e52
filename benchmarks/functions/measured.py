"""Calls of the platform on this machine: what a billed second gives, and where it goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.functions.bucket import Bucket
from benchmarks.functions.nights import PRICE, function, through_functions
from dispatcher.demo import render_night
from dispatcher.errors import InvocationError
from dispatcher.invokers import Answer
from dispatcher.invokers.aws_lambda import Deployed, LambdaInvoker
from dispatcher.ledger.prices import Tariff, price
from dispatcher.platform.api import FunctionPlatform
from dispatcher.platform.function import Function
from dispatcher.platform.troubles import Troubles
from fmi.meeting.rendezvous import Rendezvous
from workers.shelf import NONE
from workers.training.render import render_galaxies
from workers.weights import find, identify
from workers.wire import Item, encode_items

CORE_MB: Final = 1769
PICO: Final = 1e12
_KEYS: Final = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
_GET_USD: Final = 0.0000004  # a request that reads an object, us-east-1
_CAI_IMAGES: Final = 1278
_ROOT: Final = Path(__file__).parents[2]


def _event(count: int, job: dict[str, Any], **more: Any) -> dict[str, Any]:
    galaxies = render_galaxies(min(count, 64), 11, size=32)
    items = [
        Item(f"item-{k}", galaxies.images[k % 64], galaxies.magnitudes[k % 64])
        for k in range(count)
    ]
    return {"job": job, "partition": encode_items(items), **more}


def _job() -> dict[str, Any]:
    return {"weights_sha256": identify("galaxies").sha256}


async def _with_function(
    made: Function, work: Callable[[FunctionPlatform, LambdaInvoker], Awaitable[Any]]
) -> Any:
    async with AsyncExitStack() as stack:
        platform = FunctionPlatform(made)
        await platform.start()
        stack.push_async_callback(platform.close)
        wanted = Deployed(made.name, made.alias, made.memory_mb, made.timeout_s)
        client = {"endpoint_url": platform.url, "region_name": made.region, **_KEYS}
        invoker = LambdaInvoker(wanted, made.concurrency, client)
        await invoker.open()
        stack.push_async_callback(invoker.close)
        return await work(platform, invoker)


def _said(answer: Answer) -> dict[str, Any]:
    if isinstance(answer.result, InvocationError):
        raise answer.result
    said: dict[str, Any] = orjson.loads(answer.result)
    return said


async def rate(calls: int, items: int, precision: str = "float32") -> dict[str, float]:
    """One function of one core: images per billed vCPU second, warm, and its cold start."""
    made = function(timeout_s=60.0, concurrency=1, memory_mb=CORE_MB)
    environment = {**made.environment, "LOOKBACK_PRECISION": precision}
    payload = orjson.dumps(_event(items, _job()))

    async def work(_: FunctionPlatform, invoker: LambdaInvoker) -> dict[str, float]:
        (cold,) = await invoker.invoke([payload], 60)
        _said(cold)
        billed, inferring, bills = 0, 0.0, []
        for _call in range(calls):
            (answer,) = await invoker.invoke([payload], 60)
            inferring += _said(answer)["ms"]["infer"]
            assert answer.bill is not None
            assert not answer.bill.cold
            billed += answer.bill.billed_ms
            bills.append(answer.bill.billed_ms)
        tariff = Tariff(price(PRICE), CORE_MB)
        cost = sum(tariff.charge(each) for each in bills)
        assert cold.bill is not None
        return {
            "images_per_billed_vcpu_s": 1000 * calls * items / billed,
            "compute_share": inferring / billed,
            "usd_per_million_images": 1e6 * cost / PICO / (calls * items),
            "cold_start_s": cold.bill.init_ms / 1000,
            "max_memory_mb": float(answer.bill.max_memory_mb or 0),
        }

    found: dict[str, float] = await _with_function(replace(made, environment=environment), work)
    return found


async def one_by_one(calls: int) -> dict[str, float]:
    """Peer: one image a call, as functions of events are mostly written; what a call adds."""
    payload = orjson.dumps(_event(1, _job()))

    async def work(_: FunctionPlatform, invoker: LambdaInvoker) -> dict[str, float]:
        _said((await invoker.invoke([payload], 60))[0])
        billed, added = 0, []
        for _call in range(calls):
            began = time.perf_counter()
            (answer,) = await invoker.invoke([payload], 60)
            took = time.perf_counter() - began
            added.append(1000 * took - _said(answer)["ms"]["total"])
            assert answer.bill is not None
            billed += answer.bill.billed_ms
        return {
            "peer_one_image_a_call_per_billed_vcpu_s": 1000 * calls / billed,
            "invoke_overhead_ms": median(added),
        }

    made = function(timeout_s=60.0, concurrency=1, memory_mb=CORE_MB)
    found: dict[str, float] = await _with_function(made, work)
    return found


async def as_cai() -> dict[str, float]:
    """Peer: CAI's executor (see `as_cai`), cold, as all of its runs were."""
    galaxies = render_galaxies(64, 11, size=32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "0.npz"
        rows = np.arange(_CAI_IMAGES) % 64
        np.savez(file, images=galaxies.images[rows], magnitudes=galaxies.magnitudes[rows])

        async def work(_: FunctionPlatform, invoker: LambdaInvoker) -> float:
            (answer,) = await invoker.invoke([orjson.dumps({"file": str(file)})], 60)
            images = int(_said(answer)["images"])
            assert answer.bill is not None
            return 1000 * images / answer.bill.billed_ms

        made = Function(
            handler="benchmarks.functions.as_cai.handler",
            memory_mb=10_240,
            concurrency=1,
            environment={"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"},
        )
        return {"peer_as_cai_per_billed_vcpu_s": await _with_function(made, work)}


async def books(galaxies: int, ranks: Sequence[int]) -> dict[str, Any]:
    """Nights of troubles: the ledger against the platform's invoice."""
    nights = []
    with tempfile.TemporaryDirectory() as folder:
        night = Path(folder) / "night.sqlite"
        render_night(night, galaxies=galaxies, seed=4)
        for size in ranks:
            troubles = Troubles(
                size, cold=0.2, throttled=0.05, broken=0.02, hangs=0.01, killed=0.1 / size
            )
            output = Path(folder) / f"out-{size}"
            seen = await through_functions(night, output, size, troubles, slots=max(2, size))
            nights.append({"ranks": size, **seen.to_json()})
    return {
        "ledger_error_picousd": max(abs(each["ledger"] - each["invoice"]) for each in nights),
        "reservations_left_open": sum(each["outstanding"] for each in nights),
        "all_settled_once": all(each["balanced"] for each in nights),
        "nights": nights,
    }


async def together(ranks: int, items: int, *, cold: bool, grouped: bool) -> dict[str, Any]:
    """`ranks` invocations of `items` each that have the weights from a bucket.

    `grouped`: one reads the weights and gives them to the others, and the root gathers all
    verdicts; else each is on its own.
    """
    bucket, meeting = Bucket({"weights": find("galaxies").read_bytes()}), Rendezvous()
    await bucket.start()
    await meeting.start()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "LOOKBACK_WEIGHTS": NONE,
            "LOOKBACK_PAYLOADS": f"{bucket.url}/",
            "LOOKBACK_CACHE": folder,
        }
        job = {**_job(), "weights_at": bucket.address("weights")}

        def payloads(number: int) -> list[bytes]:
            events = []
            for rank in range(ranks):
                group = {
                    "id": f"g{number}",
                    "rank": rank,
                    "size": ranks,
                    "rendezvous": meeting.address,
                    "deadline_s": 30,
                }
                events.append(_event(items, job, **({"group": group} if grouped else {})))
            if grouped:
                token = meeting.admit(f"g{number}", ranks, ttl_s=60)
                for each in events:
                    each["group"]["token"] = token
            return [orjson.dumps(each) for each in events]

        async def call(invoker: LambdaInvoker, number: int) -> tuple[float, list[Answer]]:
            sent = payloads(number)
            began = time.perf_counter()
            answers = await invoker.invoke(sent, 60)
            for each in answers:
                _said(each)
            return time.perf_counter() - began, answers

        async def work(_: FunctionPlatform, invoker: LambdaInvoker) -> dict[str, Any]:
            bucket.requests = bucket.bytes = 0
            seconds, answers = await call(invoker, 0)
            if not cold:
                bucket.requests = bucket.bytes = 0
                rounds = [await call(invoker, n) for n in range(1, 6)]
                seconds, answers = sorted(rounds, key=lambda each: each[0])[2]
            tariff = Tariff(price(PRICE), CORE_MB)
            bills = [each.bill.billed_ms for each in answers if each.bill]
            gets = bucket.requests if cold else bucket.requests // 5
            cost = sum(map(tariff.charge, bills)) / PICO
            return {
                "ranks": ranks,
                "items": items,
                "cold": cold,
                "grouped": grouped,
                "seconds": seconds,
                "billed_ms": sum(bills),
                "bucket_bytes": bucket.bytes,
                "bucket_requests": gets,
                "usd": cost + gets * _GET_USD,
                "ms": [_said(each)["ms"] for each in answers],
            }

        try:
            made = replace(function(timeout_s=60.0, concurrency=ranks), environment=environment)
            found: dict[str, Any] = await _with_function(made, work)
            return found
        finally:
            await bucket.close()
            await meeting.close()
