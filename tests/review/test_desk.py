"""The desk: what is held is settled, what is decided is published, whatever fails in between."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
from held import decision, estimate, held, key
from rows import record

from dispatcher.books import Outcome
from dispatcher.breaker import Breaker
from dispatcher.clock import ManualClock
from dispatcher.conclusions import Conclusion
from dispatcher.custody import Custody
from dispatcher.destinations import results_outlet
from dispatcher.errors import LaneStopped, SettingsError
from dispatcher.outlet import Outlet
from dispatcher.review.desk import Desk
from dispatcher.review.memory import MemoryReview
from dispatcher.settings import Settings
from dispatcher.transactions import bind
from dispatcher.writer import Writer
from sinks.errors import SinkRefused, SinkUnavailable
from sinks.memory import MemorySink
from sinks.record import Review


class Ailing(MemoryReview):
    """Fails with `trouble` as long as there is any."""

    def __init__(self, *trouble):
        super().__init__()
        self.trouble = list(trouble)

    async def counts(self):
        if self.trouble:
            raise self.trouble.pop(0)
        return await super().counts()


async def nowhere(conclusions):
    raise AssertionError(conclusions)


def desk_of(store, *sinks, policy="hold", clock=None):
    clock = clock or ManualClock(1000.0)
    outlets = [results_outlet(each, clock, Settings()) for each in sinks]
    writer = Writer(outlets, Outlet("dead", nowhere, Breaker(clock), 10))
    return Desk(store, policy, clock, writer, 10)


@asynccontextmanager
async def running(desk):
    """Its writer, as a pipeline runs it; gives what is settled."""
    settled = []
    tasks = [asyncio.create_task(desk.writer.run(settled.extend)), asyncio.create_task(desk.run())]
    try:
        await asyncio.sleep(0)
        yield settled
    finally:
        for each in tasks:
            each.cancel()
        for each in tasks:
            with suppress(asyncio.CancelledError):
                await each


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def conclusion(row):
    return Conclusion(None, Outcome.WRITTEN, row)


async def test_what_waits_is_settled_when_the_store_has_it_and_goes_to_no_sink():
    store, sink = MemoryReview(), MemorySink()
    desk = desk_of(store, sink)
    async with running(desk) as settled:
        for row in (estimate(1), record(2)):
            desk.writer.put(conclusion(row))
        await until(lambda: len(settled) == 2)
        assert list(sink.records) == [key(2)]
        assert (await store.find(key(1))).t_held == 1000.0
        assert (await desk.counts())["waiting"] == desk.waiting == 1


async def test_a_store_that_does_not_take_it_leaves_it_unsettled():
    store, full = MemoryReview(), asyncio.Event()

    async def hold(rows):
        await full.wait()
        await MemoryReview.hold(store, rows)

    store.hold = hold
    desk = desk_of(store, MemorySink())
    async with running(desk) as settled:
        desk.writer.put(conclusion(estimate(1)))
        await asyncio.sleep(0.01)
        assert (settled, desk.writer.waiting) == ([], 1)
        full.set()
        await until(lambda: settled)


async def test_what_is_decided_is_in_every_sink_before_it_counts_as_published():
    opened = asyncio.Event()

    async def wait(_):
        await opened.wait()

    store, quick, slow = MemoryReview(), MemorySink("quick"), MemorySink("slow", wait)
    desk = desk_of(store, quick, slow)
    told = []
    desk.listeners.append(told.append)
    await store.hold([held(1), held(2), held(3)])
    async with running(desk) as settled:
        said = await desk.decide(key(1), "approve", "ann", "fine")
        assert said == f"{key(1)} is approved: it is published within 1 s."
        await desk.decide(key(2), "reject", "bob", "a  star\n")
        await until(lambda: len(quick.records) == 2)
        assert desk.writer.waiting == 0, "no errand waits for them"
        assert (await store.find(key(1))).t_published is None
        opened.set()
        await until(lambda: store._held[key(2)].t_published)
        assert settled == []
    assert slow.records == quick.records
    assert quick.records[key(1)].review_note == "fine"
    assert quick.records[key(1)].t_published == 1000.0
    assert quick.records[key(2)].reason == "rejected by bob: a star"
    assert sorted(each.result_id for each in told) == [key(1), key(2)]
    assert await desk.counts() == {"policy": "hold", "waiting": 1, "approved": 1, "rejected": 1}


async def test_a_crash_before_the_note_writes_the_same_row_a_second_time():
    class Mortal(MemoryReview):
        async def published(self, result_ids, now):
            raise OSError("killed")

    store, sink = Mortal(), MemorySink()
    await store.hold([held(1)])
    await store.decide(key(1), decision())
    with pytest.raises(ExceptionGroup):
        await desk_of(store, sink).run_alone()
    first = dict(sink.records)
    assert list(first) == [key(1)]

    store.published = lambda *given: MemoryReview.published(store, *given)
    again = desk_of(store, sink)
    async with running(again):
        await until(lambda: store._held[key(1)].t_published)
    assert sink.records == first
    assert not await again.look()


async def test_what_is_decided_at_the_last_moment_is_published_before_the_end():
    store, sink = MemoryReview(), MemorySink()
    desk = desk_of(store, sink)
    await store.hold([held(n) for n in range(1200)])
    async with running(desk):
        for n in range(1200):
            await store.decide(key(n), decision())
        await desk.finish()
    assert len(sink.records) == 1200
    assert await store.due(10) == []


async def test_the_end_waits_for_no_sink_that_is_away(monkeypatch):
    async def away(_):
        raise SinkUnavailable("away")

    monkeypatch.setattr("dispatcher.review.desk._LAST_S", 0.05)
    store = MemoryReview()
    desk = desk_of(store, MemorySink("away", away))
    await store.hold([held(1)])
    await store.decide(key(1), decision())
    async with running(desk):
        await desk.finish()
    assert [each.record.result_id for each in await store.due(10)] == [key(1)]


async def test_where_no_lane_runs_the_desk_may_run_alone():
    store, sink = MemoryReview(), MemorySink()
    desk = desk_of(store, sink)
    await store.hold([held(1)])
    said = await desk.decide(key(1), "approve", "ann", "")
    assert said.endswith("by the next run of this folder.")
    alone = asyncio.create_task(desk.run_alone())
    await until(lambda: store._held[key(1)].t_published)
    alone.cancel()
    assert list(sink.records) == [key(1)]


async def test_a_store_that_is_away_is_told_once_and_asked_again():
    lines = []
    before = structlog.get_config()
    structlog.configure(processors=[lambda _, __, event: lines.append(event) or "kept"])
    try:
        store = Ailing(SinkUnavailable("locked"), SinkUnavailable("locked"))
        desk = desk_of(store, MemorySink())
        for _ in range(4):
            await desk.look()
    finally:
        structlog.configure(**before)
    begun, ended = lines
    assert (begun["incident"], begun["subject"]) == ("sink_down", "review in memory")
    assert (ended["ended"], ended["subject"]) == ("sink_down", "review in memory")


async def test_a_store_that_refuses_stops_the_lane():
    desk = desk_of(Ailing(SinkRefused("make room")), MemorySink())
    with pytest.raises(LaneStopped, match="make room"):
        await desk.run()


async def test_the_page_asks_for_lists_and_for_one():
    store = MemoryReview()
    desk = desk_of(store, MemorySink())
    await store.hold([held(1, pz=None), held(2)])
    await desk.decide(key(1), "annotate", "ann", "blended?")
    found = await desk.listing("waiting", 0, 1)
    assert found["total"] == 2
    (item,) = found["items"]
    assert item["row"].pop("z_median") == pytest.approx(0.100001)
    assert item["row"]["review"] == "waiting"
    del item["row"]
    assert item == {
        "result_id": key(1),
        "rules": ["out_of_domain"],
        "state": "waiting",
        "note": "blended?",
        "by": "ann",
        "t_held": 101.0,
        "t_decided": None,
        "t_published": None,
    }
    whole = await desk.whole(key(1))
    assert whole["record"]["review_note"] == "blended?"
    assert whole["stamp"] == {}
    assert await desk.whole(key(9)) is None


@pytest.mark.parametrize(
    ("decision", "by", "note", "says"),
    [
        ("publish", "ann", "", "is no decision: it is one of approve, reject, annotate"),
        ("approve", " ", "", "say who decides"),
        ("annotate", "ann", " \n", "say what is to be noted"),
        ("approve", "a" * 101, "", "by: at most 100"),
        ("reject", "ann", "n" * 1001, "note: at most 1000"),
        ("reject", "ann", "\x1b[2J", "printable"),
        ("approve", "ann", "", "no estimate"),
    ],
)
async def test_what_cannot_be_decided_is_one_sentence(decision, by, note, says):
    with pytest.raises(SettingsError, match=says):
        await desk_of(MemoryReview(), MemorySink()).decide(key(1), decision, by, note)


async def test_what_cannot_be_read_now_is_one_sentence():
    class Away(MemoryReview):
        async def listing(self, *_):
            raise SinkUnavailable("locked by another process")

    desk = desk_of(Away(), MemorySink())
    with pytest.raises(SettingsError, match="locked by another process"):
        await desk.listing("waiting", 0, 10)
    with pytest.raises(SettingsError, match="is no state"):
        await desk.listing("marked", 0, 10)


async def test_without_a_policy_that_holds_nothing_is_held_and_old_decisions_are_published():
    store, sink = MemoryReview(), MemorySink()
    desk = desk_of(store, sink, policy="mark")
    await store.hold([held(1)])
    await store.decide(key(1), decision())
    async with running(desk) as settled:
        desk.writer.put(conclusion(estimate(2, review=Review.MARKED)))
        await until(lambda: settled and key(1) in sink.records)
    assert sink.records[key(2)].review == "marked"


async def test_a_decided_row_goes_into_a_transaction_without_offsets():
    class Transactional(MemorySink):
        transactional = True

        async def write_with(self, records, offsets, group):
            committed.append((dict(offsets), group))
            await self.write(records)

    class Source:
        group = "g"

        def offsets(self, progress):
            return {("t", 0): (len(progress), "")}

    committed, store, sink = [], MemoryReview(), Transactional()
    desk = desk_of(store, sink)
    bind([(sink, desk.writer.results[0])], Source(), Custody())
    await store.hold([held(1)])
    await store.decide(key(1), decision())
    async with running(desk):
        await until(lambda: store._held[key(1)].t_published)
    assert committed == [({}, "g")]
    assert list(sink.records) == [key(1)]
