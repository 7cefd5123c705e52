"""Control of a run: its scheduler, ledger and policy, as the settings want them."""

from __future__ import annotations

import json
import platform
import random
from contextlib import suppress
from pathlib import Path
from typing import Final

from dispatcher.calls.call import Caller
from dispatcher.calls.concurrency import Concurrency
from dispatcher.calls.durations import PRIOR, Durations
from dispatcher.calls.guard import Guard, GuardLimits
from dispatcher.calls.policy import Adaptive
from dispatcher.calls.queue import Queue
from dispatcher.calls.scheduler import Scheduler
from dispatcher.calls.sizing import Limits, Target
from dispatcher.clock import Clock
from dispatcher.errors import SettingsError
from dispatcher.groups import Groups
from dispatcher.ledger.accounts import Purse, Window
from dispatcher.ledger.ledger import Ledger
from dispatcher.ledger.prices import Tariff, price
from dispatcher.ledger.stores import open_store
from dispatcher.settings import Settings
from dispatcher.settings.sections import ITEMS_PER_INVOCATION
from workers.wire import BYTES_PER_ITEM

DURATIONS_FILE: Final = "durations.json"
_HALF: Final = 0.5  # of the time to yield: a call of a replay may have begun just before


def open_scheduler(
    settings: Settings,
    groups: Groups,
    output: Path,
    clock: Clock,
    model: str,
    jitter: random.Random | None = None,
    ledger: Ledger | None = None,
) -> tuple[Scheduler, Durations]:
    """The scheduler of a run, and what it knows of durations (kept in `output`, per `model`).

    Raises:
        SettingsError: the price is not known, or costs something without a cap; a ledger that
            cannot be used.
    """
    tariff = tariff_of(settings)
    ledger = ledger or open_ledger(settings, output, clock)
    jitter = jitter or random.Random()  # noqa: S311 - nothing secret
    scheduler = build_scheduler(settings, groups, ledger, tariff, clock, jitter)
    return scheduler, _known_durations(output / DURATIONS_FILE, _key(model, settings))


def build_scheduler(
    settings: Settings,
    groups: Groups,
    ledger: Ledger,
    tariff: Tariff,
    clock: Clock,
    jitter: random.Random,
) -> Scheduler:
    """The scheduler on a ledger that is there."""
    concurrency = Concurrency(groups.slots, clock)
    # Where calls are free, a second one only takes the worker away from somebody else.
    hedges = settings.hedge.share > 0 and not tariff.price.free
    deadline_s = settings.workers.deadline_s
    caller = Caller(groups, ledger, concurrency, tariff, deadline_s, hedges)
    return Scheduler(caller, ledger, concurrency, clock, settings.workers.attempts, jitter)


def open_queue(
    scheduler: Scheduler,
    durations: Durations,
    settings: Settings,
    purse: Purse,
    lane: str | None = None,
) -> Queue:
    """The queue of a lane (default: that of the purse). Those opened before it go first."""
    lane = lane or purse.value
    live = purse is Purse.LIVE
    target = (
        Target(settings.live.objective_s, None, settings.batch.overhead)
        if live
        else Target(None, _HALF * settings.replay.yield_s, settings.batch.overhead)
    )
    caller = scheduler.caller
    policy = Adaptive(
        durations,
        caller.tariff,
        _limits(settings, caller.groups.slots),
        target,
        settings.workers.deadline_s,
        settings.batch.linger_s if caller.tariff.price.free else None,
    )
    given = settings.guard
    limits = GuardLimits(
        given.cost_band, given.failed_share, given.growth, given.calls, given.probe_s
    )
    guard = Guard(lane, limits, scheduler.clock)
    reserve = 0.0 if live else settings.replay.reserve
    return scheduler.queue(lane, purse, policy, guard, reserve)


def tariff_of(settings: Settings) -> Tariff:
    """What a worker costs.

    Raises:
        SettingsError: nobody knows, or nobody has said where it ends.
    """
    given = settings.spend
    found = price(given.price, given.prices)
    long = settings.spend.windows().keys() & {Window.NIGHT, Window.MONTH}
    if not (found.free or long):
        raise SettingsError(
            f"calls at the price {found.name} cost money, and no cap says where that ends: set "
            "spend.night_usd or spend.month_usd"
        )
    if settings.functions.bucket is None:
        return Tariff(found, given.memory_mb)
    if found.object_write is None or found.object_read is None:
        raise SettingsError(
            f"functions.bucket is set, and the price {found.name} does not say what a request to "
            "it costs: add object_write and object_read to the price"
        )
    return Tariff(found, given.memory_mb, inline=ITEMS_PER_INVOCATION)


def open_ledger(settings: Settings, output: Path, clock: Clock) -> Ledger:
    """The ledger of a run; its store is asked for nothing yet.

    Raises:
        SettingsError: nothing keeps a ledger at that address.
    """
    given = settings.spend
    store = open_store(given.ledger, output, given.budget, given.noon_utc_h)
    # The same folder is the same dispatcher, also after a crash.
    owner = f"{platform.node()}:{output.resolve()}"
    return Ledger(
        store,
        settings.caps(),
        clock,
        owner,
        shares=shares_of(settings),
        soft=given.soft,
        ttl_s=2 * settings.workers.deadline_s,
    )


def shares_of(settings: Settings) -> dict[Purse, float]:
    """Purses that may spend a share of what live and replay have spent."""
    return {
        Purse.HEDGE: settings.hedge.share,
        Purse.RETRY: settings.retry.share,
        Purse.POISON: settings.poison.share,
    }


def _limits(settings: Settings, slots: int) -> Limits:
    given, ranks = settings.workers, settings.ranks()
    return Limits(
        items=min(settings.batch.items, settings.batch.max_bytes // BYTES_PER_ITEM),
        time_s=given.deadline_s,
        ranks=min(ranks or slots, slots),
        exact_ranks=ranks > 0,
    )


def _key(model: str, settings: Settings) -> str:
    return f"{model} {settings.spend.price} {settings.spend.memory_mb} MB"


def _known_durations(path: Path, key: str) -> Durations:
    try:
        return Durations.from_json(json.loads(path.read_text())[key])
    except (OSError, ValueError, KeyError, TypeError):
        return Durations(PRIOR)  # to be learnt: a lost file costs some small batches


def keep_durations(durations: Durations, settings: Settings, output: Path, model: str) -> None:
    """Remember for the next run what was learnt in this one."""
    path = output / DURATIONS_FILE
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    known[_key(model, settings)] = durations.to_json()
    with suppress(OSError):  # a full disk: to be learnt again
        path.write_text(json.dumps(known, indent=1) + "\n")
