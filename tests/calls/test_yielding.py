"""A replay keeps still within a second while a live lane in another process needs the workers."""

import asyncio
from types import SimpleNamespace

import pytest

from dispatcher.calls import yielding
from dispatcher.calls.queue import Holder
from dispatcher.errors import LedgerUnavailable
from dispatcher.ledger.accounts import Purse
from dispatcher.ledger.stores.memory import MemoryStore
from dispatcher.simulate.virtual import LoopClock, VirtualLoop


def lane(purse):
    return SimpleNamespace(purse=purse, held=Holder.NOTHING, oldest_s=0.0, paused=False)


def passing(story):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


@pytest.mark.parametrize(
    "need", [{"held": Holder.WORKERS}, {"held": Holder.MONEY}, {"oldest_s": 30.0}]
)
def test_a_replay_keeps_still_while_live_needs_workers_and_goes_on_afterwards(need):
    async def story():
        store, clock = MemoryStore(), LoopClock()
        live, old = lane(Purse.LIVE), lane(Purse.REPLAY)
        tasks = [
            asyncio.create_task(yielding.watch(live, store, "live", clock, late_s=5.0)),
            asyncio.create_task(yielding.watch(old, store, "old", clock, late_s=5.0)),
        ]
        await asyncio.sleep(3)
        assert not old.paused
        for name, value in need.items():
            setattr(live, name, value)
        await asyncio.sleep(1)
        assert old.paused
        live.held, live.oldest_s = Holder.NOTHING, 0.0
        await asyncio.sleep(4)
        assert not old.paused
        for each in tasks:
            each.cancel()

    passing(story)


def test_a_replay_that_cannot_ask_keeps_still():
    class Away:
        async def needed_until(self, _now, _besides):
            raise LedgerUnavailable("away")

    async def story():
        old = lane(Purse.REPLAY)
        task = asyncio.create_task(yielding.watch(old, Away(), "old", LoopClock(), late_s=5.0))
        await asyncio.sleep(1)
        assert old.paused
        task.cancel()

    passing(story)
