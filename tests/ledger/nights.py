"""Many dispatchers on one budget, in virtual time: heavy tails, kills, stores that go away."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

from dispatcher.errors import LedgerUnavailable
from dispatcher.ledger.accounts import TOTAL, Purse, Quote, Refusal, Window
from dispatcher.ledger.ledger import Ledger
from dispatcher.ledger.stores.memory import MemoryStore

try:
    from dispatcher.simulate.virtual import LoopClock, VirtualLoop
except ModuleNotFoundError:
    from dispatcher.simulate.virtual import LoopClock, VirtualLoop

DEADLINE_S = 15.0
PICO_PER_S = 1_000_000


class ShakyStore(MemoryStore):
    """Answers late, goes away for a while, and may lose an answer after it did what was asked."""

    def __init__(self, random_, *, away=0.0):
        super().__init__()
        self._random, self._away = random_, away
        self.down = False

    async def _transaction(self, now, work, *, write=True):
        await asyncio.sleep(self._random.expovariate(100))
        if self.down:
            raise LedgerUnavailable("it is away")
        result = await super()._transaction(now, work, write=write)
        if self._random.random() < self._away / 20:
            raise LedgerUnavailable("its answer is lost")
        return result


class Gone:
    """What a process that was killed can still say."""

    async def report(self, *_):
        raise LedgerUnavailable("it was killed")

    async def close(self):
        pass


@dataclass
class Night:
    """One budget and what was really spent of it: (start, end, purse, price) of every call."""

    seed: int
    caps: dict
    dispatchers: int = 3
    length_s: float = 240.0
    per_s: float = 20.0
    kills: float = 0.0
    hangs: tuple = ()
    """From when to when (s) every call that begins takes all the time it has."""
    away: float = 0.0
    calls: list = field(default_factory=list)
    worst: int = 0
    refused: int = 0

    def run(self):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(self._night())
        return self

    async def _night(self):
        self.random = random.Random(self.seed)
        self.clock = LoopClock()
        self.store = ShakyStore(self.random, away=self.away)
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self._lives(n)) for n in range(self.dispatchers)]
            if self.away:
                workers.append(tasks.create_task(self._go_away()))
            await asyncio.sleep(self.length_s)
            for each in workers:
                each.cancel()

    async def _go_away(self):
        while True:
            await asyncio.sleep(self.random.expovariate(1 / 30))
            self.store.down = True
            await asyncio.sleep(self.random.expovariate(1 / 20))
            self.store.down = False

    async def _lives(self, n):
        """A dispatcher, and after it is killed the next one at the same place."""
        while True:
            life_s = self.random.expovariate(self.kills / 60) if self.kills else self.length_s
            killed = asyncio.timeout(life_s)
            with suppress(TimeoutError, LedgerUnavailable):
                async with killed:
                    await self._dispatch(n, killed)
            await asyncio.sleep(self.random.uniform(0.1, 3))

    async def _dispatch(self, n, killed):
        ledger = Ledger(
            self.store,
            self.caps,
            self.clock,
            f"d{n}",
            shares={Purse.HEDGE: 0.03},
            ttl_s=2 * DEADLINE_S,
        )
        async with ledger.running():
            try:
                while True:
                    wait_s = self._try(ledger)
                    await asyncio.sleep(wait_s + self.random.expovariate(self.per_s))
            finally:
                if killed.expired():
                    ledger.store = Gone()  # nobody hears of it any more

    def _try(self, ledger):
        purse = self.random.choice([Purse.LIVE, Purse.LIVE, Purse.REPLAY, Purse.HEDGE])
        items = self.random.choice([1, 4, 16, 64])
        quote = quote_of(items)
        self.worst = max(self.worst, quote.worst)
        found = ledger.try_reserve(purse, quote, items)
        if isinstance(found, Refusal):
            self.refused += 1
            assert found.retry_s > 0 and found.why
            return found.retry_s / 4
        seconds, start = duration(self.random, items), self.clock.now()
        if self.hangs and self.hangs[0] <= self.clock.monotonic() < self.hangs[1]:
            seconds = DEADLINE_S
        price = int(seconds * PICO_PER_S)
        # It runs at the platform, whatever becomes of who has called it.
        self.calls.append((start, start + seconds, purse, price))
        asyncio.get_running_loop().call_later(seconds, ledger.settle, found, price)
        return 0.0

    def excess(self):
        """(pico-dollars beyond it, cap) of every cap, in the window that spent most.

        A call counts when it starts; and once more, in another sum, when it ends.
        """
        return [
            (most_within(self._paid(account, which), LENGTH_S[window]) - cap, cap)
            for account, windows in self.caps.items()
            for window, cap in windows.items()
            for which in (0, 1)
        ]

    def _paid(self, account, which):
        mine = (call for call in self.calls if account in (TOTAL, call[2].value))
        return sorted((call[which], call[3]) for call in mine)


LENGTH_S = {Window.MINUTE: 60.0, Window.HOUR: 3600.0}


def most_within(paid, length_s):
    """The most that any stretch of so many seconds holds."""
    most = total = first = 0
    for when, price in paid:
        total += price
        while paid[first][0] <= when - length_s:
            total -= paid[first][1]
            first += 1
        most = max(most, total)
    return most


def duration(random_, items):
    """Seconds that a call takes: one of a hundred is far slower, up to the deadline."""
    typical = 0.4 + 0.02 * items
    if random_.random() < 0.01:
        return random_.uniform(1.5 * typical, DEADLINE_S)
    return typical * min(1.5, random_.lognormvariate(0, 0.12))


def quote_of(items):
    """Expected, what 99 of 100 stay below, and what the deadline allows."""
    typical = 0.4 + 0.02 * items
    return Quote(*(int(s * PICO_PER_S) + 1 for s in (typical, 1.5 * typical, DEADLINE_S)))
