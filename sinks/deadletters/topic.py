"""Dead letters in a compacted Kafka topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, ClassVar, Final

import orjson
from aiokafka import AIOKafkaProducer, ConsumerRecord, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from sinks.deadletters.letter import DeadLetter, Place
from sinks.errors import SinkRefused
from sinks.kafka_clients import dismiss, start
from sinks.kafka_errors import explained
from sinks.kafka_topic import TopicReader

_LARGEST_BODY: Final = 16 * 2**20
_REST: Final = 2**20  # bytes for key, headers and framing
_REPLICAS: Final = 3  # of a topic that has to be made, where there are so many brokers

_TOO_LARGE: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_FAILURES: Final = (errors.KafkaError, OSError)  # a TimeoutError is an OSError

_Headers = list[tuple[str, bytes]]


class DeadLetterTopic:
    """Dead letters by key: the last message of a place counts, a null value removes it.

    The key is the place, `["topic","partition","offset"]`. The value is what the survey sent,
    byte for byte, so that any Kafka tool can send it on; all else is in the headers: `reason`,
    `error_class`, and `letter` (JSON of every field but the body).

    A topic that is missing is made, compacted. One that is not compacted is refused: retention
    would delete letters.

    Args:
        servers: host:port, several with commas between.
        client: security settings of aiokafka's clients (`security_protocol`, ...).
        idempotent: False for brokers that know no idempotent producer.
        timeout_s: of one write, and of a scan that gets nothing new.
    """

    guarantee: ClassVar[str] = (
        "A write or removal that returned is acknowledged by all in-sync replicas. A repeated "
        "letter is a further message with the same key: readers keep the last of a key, as "
        "compaction does. One that a crash cut off may be there in part, in whole letters."
    )

    def __init__(
        self,
        servers: str,
        topic: str,
        *,
        client: Mapping[str, Any] | None = None,
        idempotent: bool = True,
        timeout_s: float = 20.0,
    ) -> None:
        self.name = f"kafka://{servers}/{topic}"
        self._topic = topic
        self._client = {**(client or {}), "bootstrap_servers": servers}
        self._reader = TopicReader(servers, topic, client or {}, timeout_s)
        self._idempotent = idempotent
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """See `DeadLetterSink.open`."""
        with self._explaining():
            async with asyncio.timeout(self._timeout_s):
                admin = AIOKafkaAdminClient(**self._client)
                try:
                    await admin.start()
                    await self._make(admin)
                    await self._check(admin)
                finally:
                    await admin.close()

    async def _make(self, admin: AIOKafkaAdminClient) -> None:
        settings = {"cleanup.policy": "compact", "max.message.bytes": str(_LARGEST_BODY + _REST)}
        replicas = min(_REPLICAS, len((await admin.describe_cluster())["brokers"]))
        topic = NewTopic(self._topic, 1, replicas, topic_configs=settings)
        answer = await admin.create_topics([topic])
        error = errors.for_code(answer.topic_errors[0][1])
        # Who may not make topics may still write to one that is there: the first write tells.
        if error not in (
            errors.NoError,
            errors.TopicAlreadyExistsError,
            errors.TopicAuthorizationFailedError,
            errors.ClusterAuthorizationFailedError,
        ):
            raise error(answer.topic_errors[0][2])

    async def _check(self, admin: AIOKafkaAdminClient) -> None:
        asked = ConfigResource(ConfigResourceType.TOPIC, self._topic, {"cleanup.policy": None})
        for answer in await admin.describe_configs([asked]):
            for _, _, _, _, entries in answer.resources:
                policy = {entry[0]: entry[1] for entry in entries}.get("cleanup.policy", "compact")
                if policy != "compact":
                    raise SinkRefused(
                        f"{self.name} has cleanup.policy={policy}, which deletes dead letters by "
                        "age: set it to compact, or give another topic"
                    )

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink.write`."""
        latest = {each.place: each for each in letters}
        await self._send([(each.place, each.body, _headers(each)) for each in latest.values()])

    async def remove(self, places: Collection[Place]) -> None:
        """See `DeadLetterSink.remove`."""
        await self._send([(each, None, []) for each in places])

    async def _send(self, messages: Sequence[tuple[Place, bytes | None, _Headers]]) -> None:
        if not messages:
            return
        async with self._lock:
            try:
                with self._explaining():
                    async with asyncio.timeout(self._timeout_s):
                        await self._deliver(messages)
            except BaseException:
                # What it still holds would be sent behind our back; and an idempotent producer
                # whose broker came back without its memory is out of sequence for ever.
                await self._drop_producer()
                raise

    async def _deliver(self, messages: Sequence[tuple[Place, bytes | None, _Headers]]) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **self._client,
                acks="all",
                enable_idempotence=self._idempotent,
                max_request_size=_LARGEST_BODY + _REST,
                request_timeout_ms=int(self._timeout_s * 500),
            )
            await start(self._producer, self._timeout_s)
        acknowledged = [
            await self._producer.send(self._topic, value, key=place.key(), headers=headers)
            for place, value, headers in messages
        ]
        for outcome in await asyncio.gather(*acknowledged, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer:
            await dismiss(producer)

    async def scan(self) -> AsyncGenerator[DeadLetter, None]:
        """See `DeadLetterSink.scan`.

        The topic is read twice, so that no bodies pile up in memory: once to learn which message
        is the last of its key, once for those.
        """
        with self._explaining():
            last: dict[bytes, tuple[int, int]] = {}
            async with aclosing(self._messages()) as messages:
                async for each in messages:
                    last.pop(each.key, None)
                    if each.value is not None:
                        last[each.key] = each.partition, each.offset
            async with aclosing(self._messages()) as messages:
                async for each in messages:
                    if last.get(each.key) == (each.partition, each.offset):
                        yield self._letter(each)

    async def _messages(self) -> AsyncGenerator[ConsumerRecord, None]:
        async with aclosing(self._reader.read(lambda first, _: first)) as pieces:
            async for piece in pieces:
                for each in piece:
                    yield each

    def _letter(self, message: ConsumerRecord) -> DeadLetter:
        try:
            about = orjson.loads(dict(message.headers)["letter"])
            return DeadLetter.from_json(about, body=message.value)
        except (KeyError, TypeError, ValueError) as error:
            raise SinkRefused(
                f"{self.name} holds at offset {message.offset} of partition {message.partition} "
                f"what is no dead letter ({error!r}): give a topic of its own to dead letters"
            ) from error

    async def close(self) -> None:
        """See `DeadLetterSink.close`."""
        async with self._lock:
            await self._drop_producer()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except _TOO_LARGE as error:
            raise SinkRefused(
                f"{self.name} does not take a dead letter of this size ({error}): raise "
                "max.message.bytes of the topic"
            ) from error
        except _FAILURES as error:
            raise explained(error, self.name) from error


def _headers(letter: DeadLetter) -> _Headers:
    return [
        ("reason", letter.reason.encode()),
        ("error_class", letter.error_class.value.encode()),
        ("letter", orjson.dumps(letter.about())),
    ]
