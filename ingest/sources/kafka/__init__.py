"""The Kafka source: topics of a cluster, read as one member of a consumer group."""

from ingest.sources.kafka.archive import TopicArchive
from ingest.sources.kafka.options import KafkaOptions
from ingest.sources.kafka.reading import Lag
from ingest.sources.kafka.source import KafkaSource

__all__ = ["KafkaOptions", "KafkaSource", "Lag", "TopicArchive"]
