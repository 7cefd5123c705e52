"""A night through the function platform of this machine, with all that goes wrong there.

The platform is SIMULATED (its throttles, cold starts and prices); the dispatcher, aiobotocore, the
functions, their groups and the model are what runs elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from dispatcher.invokers.bill import Bill
from dispatcher.ledger.accounts import TOTAL, Window
from dispatcher.ledger.prices import Price, price
from dispatcher.ledger.stores import open_store
from dispatcher.platform.api import FunctionPlatform
from dispatcher.platform.function import Function
from dispatcher.platform.troubles import Troubles
from dispatcher.service import follow, prepare
from dispatcher.settings import Settings
from workers.weights import find

PRICE = "aws-lambda/us-east-1/x86_64"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a night. Money in pico-dollars."""

    received: int
    rows: int
    by_status: Mapping[str, int]
    balanced: bool
    invocations: int
    longest_ms: int
    cold: int
    throttles: int
    ledger: int
    invoice: int
    outstanding: int
    """Reserved and neither settled nor released when the run ended."""
    leased: int
    """Held by dispatchers in the store afterwards."""
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self)


def function(timeout_s: float = 10.0, concurrency: int = 2, memory_mb: int = 1769) -> Function:
    """The real function, with the shipped model for galaxies."""
    carried = {"LOOKBACK_WEIGHTS": str(find("galaxies").resolve())}
    return Function(
        timeout_s=timeout_s, concurrency=concurrency, memory_mb=memory_mb, environment=carried
    )


def settings(platform: FunctionPlatform, ranks: int, items: int, **more: Any) -> Settings:
    """A run on that platform, priced as in us-east-1, under a cap that never binds."""
    return Settings(
        workers={
            "engine": "lambda",
            "count": platform.function.concurrency,
            "ranks": ranks,
            "deadline_s": platform.function.timeout_s,
        },
        functions={"endpoint": platform.url},
        spend={"price": PRICE, "night_usd": 10, "memory_mb": platform.function.memory_mb},
        batch={"items": items},
        guard={"failed_share": 1.0, "cost_band": 1000.0, "growth": 1000.0},
        **more,
    )


def invoice(bills: list[Bill], of: Price) -> int:
    """What the platform's operator would charge: every invocation to the pico-dollar, rounded up.

    Written apart from the dispatcher's own arithmetic, on purpose.
    """
    rate = Fraction(of.gb_second, 1024 * 1000)
    return sum(of.request + ceil(rate * (each.memory_mb or 0) * each.billed_ms) for each in bills)


async def through_functions(
    night: Path,
    output: Path,
    ranks: int,
    troubles: Troubles,
    *,
    items: int = 32,
    slots: int = 2,
    timeout_s: float = 10.0,
) -> Outcome:
    """Run a night archive to its end in groups of `ranks` functions."""
    os.environ.update({name: os.environ.get(name, key) for name, key in _CREDENTIALS.items()})
    platform = FunctionPlatform(function(timeout_s, max(slots, ranks)), troubles)
    await platform.start()
    began = time.monotonic()
    try:
        chosen = settings(platform, ranks, items)
        async with prepare(str(night), output, chosen) as run:
            await follow(run, asyncio.Event())
            totals, ledger = run.totals(), run.pipeline.scheduler.ledger
        seconds = time.monotonic() - began
        spent, leased = await _in_the_store(chosen, output)
        with sqlite3.connect(output / "results.sqlite") as db:
            statuses = Counter(each for (each,) in db.execute("SELECT status FROM results"))
        db.close()
        return Outcome(
            received=totals.received,
            rows=statuses.total(),
            by_status=dict(statuses),
            balanced=totals.balanced and totals.in_flight == 0,
            invocations=len(platform.bills),
            longest_ms=max((each.billed_ms for each in platform.bills), default=0),
            cold=sum(each.cold for each in platform.bills),
            throttles=platform.throttles,
            ledger=spent,
            invoice=invoice(platform.bills, price(PRICE)),
            outstanding=ledger.outstanding,
            leased=leased,
            seconds=seconds,
        )
    finally:
        await platform.close()


async def _in_the_store(chosen: Settings, output: Path) -> tuple[int, int]:
    """Spent and leased, as another process reads it."""
    store = open_store(chosen.spend.ledger, output, chosen.spend.budget, chosen.spend.noon_utc_h)
    await store.open()
    try:
        found = await store.balances(chosen.caps(), time.time())
    finally:
        await store.close()
    whole = next(b for b in found if (b.account, b.window) == (TOTAL, Window.MONTH))
    return whole.spent, whole.leased
