"""A night: one sky, some dispatchers, their sinks, and a look at every commit."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from delivery.dispatcher import Dispatcher, Killed, Wrong
from delivery.minds import Answers, Stamps
from delivery.plan import Plan
from delivery.shelves import Shelf, key_and_status, letter
from delivery.sky import ROWS
from dispatcher import gapmap
from dispatcher.simulate.virtual import LoopClock, VirtualLoop
from ingest.errors import SourceUnavailable
from ingest.progress import Progress
from ingest.sources.group import MemoryBroker
from ingest.sources.memory_queue import MemoryQueue
from sinks.deadletters.memory import MemoryDeadLetters
from sinks.jsonl import JsonLinesSink
from sinks.memory import MemorySink
from sinks.sqlite import SqliteSink

_LONGEST_S = 3600.0


class _Broker(MemoryBroker):
    """Every commit is looked at before it is kept; some fail, before it or after it."""

    look = None
    fails = None

    def commit(self, member, generation, progress):
        self.committing = member
        if self.fails():
            raise SourceUnavailable("a request is lost")
        kept = super().commit(member, generation, progress)
        if self.fails():
            raise SourceUnavailable("an answer is lost")
        return kept

    def keep(self, partition, progress):
        self.look(self.committing, partition, progress)
        super().keep(partition, progress)


class _Queue(MemoryQueue):
    look = None

    def delete(self, message):
        gone = super().delete(message)
        if gone:
            self.look(message)
        return gone


@dataclass
class Night:
    """`done`: offsets that are committed, by partition. `seen`: what happened, counted."""

    sky: object
    plan: Plan
    seed: str
    folder: Path
    done: dict = field(default_factory=dict)
    seen: Counter = field(default_factory=Counter)
    running: dict = field(default_factory=dict)
    times: Counter = field(default_factory=Counter)
    machines: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.folder.mkdir()
        self.done = {each: set() for each in self.sky.logs}
        plan, draw = self.plan, random.Random(f"{self.seed} delays")
        self._delay = lambda longest: lambda: longest * draw.random() ** 3
        stamp_s = self._delay(plan.answer_s / 4)
        self.stamps = Stamps(stamp_s, self.sky.keys)
        answer_s = self._delay(plan.answer_s)
        luck = random.Random(f"{self.seed} luck")
        self.answers = Answers(luck, answer_s, plan.loss, self.stamps.fates)
        self.source = self._queue(luck) if plan.queue else self._broker(luck)
        self.required = [self._shelf(MemorySink(f"memory {n}"), key_and_status) for n in range(2)]
        if plan.files:
            self.required = [
                self._shelf(SqliteSink(self.folder / "r.sqlite"), key_and_status),
                self._shelf(JsonLinesSink(self.folder / "r.jsonl"), key_and_status),
            ]
        self.others = [
            self._shelf(MemorySink("best effort"), key_and_status, required=False)
            for _ in range(plan.best_effort)
        ]
        self.letters = self._shelf(MemoryDeadLetters(), letter)

    def _shelf(self, sink, name_of, *, required=True):
        draw = random.Random(f"{self.seed} {sink.name}")
        return Shelf(sink, name_of, draw, self._delay(self.plan.sink_s), self.plan.flaky, required)

    def _broker(self, draw):
        delay = self._delay(self.plan.broker_s)
        broker = _Broker(self.sky.logs, pause=lambda: asyncio.sleep(delay()))
        broker.look = self._look
        broker.fails = lambda: draw.random() < self.plan.flaky / 2
        return broker

    def _queue(self, draw):
        self.bodies = [body for log in self.sky.logs.values() for body in log]
        queue = _Queue(
            self.bodies,
            visibility_s=self.plan.visibility_s,
            refuses=lambda _: draw.random() < self.plan.flaky / 3,
            clock=LoopClock().monotonic,
        )
        queue.look = self._look_at_delete
        places = [(name, n) for name, log in self.sky.logs.items() for n in range(len(log))]
        self._places = places
        return queue

    # The dispatchers.

    async def run(self, disturb=None):
        """From the first event to the last; `disturb(night)` meanwhile."""
        async with asyncio.timeout(_LONGEST_S), asyncio.TaskGroup() as tasks:
            faults = tasks.create_task(disturb(self)) if disturb else None
            async with asyncio.TaskGroup() as dispatchers:
                for n in range(self.plan.dispatchers):
                    dispatchers.create_task(self._keep_running(f"d{n}"))
            if faults:
                faults.cancel()
        self.seen["events"] = self.sky.events
        self.seen["settled"] = self.times.total()
        self.seen["settled again"] = self.times.total() - len(self.times)
        self.seen["asked"] = self.answers.asked.total()
        self.seen["asked again"] = self.answers.asked.total() - len(self.answers.asked)
        self.seen["fenced"] = getattr(self.source, "fenced", 0)
        self.seen["virtual seconds"] = round(asyncio.get_running_loop().time())

    async def _keep_running(self, name):
        draw = random.Random(f"{self.seed} {name}")
        while not self.source.settled:
            self.running[name] = one = await self._start(name, draw)
            try:
                await one.run()
            except (Killed, asyncio.CancelledError):
                if one.alive:
                    raise  # the night itself is over
                asyncio.current_task().uncancel()
            except BaseExceptionGroup as group:
                if one.alive or group.split(Killed)[1]:
                    raise
            except SourceUnavailable:
                self.seen["starts in vain"] += 1
            finally:
                del self.running[name]
                self.times.update(one.lane.times)
            if one.alive:
                self._see_that_books_balance(one.lane)
            else:
                await asyncio.sleep(draw.uniform(0, 10))
                await self._bury(one)
            if not self.source.settled:
                await asyncio.sleep(draw.uniform(0, 2))

    async def _start(self, name, draw):
        source = self.source.receiver() if self.plan.queue else self.source.member()
        if self.plan.files:
            for shelf, again in zip(self.required, (SqliteSink, JsonLinesSink), strict=True):
                await shelf.sink.close()
                shelf.sink = again(self.folder / shelf.name)
                await shelf.sink.open()
        shelves = [*self.required, *self.others]
        if draw.random() < self.plan.forgetful:
            self.seen["new machines"] += 1
            self.machines[name] += 1
        state = self.folder / f"{name} {self.machines[name]}.sqlite"
        made = Dispatcher(
            state, source, shelves, self.letters, self.stamps, self.answers,
            self.plan.settings, draw.random(),
        )  # fmt: skip
        source.dispatcher = made
        self.seen["starts"] += 1
        return made

    async def _bury(self, one):
        """Its session runs out."""
        if not self.plan.queue:
            await self.source.expel(one.source)

    # What must be true at every commit.

    def _look(self, member, partition, progress):
        lane, log = member.dispatcher.lane, self.sky.logs[partition.name]
        done = self.done[partition.name]
        before = self.source.committed.get(partition)
        if before and before.watermark > progress.watermark:
            raise Wrong(f"{partition} goes back from {before.watermark} to {progress.watermark}")
        settled = gapmap.decode(progress.watermark, progress.gaps)
        settled.update(range(before.watermark if before else 0, progress.watermark))
        new = settled - done
        late = new - lane.settled[partition]
        if late:
            raise Wrong(f"{partition}: {late} were not settled in the stay that commits them")
        lost = done - settled - set(range(progress.watermark))
        if lost:
            raise Wrong(f"{partition}: {lost} were committed, and are not any more")
        done |= new
        for offset in new:
            self._see_that_it_is_stored(log[offset], (partition.name, offset))
        if sum(progress.outcomes.values()) != len(settled | set(range(progress.watermark))):
            raise Wrong(f"{partition}: the books are of {progress.outcomes}, not of {len(done)}")
        self._see_that_books_balance(lane)
        self.seen["commits"] += 1

    def _look_at_delete(self, message):
        partition, offset = self._places[message]
        self.done[partition].add(offset)
        self._see_that_it_is_stored(self.bodies[message], ("queue", message))
        self.seen["commits"] += 1

    def _see_that_it_is_stored(self, body, place):
        fate = self.sky.fates[body]
        if fate == "filtered":
            return
        if fate == "undecodable":
            stored = (place[0], place[1]) in self.letters.held
        elif fate in ROWS:
            status = "ok" if fate == "ok" else fate
            stored = all((self.sky.key_of(body), status) in each.held for each in self.required)
        else:
            stored = self.sky.key_of(body) in self.letters.held
        if not stored:
            raise Wrong(f"{place} ({fate}) is committed and not stored")

    @staticmethod
    def _see_that_books_balance(lane):
        totals = lane.totals()
        if lane.unbalanced() or not totals.balanced:
            raise Wrong(f"books of {lane.unbalanced()}: {totals}")

    # What must be true in the end.

    async def contents(self):
        """Key and status of all that is in the required sinks and among the dead letters."""
        found = {}
        for n, shelf in enumerate(self.required):
            held = await shelf.counted()
            await shelf.sink.close()
            if doubled := [each for each, count in held.items() if count > 1]:
                raise Wrong(f"{shelf.name} holds {doubled[:3]} twice")
            found[f"sink {n}"] = set(held)
        for shelf in self.others:
            if more := shelf.held - found["sink 0"]:
                raise Wrong(f"{shelf.name} holds {list(more)[:3]}, and no other sink does")
        # Of two copies of what kills, two dispatchers may each have found one: two places, one key.
        found["dead letters"] = set(await self.letters.counted())
        return found

    def books(self):
        """Settled events of every partition, as committed."""
        nothing = Progress()
        return {
            each.name: sum(self.source.committed.get(each, nothing).outcomes.values())
            for each in self.source.logs
        }


def play(night, disturb=None):
    """Let a night pass, in virtual time."""
    thread_s = night._delay(night.plan.thread_s)
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(thread_s)) as runner:
        runner.run(night.run(disturb))
        return runner.run(night.contents())
