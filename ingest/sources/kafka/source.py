"""The Kafka source: a member of a consumer group."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    KafkaError,
    OffsetMetadataTooLargeError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata

from ingest.errors import SourceError, SourceUnavailable
from ingest.events import Delivery, Partition
from ingest.progress import Progress
from ingest.sources import Keeper
from ingest.sources.kafka import doors, metadata
from ingest.sources.kafka.assignment import Assignment
from ingest.sources.kafka.connecting import connect
from ingest.sources.kafka.contact import Contact, described, refused
from ingest.sources.kafka.options import KafkaOptions, Start
from ingest.sources.kafka.reading import Lag
from ingest.sources.kafka.topics import Topics

_log = structlog.get_logger()

_DEFAULTS: Final = KafkaOptions()
_NAPS: Final = 10
_NAP_S: Final = 0.02  # at most, for an event that may come
_YIELD_S: Final = 0.005
_BEGIN_S: Final = 5.0
_ATTEND_S: Final = 1.0
_NOBODY: Final = TopicPartition("", 0)


class KafkaSource:
    """Topics of a Kafka cluster, read as a member of a consumer group.

    `topics`: names with commas, topics of the night ("ztf_%Y%m%d_programid1"), or one regular
    expression that begins with ^. Topics that do not exist yet are read when they appear.
    `client`: further arguments for aiokafka, such as those of TLS and SASL.

    There is no buffer of our own. `take` asks aiokafka for what it has fetched, without waiting,
    and naps where that is nothing: such a call is never suspended, so there is none to cancel
    (which would break aiokafka's count of who is polling), none that hangs for the length of a
    rebalance, and no record that is fetched and not delivered. A partition that is held, and all
    of them while nobody takes, are simply not asked for: aiokafka keeps what it fetched of them,
    at most one fetch, and fetches no more. (What it has of a paused partition it throws away.)
    One task of the source polls for nobody once a second, so that the group never takes a
    dispatcher without room for a dead one, and moves on to the topic of the next night.
    """

    ordered = True

    def __init__(
        self,
        servers: str,
        topics: str,
        options: KafkaOptions = _DEFAULTS,
        client: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`servers`: host:port, several with commas. `clock`: unix seconds.

        Raises:
            SourceError: topics or start are not what they should be.
        """
        Start.parse(options.start)
        self.name = f"kafka:{topics}"
        self._servers = servers
        self._topics = Topics.parse(topics)
        self._options = options
        self._client = dict(client or {})
        self._clock = clock
        self._contact = Contact(servers)
        self._answered = 0
        self._ran_others = 0.0
        self._held: frozenset[Partition] = frozenset()
        self._subscribed: frozenset[str] = frozenset()
        self._room = metadata.MAX_BYTES
        self._failure: SourceError | None = None
        self._closing = asyncio.Event()
        self._consumer: AIOKafkaConsumer | None = None
        self._assignment: Assignment | None = None
        self._attendant: asyncio.Task[None] | None = None

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`. The group assigns partitions some seconds later.

        Raises:
            SourceUnavailable: no broker has answered for `open_s`.
            SourceError: none lets us in.
        """
        try:
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._servers, **{**self._options.arguments(), **self._client}
            )
        except ValueError as error:
            raise SourceError(f"{self.name}: {error}; mend the settings of Kafka") from error
        try:
            known = await self._connect(self._consumer)
        except BaseException:
            await self.close()
            raise
        self._assignment = Assignment(self._consumer, keeper, self._options, known)
        self._subscribe(self._consumer, self._assignment)
        self._attendant = asyncio.create_task(self._attend())

    async def _connect(self, consumer: AIOKafkaConsumer) -> set[str]:
        """Get to know the cluster. Returns its topics.

        The subscription comes later: with one, aiokafka starts no consumer before its topics exist.
        """
        known = await connect(consumer, self._servers, self._client, self._options.open_s)
        now, grace_h = self._clock(), self._options.rollover_grace_h
        if not self._topics.among(known, now, grace_h):
            if self._options.until_end:
                raise SourceError(f"{self.name}: there is no such topic at {self._servers}")
            _log.warning("no such topic yet: it is read when it appears", source=self.name)
        return known

    def _subscribe(self, consumer: AIOKafkaConsumer, assignment: Assignment) -> None:
        if self._topics.pattern:
            consumer.subscribe(pattern=self._topics.pattern, listener=assignment)
        else:
            self._subscribed = self._topics.on(self._clock(), self._options.rollover_grace_h)
            consumer.subscribe(topics=list(self._subscribed), listener=assignment)

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`. Waits for up to 0.2 s, and longer where partitions were assigned.

        Raises:
            SourceError: the broker refuses us, or the consumer has failed for a minute.
        """
        consumer, assignment = self._parts()
        await self._let_others_run()
        for _ in range(_NAPS):
            self._raise_failures(assignment)
            if assignment.fresh and not await self._begin(assignment):
                return []
            deliveries = await self._poll(consumer, assignment, limit)
            if deliveries or self.exhausted or self._closing.is_set():
                return deliveries
            await self._nap(consumer)
        return []

    async def _let_others_run(self) -> None:
        """Let aiokafka fetch and heartbeat, however fast events are taken.

        Not at each call: it would ask for each partition by itself as soon as that is read, in
        many small fetches, and have only one under way at a time.
        """
        now = time.monotonic()
        if now - self._ran_others > _YIELD_S:
            self._ran_others = now
            await asyncio.sleep(0)

    async def _nap(self, consumer: AIOKafkaConsumer) -> None:
        """Wait for what the broker sends next. No record is read, so nothing is lost by waking."""
        try:
            await doors.arrival(consumer, _NAP_S)
        except KafkaError as error:
            self._failure = self._failure or self._contact.failure(error)

    def _parts(self) -> tuple[AIOKafkaConsumer, Assignment]:
        if self._consumer is None or self._assignment is None:
            raise SourceError(f"{self.name} is not open")
        return self._consumer, self._assignment

    def _raise_failures(self, assignment: Assignment) -> None:
        """What failed where nobody would have heard of it."""
        if self._attendant and self._attendant.done() and not self._closing.is_set():
            self._attendant.result()
        failure = self._failure or assignment.failure
        if failure:
            self._failure = assignment.failure = None
            raise failure

    async def _begin(self, assignment: Assignment) -> bool:
        """Whether it is known where the new partitions begin. Else it is asked again next time."""
        try:
            async with asyncio.timeout(_BEGIN_S):
                await assignment.begin()
        except (KafkaError, TimeoutError) as error:
            self._failure = self._failure or refused(error, self._servers)
            self._contact.silence()
            return False
        return True

    async def _poll(
        self, consumer: AIOKafkaConsumer, assignment: Assignment, limit: int
    ) -> list[Delivery]:
        wanted = self._wanted(assignment) if assignment.steady else []
        if not wanted:
            return []
        # No names mean all: with many partitions that is much faster than all their names.
        asked = () if len(wanted) == len(consumer.assignment()) else wanted
        try:
            fetched = await consumer.getmany(*asked, max_records=limit)
            if not fetched:
                await self._look(consumer, assignment, wanted)
        except OffsetOutOfRangeError as error:
            assignment.begin_again(error.args[0])
            return []
        except KafkaError as error:
            self._failure = self._failure or self._contact.failure(error)
            return []
        if fetched:
            self._contact.sign()
        now = self._clock()
        deliveries: list[Delivery] = []
        for each, records in fetched.items():
            deliveries += assignment.readings[each].deliveries(records, now)
        return deliveries

    def _wanted(self, assignment: Assignment) -> list[TopicPartition]:
        """What is not held.

        Also what is finished, whose records `deliveries` leaves out: while aiokafka has some of
        them, it waits for 0.1 s before it fetches more of the others.
        """
        readings = assignment.readings.items()
        return [key for key, each in readings if each.partition not in self._held]

    async def _look(
        self, consumer: AIOKafkaConsumer, assignment: Assignment, asked: list[TopicPartition]
    ) -> None:
        """Nothing came: see whether the broker said so, and what was passed over unseen.

        A position moves beyond the last record over markers of transactions and what was compacted.
        """
        for each in asked:
            reading = assignment.readings[each]
            reading.position = await consumer.position(each)
            reading.hear(consumer.highwater(each))
        answered = max(consumer.last_poll_timestamp(each) or 0 for each in asked)
        if answered != self._answered:
            self._contact.sign()
        else:
            self._contact.silence()
        self._answered = answered

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`."""
        self._held = frozenset(partitions)

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`. What turns out to be somebody else's is lost, not an error.

        Raises:
            SourceError: this group or topic is not ours to commit to.
        """
        consumer, assignment = self._parts()
        offsets = {
            key: OffsetAndMetadata(each.watermark, self._metadata(each))
            for partition, each in progress.items()
            if (key := assignment.owned(partition))
        }
        if not offsets:
            return
        try:
            async with asyncio.timeout(self._options.commit_s):
                await doors.commit(consumer, offsets)
        except CommitFailedError as error:
            reason = described(error.__cause__ or error)
            _log.warning("partitions went to another member before a commit", error=reason)
            assignment.lose(offsets)
        except TimeoutError as error:
            raise SourceUnavailable(f"{self.name}: the broker does not take a commit") from error
        except KafkaError as error:
            if isinstance(error, OffsetMetadataTooLargeError):
                self._room = 0  # the broker keeps less than others do: the offset alone
            raise refused(error, self._servers) or SourceUnavailable(
                f"{self.name}: the broker does not take a commit ({described(error)})"
            ) from error
        else:
            for key in offsets.keys() & assignment.readings.keys():
                assignment.readings[key].committed = offsets[key].offset

    @property
    def group(self) -> str:
        """The consumer group."""
        return self._options.group

    def offsets(
        self, progress: Mapping[Partition, Progress]
    ) -> dict[tuple[str, int], tuple[int, str]]:
        """What a commit of `progress` consists of, for those who commit it in a transaction."""
        _, assignment = self._parts()
        return {
            tuple(key): (each.watermark, self._metadata(each))
            for partition, each in progress.items()
            if (key := assignment.owned(partition))
        }

    def _metadata(self, progress: Progress) -> str:
        text = metadata.encode(progress, self._room)
        if progress.gaps and not text.endswith(progress.gaps):
            _log.warning("a commit has no room for its gaps: a restart would redo more")
        return text

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`: with `until_end`, what is assigned was read to its end."""
        return (
            self._options.until_end and self._assignment is not None and self._assignment.finished
        )

    @property
    def assigned(self) -> frozenset[Partition]:
        """The partitions that are ours and are read."""
        readings = self._assignment.readings if self._assignment else {}
        return frozenset(each.partition for each in readings.values())

    @property
    def lost_to_retention(self) -> int:
        """Offsets that the broker deleted before they were read, since the source was opened."""
        return self._assignment.lost_to_retention if self._assignment else 0

    def lag(self) -> dict[Partition, Lag]:
        """How far each partition that is read is behind, by what the last fetch said."""
        self._hear()
        now = self._clock()
        readings = self._assignment.readings if self._assignment else {}
        return {each.partition: each.lag(now) for each in readings.values()}

    def _hear(self) -> None:
        if self._consumer and self._assignment and self._assignment.steady:
            for key, each in self._assignment.readings.items():
                each.hear(self._consumer.highwater(key))

    async def _attend(self) -> None:
        """Once a second: poll for nobody, and see whether a night is over.

        During a rebalance the poll lasts as long as it does, and counts as polling, too.
        """
        consumer, assignment = self._parts()
        while not self._closing.is_set():
            try:
                await consumer.getmany(_NOBODY)
            except KafkaError as error:
                self._failure = self._failure or self._contact.failure(error)
            self._roll_over(consumer, assignment)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _ATTEND_S)

    def _roll_over(self, consumer: AIOKafkaConsumer, assignment: Assignment) -> None:
        """At midnight the topic of the new night joins; the old one leaves when it is settled."""
        if self._topics.pattern or self._options.until_end or assignment.moving or assignment.fresh:
            return
        self._hear()
        busy = {key.topic for key, each in assignment.readings.items() if each.busy}
        wanted = self._topics.on(self._clock(), self._options.rollover_grace_h)
        topics = wanted | (self._subscribed & busy)
        if topics != self._subscribed:
            _log.info("the topics of the night have changed", topics=sorted(topics))
            self._subscribed = topics
            consumer.subscribe(topics=list(topics), listener=assignment)

    async def close(self) -> None:
        """See `Source.close`. Leaves the group; a broker that is gone is not waited for."""
        self._closing.set()
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            async with asyncio.timeout(self._options.leave_s):
                await consumer.stop()
        except asyncio.CancelledError as error:
            # aiokafka awaits fetches that it has cancelled, and passes that on as if it were ours.
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            await self._abandon(consumer, error)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._abandon(consumer, error)
        if self._attendant:
            self._attendant.cancel()  # a poll that waits for a rebalance would wait for ever
            await asyncio.gather(self._attendant, return_exceptions=True)

    @staticmethod
    async def _abandon(consumer: AIOKafkaConsumer, error: BaseException) -> None:
        _log.warning("the Kafka broker was not told that we leave", error=described(error))
        await doors.abandon(consumer)
