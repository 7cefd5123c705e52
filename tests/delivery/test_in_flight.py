"""Killed with a thousand events in flight, settled in any order: only the open ones are redone."""

import asyncio
import random

import pytest

from delivery.dispatcher import Dispatcher
from delivery.minds import BILL, ESTIMATE, Stamps
from delivery.plan import settings_of
from delivery.shelves import Shelf, key_and_status, letter
from dispatcher.groups import Part, Replies
from dispatcher.simulate.virtual import VirtualLoop
from ingest.codecs.notice import ImageAddress, NewImage
from ingest.sources.group import MemoryBroker
from ingest.sources.memory import MemorySource
from sinks.deadletters.memory import MemoryDeadLetters
from sinks.memory import MemorySink
from workers.wire import Verdict, VerdictKind

EVENTS = 2500
SETTINGS = settings_of(items=EVENTS, fetch=32, batch=1, rows=50, commit_s=0.5, revoke_s=1.0)


class Answers:
    """Answers some, in any order; the others wait for ever."""

    def __init__(self, draw, share):
        self.draw, self.share, self.answered, self.waiting = draw, share, [], []

    slots = 10_000

    async def ask(self, questions, ranks, deadline_s, *, careful=False):
        (key,) = [each.key for each in questions]
        if self.draw.random() >= self.share:
            self.waiting.append(key)
            await asyncio.Event().wait()
        await asyncio.sleep(self.draw.uniform(0, 5))
        self.answered.append(key)
        said = {key: Verdict(key, VerdictKind.ESTIMATED, ESTIMATE)}
        return Replies(said, [Part(questions, BILL)])


def bodies():
    stamps = (ImageAddress(url=f"sky://ok/{n}") for n in range(EVENTS))
    made = [
        NewImage(id=n, survey="S", ra=1.0, dec=1.0, stamp=stamp).to_bytes()
        for n, stamp in enumerate(stamps)
    ]
    return {"0": made[:1500], "1": made[1500:]}


class Kept:
    """What outlives a dispatcher: the sinks, and what the source or the state file keeps."""

    def __init__(self, folder, *, source_keeps):
        draw = random.Random(1)
        self.folder, self.source_keeps = folder, source_keeps
        self.broker = MemoryBroker(bodies())
        self.shelf = Shelf(MemorySink(), key_and_status, draw, lambda: 0.0)
        self.letters = Shelf(MemoryDeadLetters(), letter, draw, lambda: 0.0)
        self.starts = 0

    def dispatcher(self, answers):
        self.starts += 1
        # What the source keeps is enough: a new machine has no state file.
        state = self.folder / f"{self.starts if self.source_keeps else 'state'}.sqlite"
        source = self.broker.member() if self.source_keeps else MemorySource(bodies())
        stamps = Stamps(lambda: 0.0, {})
        return Dispatcher(state, source, [self.shelf], self.letters, stamps, answers, SETTINGS, 1)


@pytest.mark.parametrize("source_keeps", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_only_what_was_open_is_redone(tmp_path, source_keeps, share):
    async def night():
        kept = Kept(tmp_path, source_keeps=source_keeps)
        killed = Answers(random.Random(2), share)
        one = kept.dispatcher(killed)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(30)
        assert one.lane.totals().in_flight == len(killed.waiting) >= 1000
        one.kill()
        await asyncio.gather(running, return_exceptions=True)
        if source_keeps:
            await kept.broker.expel(one.source)
        again = Answers(random.Random(3), 1.0)
        await kept.dispatcher(again).run()
        assert sorted(again.answered) == sorted(killed.waiting)
        assert len(kept.shelf.held) == EVENTS

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(night())
