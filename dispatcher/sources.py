"""Which location is which source, with the settings it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from dispatcher.access import aws_client, kafka_client
from dispatcher.errors import SettingsError
from dispatcher.settings import Kafka, Settings, Sqs
from ingest.errors import SourceError
from ingest.events import Partition
from ingest.sources import Source, open_source


def open_from(location: str, settings: Settings) -> Source:
    """The source at `location`: an address (`kafka://`, `sqs://`), or files.

    Raises:
        SourceError: there is nothing there, or nothing that is known.
        SettingsError: the settings for it do not fit together.
    """
    scheme, _, rest = location.partition("://")
    match scheme if rest else "":
        case "":
            return open_source(location)
        case "kafka":
            return _kafka(rest, settings.kafka)
        case "sqs":
            return _sqs(rest, settings)
        case "https" | "http" if ".amazonaws.com" in rest or settings.aws.endpoint:
            return _sqs(location, settings)
    raise SourceError(
        f"{scheme}:// is no source: give kafka://host:port/topic, sqs://queue, a folder, a glob in "
        "quotes or a file"
    )


def open_again(location: str, settings: Settings) -> Source:
    """The source at `location`, to look at all it holds: as no member of a group, to its end.

    Raises:
        SettingsError: it cannot be read a second time.
    """
    if is_queue(location):
        raise SettingsError(f"{location}: a queue keeps nothing that was settled to look at")
    if location.startswith("kafka://"):
        from ingest.sources.kafka import TopicArchive

        servers, topics = _servers_and_topics(location.removeprefix("kafka://"))
        client = kafka_client("kafka", settings.kafka)
        return TopicArchive(servers, topics, settings.kafka.group, client)
    return open_from(location, settings)


def is_queue(location: str) -> bool:
    """Whether the source keeps nothing that was settled."""
    return location.startswith(("sqs://", "https://", "http://"))


def where(location: str) -> str:
    """The location as it is kept with the state: a path in full, an address as it is."""
    return location if "://" in location else str(Path(location).resolve())


def _kafka(rest: str, settings: Kafka) -> Source:
    from ingest.sources.kafka import KafkaOptions, KafkaSource

    servers, topics = _servers_and_topics(rest)
    options = KafkaOptions(
        group=settings.group,
        start=settings.start,
        until_end=settings.until_end,
        instance_id=settings.instance_id,
        session_timeout_s=settings.session_timeout_s,
        revoke_s=settings.revoke_s,
        rollover_grace_h=settings.rollover_grace_h,
    )
    return KafkaSource(servers, topics, options, kafka_client("kafka", settings))


def _servers_and_topics(rest: str) -> tuple[str, str]:
    servers, _, topics = rest.partition("/")
    if not servers or not topics:
        raise SourceError(
            f"kafka://{rest}: an address in Kafka is kafka://host:port[,host:port]/topic[,topic]"
        )
    return servers, topics


def _sqs(queue: str, settings: Settings) -> Source:
    from ingest.sources.sqs import SqsOptions, SqsSource

    given: Sqs = settings.sqs
    options = SqsOptions(
        wait_s=given.wait_s,
        visibility_s=given.visibility_s,
        receivers=given.receivers,
        max_outstanding=given.max_outstanding,
        until_empty=given.until_empty,
        max_bytes=round(settings.ingest.max_event_mib * 2**20),
    )
    return SqsSource(queue, options, aws_client(settings.aws), settings.ingest.allow)


class Lag(Protocol):
    """How far a partition is behind: `offsets` not taken, `behind_s` of what was taken last."""

    @property
    def offsets(self) -> int:
        """Events that are there and not taken."""

    @property
    def behind_s(self) -> float:
        """Age of what was taken last, where more waits."""


@runtime_checkable
class Lagging(Protocol):
    """A source that knows how far it is behind."""

    @property
    def lost_to_retention(self) -> int:
        """Events that were deleted before they were taken."""

    def lag(self) -> Mapping[Partition, Lag]:
        """Of every partition that is ours."""
