"""One dispatcher of a night: a real lane and a real pipeline, that can be killed."""

import asyncio
import random
from collections import Counter
from contextlib import suppress

from delivery.minds import MODEL
from dispatcher import gapmap
from dispatcher.breaker import Breaker
from dispatcher.checkpoint import Checkpoint
from dispatcher.conclusions import Clerk
from dispatcher.control import open_queue, open_scheduler
from dispatcher.credit import Credit
from dispatcher.intake import Intake
from dispatcher.lane import Lane
from dispatcher.ledger.accounts import Purse
from dispatcher.outlet import Outlet
from dispatcher.pipeline import Pipeline
from dispatcher.simulate.virtual import LoopClock
from dispatcher.writer import Writer
from ingest.codecs import Decoder
from ingest.progress import Progress
from ingest.schemas import open_schemas


class Killed(BaseException):
    """What a killed dispatcher gets instead of whatever it tries to do outside of itself."""


class Mortal(Checkpoint):
    """A state file whose owner may be killed."""

    alive = True

    async def commit(self, *progress):
        if not self.alive:
            raise Killed
        await super().commit(*progress)


class Wrong(AssertionError):
    """Something was lost, doubled, done in vain, or said to be done that was not."""


class WatchedLane(Lane):
    """Notes what was settled in the present stay of each partition, or known when it began.

    Raises:
        Wrong: it was committed before.
    """

    def __init__(self, **parts):
        super().__init__(**parts)
        self.settled, self._before = {}, {}
        self.times = Counter()  # how often each position was settled

    def assign(self, partition, committed=None):
        first = super().assign(partition, committed)
        # Where the source keeps nothing, the lane's own records count.
        known = committed or self._records.get(partition) or Progress()
        before = gapmap.decode(known.watermark, known.gaps).union(range(known.watermark))
        self._before[partition] = before
        self.settled[partition] = set(before)
        return first

    async def revoke(self, partitions):
        with suppress(Killed):  # of nobody's concern but its own
            await super().revoke(partitions)

    def settle(self, settled):
        for errand, _ in settled:
            self.times[errand.delivery.position] += 1
            if errand.assignment.ours:
                self._note(errand.delivery.position)
        super().settle(settled)

    def _note(self, position):
        if self.source.ordered and position.offset in self._before[position.home]:
            raise Wrong(f"{position} is done again: it was committed")
        self.settled[position.home].add(position.offset)


class Dispatcher:
    """`source`, `shelves` and `letters` are the outside: a killed one does not reach them."""

    def __init__(self, state, source, shelves, letters, stamps, answers, settings, seed):
        self.alive = True
        self.source = source
        self._draw = random.Random(seed)
        self._clock = LoopClock()
        self.checkpoint = Mortal(state)
        clerk = Clerk("r", MODEL, self._clock)
        decoder = Decoder(open_schemas(None, None), 2**20)
        intake = Intake(decoder, stamps, self.checkpoint, clerk, self._clock, settings.ingest)
        scheduler, durations = open_scheduler(
            settings, answers, state.parent, self._clock, MODEL.key, self._draw
        )
        outlets = [self._outlet(each, settings) for each in shelves]
        self.lane = WatchedLane(
            source=source,
            work=Pipeline(
                intake=intake,
                queue=open_queue(scheduler, durations, settings, Purse.LIVE),
                scheduler=scheduler,
                writer=Writer(outlets, self._outlet(letters, settings)),
                listeners=(),
                most_dead=settings.dead_letters.max_in_a_row,
            ),
            checkpoint=self.checkpoint,
            credit=Credit(settings.flow.items, 2**28, self._clock),
            clock=self._clock,
            settings=settings,
        )

    def _outlet(self, shelf, settings):
        async def store(conclusions):
            if not self.alive:
                raise Killed
            await shelf.write([each.row for each in conclusions])

        breaker = Breaker(self._clock, jitter=self._draw, cool_down_s=0.5, longest_s=4.0)
        return Outlet(shelf.name, store, breaker, settings.sinks.batch, shelf.required)

    async def run(self):
        """Follow the source to the end, or until killed."""
        self._task = asyncio.current_task()
        try:
            await self.lane.run()
        finally:
            self.checkpoint.close()

    def kill(self):
        """`kill -9`: nothing that it does from now on has an effect."""
        self.alive = self.checkpoint.alive = self.source.connected = False
        self._task.cancel()
