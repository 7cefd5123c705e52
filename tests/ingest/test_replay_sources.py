"""Sources that are read again in part: what a span means in them, and that nothing else comes."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer
from kafka_topics import Recorder, bodies, create, fresh, kept, numbered, producing, rest, send
from structlog.testing import capture_logs

from dispatcher.clock import ManualClock
from ingest.errors import SourceError
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources import open_source
from ingest.sources.kafka import KafkaOptions, KafkaSource, TopicArchive
from ingest.sources.memory import MemorySource
from ingest.sources.night import NightArchive
from ingest.sources.rated import RatedSource
from ingest.sources.span import Archive, Range, Span

# Records of 1970 would fall to the broker's retention within a second.
BEGIN = float(int(time.time()) - 3600)


class Keeper(Recorder):
    """Has records of its own, as the state of a replay does."""

    def __init__(self, records=()):
        super().__init__()
        self.records = dict(records)

    def assign(self, partition, committed=None):
        super().assign(partition, committed)
        return self.records.get(partition, 0)


async def send_apart(address, topic, sent):
    """One record in a batch: tansu takes the first of its last batch for a topic's last record."""
    async with producing(address) as producer:
        for each in sent:
            await producer.send_and_wait(topic, each, partition=0)


async def read(source, span, records=()):
    """What comes of a source for a span: bodies, sorted as texts, and the keeper."""
    source.limit(await source.find(span))
    keeper = Keeper(records)
    await source.open(keeper)
    try:
        return sorted(bodies(await rest(source, 3)), key=int), keeper
    finally:
        await source.close()


