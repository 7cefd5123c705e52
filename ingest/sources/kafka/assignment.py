"""Which partitions are ours, and from where each is read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources import Keeper
from ingest.sources.kafka import doors, metadata
from ingest.sources.kafka.options import KafkaOptions, Start
from ingest.sources.kafka.reading import Reading

_log = structlog.get_logger()


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The partitions that the group gave us.

    aiokafka's protocol is the eager one: a rebalance takes all partitions and gives some back.
    Its listeners only note what happened. Finding where a partition begins asks the broker, and
    no heartbeat runs while a listener does: `begin` does it, from `take`. Until then a partition
    is `fresh`, and is not read.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, keeper: Keeper, options: KafkaOptions, known: set[str]
    ) -> None:
        """`known`: the topics that were there at the beginning; one that comes later is new."""
        self.readings: dict[TopicPartition, Reading] = {}
        self.fresh: frozenset[TopicPartition] = frozenset()
        self.moving = True
        self.failure: Exception | None = None
        self.lost_to_retention = 0
        self._consumer = consumer
        self._keeper = keeper
        self._options = options
        self._start = Start.parse(options.start)
        self._known = known
        self._ends: dict[TopicPartition, int] = {}
        self._refused: dict[TopicPartition, int] = {}

    @property
    def steady(self) -> bool:
        """Whether there is something to read, and no rebalance under way.

        Between a change of the subscription and the listener's call, aiokafka has no assignment.
        """
        return bool(self.readings) and not self.moving and bool(self._consumer.assignment())

    @property
    def finished(self) -> bool:
        """Whether all that is ours was read to its end."""
        return (
            not self.moving
            and self.readings.keys() == self._consumer.assignment()
            and all(each.finished for each in self.readings.values())
        )

    def owned(self, partition: Partition) -> TopicPartition | None:
        """Its name in aiokafka, if it is ours."""
        key = TopicPartition(partition.source, int(partition.name))
        return key if key in self.readings else None

    async def on_partitions_revoked(self, _revoked: Collection[TopicPartition]) -> None:
        """The group takes back everything: the keeper finishes what it can, and commits."""
        self.moving, self.fresh = True, frozenset()
        try:
            if ours := [each.partition for each in self.readings.values()]:
                await self._let_go(ours)
        except Exception as error:  # noqa: BLE001 - aiokafka logs it and goes on; `take` raises it
            self.failure = error
        finally:
            self.readings.clear()

    async def _let_go(self, partitions: Collection[Partition]) -> None:
        try:
            async with asyncio.timeout(self._options.revoke_s):
                await self._keeper.revoke(partitions)
        except TimeoutError:
            _log.warning(
                "a rebalance did not wait for what is in flight", partitions=len(partitions)
            )
            self._keeper.lose(partitions)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """The group gave us these, and nothing else."""
        self.moving, self.fresh = False, frozenset(assigned)

    def lose(self, partitions: Iterable[TopicPartition]) -> None:
        """They belong to somebody else by now."""
        gone = [self.readings.pop(each).partition for each in partitions if each in self.readings]
        if gone:
            self._keeper.lose(gone)

    def begin_again(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The broker refused to read from these offsets: see anew where the partitions begin."""
        ours = offsets.keys() & self.readings.keys()
        self.lose(ours)
        self.fresh |= ours
        self._refused.update((each, offsets[each]) for each in ours)

    async def begin(self) -> None:
        """Find where the fresh partitions begin, tell the keeper, and read them from there.

        Raises:
            KafkaError: the broker does not say; they stay fresh.
        """
        fresh = self.fresh
        highs = await self._consumer.end_offsets(fresh)
        committed = await self._committed(fresh, highs)
        if fresh is not self.fresh or not fresh <= self._consumer.assignment():
            return  # a rebalance came in between: what is ours now begins with the next call
        for each, progress in committed.items():
            self._read(each, progress, highs[each])
        self.fresh = frozenset()

    def _read(self, key: TopicPartition, committed: Progress, high: int) -> None:
        partition = Partition(key.topic, str(key.partition))
        self._refused.pop(key, None)
        first = self._keeper.assign(partition, committed)
        end = self._ends.setdefault(key, high) if self._options.until_end else None
        self._consumer.seek(key, first)
        self.readings[key] = Reading(partition, first, first, high, end, first)

    async def _committed(
        self, fresh: Collection[TopicPartition], highs: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, Progress]:
        lows = await self._consumer.beginning_offsets(fresh)
        kept = {each: Progress(self._refused[each]) for each in fresh if each in self._refused}
        found = await doors.committed(self._consumer, fresh)
        kept |= {each: metadata.decode(*commit) for each, commit in found.items()}
        progress = {each: self._within(each, kept[each], lows[each]) for each in kept}
        new = [each for each in fresh if each not in kept]
        starts = {
            each: min(max(offset, lows[each]), highs[each])
            for each, offset in (await self._starts(new, lows, highs)).items()
        }
        if starts and self._start.kind != "earliest":
            # "latest" is another place tomorrow: a crash before the first commit would skip events.
            await doors.commit(
                self._consumer,
                {each: OffsetAndMetadata(offset, "") for each, offset in starts.items()},
            )
        return progress | {each: Progress(offset) for each, offset in starts.items()}

    async def _starts(
        self,
        new: Collection[TopicPartition],
        lows: Mapping[TopicPartition, int],
        highs: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        """Where those begin of which the group has no commit."""
        match self._start.kind:
            case "latest":
                # All of a topic that came after us is new, even what was sent before we saw it.
                return {each: (highs if each.topic in self._known else lows)[each] for each in new}
            case "offset":
                return dict.fromkeys(new, self._start.at)
            case "time" if new:
                found = await self._consumer.offsets_for_times(dict.fromkeys(new, self._start.at))
                return {each: found[each].offset if found[each] else highs[each] for each in new}
        return {each: lows[each] for each in new}

    def _within(self, key: TopicPartition, kept: Progress, low: int) -> Progress:
        """What was committed, unless the partition does not hold that any more.

        That it ends before is only believed of a fetch: a partition's end as it is told may be that
        of the last transaction, and the commit beyond.
        """
        where = {"topic": key.topic, "partition": key.partition, "committed": kept.watermark}
        if kept.watermark < low:
            lost = low - kept.watermark
            self.lost_to_retention += lost
            _log.warning("retention took events before they were read", lost=lost, **where)
            return replace(kept, watermark=low, gaps="")  # gaps count from the watermark
        if key in self._refused:
            _log.warning("a partition was made anew: read from its beginning", begin=low, **where)
            return Progress(low)
        return kept