@pytest.fixture(params=["kafka", "tansu"])
def broker(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def topic(kafka):
    """Twenty records, a second apart, in two partitions."""
    topic = await create(kafka, fresh("again"), 2)
    async with producing(kafka) as producer:
        for number, body in enumerate(numbered(0, 20)):
            await producer.send_and_wait(
                topic, body, partition=number % 2, timestamp_ms=round(1000 * (BEGIN + number))
            )
    return topic


@pytest.fixture
def night(tmp_path):
    """The same in a night archive."""
    path = tmp_path / "night.sqlite"
    with NightArchive(path) as archive:
        for number, body in enumerate(numbered(0, 20)):
            archive.add(str(number % 2), body, BEGIN + number)
    return path


@pytest.fixture(params=["topic", "night"])
def new_archive(request):
    where = request.getfixturevalue(request.param)
    if request.param == "night":
        return lambda: open_source(str(where))
    address = request.getfixturevalue("kafka")
    return lambda: TopicArchive(address, where, "live")


@pytest.mark.parametrize(
    ("span", "wanted"),
    [
        (Span(), range(20)),
        (Span(BEGIN + 5, BEGIN + 11), range(5, 11)),
        (Span(None, BEGIN + 3.5), range(4)),
        (Span(BEGIN + 17, None), range(17, 20)),
        (Span(BEGIN + 60, None), range(0)),
        (Span(None, 10.0), range(0)),
        (Span(offsets={"1": Range(2, 5)}), range(5, 11, 2)),
        (Span(offsets={"0": Range(8, 2**63 - 1), "1": Range(0, 1)}), (1, 16, 18)),
    ],
)
async def test_a_span_gives_its_events_and_no_others(new_archive, span, wanted):
    found, _ = await read(new_archive(), span)
    assert found == [b"%d" % number for number in wanted]


async def test_it_goes_on_where_the_keeper_is(new_archive):
    source = new_archive()
    partitions = sorted(await source.find(Span()))
    found, keeper = await read(
        source, Span(BEGIN + 4, BEGIN + 12), {partitions[0]: 4, partitions[1]: 9}
    )
    assert found == [b"8", b"10"]
    assert [committed for _, committed in keeper.assigned] == [None, None]


async def test_a_partition_that_is_not_there_is_an_error_of_one_line(new_archive):
    with pytest.raises(SourceError, match='no partition "7"') as caught:
        await new_archive().find(Span(offsets={"7": Range(0, 1)}))
    assert "\n" not in str(caught.value)


async def test_a_partition_may_be_named_in_full(kafka, topic):
    other = await create(kafka, fresh("again"), 1)
    await send(kafka, other, numbered(90, 92))
    source = TopicArchive(kafka, f"{topic},{other}", "live")
    with pytest.raises(SourceError, match="more than one"):
        await source.find(Span(offsets={"0": Range(0, 1)}))
    assert (await read(source, Span(offsets={f"{other}:0": Range(1, 2)})))[0] == [b"91"]


async def test_what_came_later_is_no_part_of_it(broker):
    topic = await create(broker, fresh("again"))
    await send_apart(broker, topic, numbered(0, 5))
    source = TopicArchive(broker, topic, "live")
    source.limit(await source.find(Span()))
    await send_apart(broker, topic, numbered(5, 9))
    await source.open(Keeper())
    try:
        assert bodies(await rest(source)) == numbered(0, 5)
    finally:
        await source.close()


async def test_offsets_are_read_of_any_broker(broker):
    topic = await create(broker, fresh("again"))
    await send_apart(broker, topic, numbered(0, 9))
    found, _ = await read(TopicArchive(broker, topic, "live"), Span(offsets={"0": Range(3, 6)}), {})
    assert found == numbered(3, 6)


async def test_the_group_of_the_live_lane_is_not_moved(kafka, topic):
    group = fresh("live")
    live = KafkaSource(kafka, topic, KafkaOptions(group=group))
    await live.open(Recorder())
    try:
        async with asyncio.timeout(15):
            while not await live.take(4):
                pass
        await live.commit({Partition(topic, "0"): Progress(1)})
        found, keeper = await read(TopicArchive(kafka, topic, group), Span())
        assert len(found) == 20
        assert [committed for _, committed in keeper.assigned] == [None, None]
    finally:
        await live.close()
    assert (await kept(kafka, group, topic)).offset == 1


async def test_offsets_that_are_gone_are_passed_over(kafka, topic):
    """A topic that was made anew is shorter than what was found of it: the replay still ends."""
    source = TopicArchive(kafka, topic, "live")
    source.limit({Partition(topic, "0"): Range(8, 500)})
    await source.open(Keeper())
    try:
        assert bodies(await rest(source)) == [b"16", b"18"]
    finally:
        await source.close()


@pytest.fixture
async def shortened(kafka):
    """A topic whose first five records fell to retention, and three that came later."""
    topic = await create(kafka, fresh("short"))
    await send(kafka, topic, numbered(0, 5), timestamp_ms=1000)
    archive, key = TopicArchive(kafka, topic, "live"), Partition(topic, "0")
    async with asyncio.timeout(15):
        while (await archive.find(Span()))[key].first < 5:
            await asyncio.sleep(0.1)
    await send(kafka, topic, numbered(5, 8))
    return topic


async def test_what_retention_took_before_it_was_read_is_said(kafka, shortened):
    source = TopicArchive(kafka, shortened, "live")
    source.limit({Partition(shortened, "0"): Range(1, 7)})
    with capture_logs() as logs:
        await source.open(Keeper())
        try:
            assert bodies(await rest(source)) == [b"5", b"6"]
        finally:
            await source.close()
    assert [each["lost"] for each in logs] == [4]


async def test_what_retention_takes_meanwhile_is_said(kafka, shortened, monkeypatch):
    source = TopicArchive(kafka, shortened, "live")
    source.limit({Partition(shortened, "0"): Range(1, 7)})
    ask = AIOKafkaConsumer.beginning_offsets

    async def before_it_happened(consumer, keys):
        monkeypatch.setattr(AIOKafkaConsumer, "beginning_offsets", ask)
        return dict.fromkeys(keys, 0)

    monkeypatch.setattr(AIOKafkaConsumer, "beginning_offsets", before_it_happened)
    with capture_logs() as logs:
        await source.open(Keeper())
        try:
            assert bodies(await rest(source)) == [b"5", b"6"]
        finally:
            await source.close()
    assert [each["lost"] for each in logs] == [4]


async def test_files_have_offsets_and_no_times(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(numbered(0, 6)))
    (tmp_path / "b.json").write_bytes(b"10")
    source = open_source(str(tmp_path))
    with pytest.raises(SourceError, match="leave the times away") as caught:
        await source.find(Span(from_time=0.0))
    assert "\n" not in str(caught.value)
    assert (await read(source, Span()))[0] == [*numbered(0, 6), b"10"]
    span = Span(offsets={"a.jsonl": Range(2, 4)})
    assert (await read(open_source(str(tmp_path)), span))[0] == numbered(2, 4)


async def test_a_file_that_came_later_is_no_part_of_it(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"1\n2")
    ranges = await open_source(str(tmp_path)).find(Span())
    (tmp_path / "a.jsonl").write_bytes(b"1\n2\n3")
    (tmp_path / "b.json").write_bytes(b"4")
    later = open_source(str(tmp_path))
    later.limit(ranges)
    await later.open(Keeper())
    assert bodies(await rest(later)) == [b"1", b"2"]


def test_what_keeps_its_events_is_an_archive(tmp_path):
    (tmp_path / "a.json").write_bytes(b"1")
    assert isinstance(open_source(str(tmp_path)), Archive)
    assert not isinstance(MemorySource({"0": []}), Archive)


async def test_a_rated_source_gives_no_more_than_its_rate():
    clock = ManualClock(100.0)
    source = RatedSource(MemorySource({"0": numbered(0, 400)}), 20.0, clock.monotonic)
    await source.open(Keeper())
    taken = [len(await source.take(100))]
    for _ in range(100):
        clock.advance(0.05)
        taken.append(len(await source.take(100)))
    assert taken[0] == 0
    assert sum(taken) == pytest.approx(100, abs=1), "five seconds at twenty a second"
    clock.advance(3600)
    assert len(await source.take(100)) == 20, "what was not taken is made up for a second only"


async def test_less_than_one_a_second_is_a_rate():
    clock = ManualClock()
    source = RatedSource(MemorySource({"0": numbered(0, 9)}), 0.1, clock.monotonic)
    await source.open(Keeper())
    counts = []
    for _ in range(40):
        clock.advance(1.0)
        counts.append(len(await source.take(5)))
    assert sum(counts) in (3, 4)
