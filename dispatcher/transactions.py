"""Exactly once between Kafka and Kafka: results and the source's offsets in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from dispatcher.conclusions import Conclusion, Writable
from dispatcher.custody import Custody
from dispatcher.destinations import records
from dispatcher.errors import SettingsError
from dispatcher.outlet import Outlet
from ingest.events import Partition
from ingest.progress import Progress
from ingest.sources import Source
from sinks.record import ResultRecord
from sinks.sink import Sink

Offsets = Mapping[tuple[str, int], tuple[int, str]]


@runtime_checkable
class TransactionalSink(Protocol):
    """A sink that can commit the offsets of a group together with what it writes."""

    transactional: bool

    async def write_with(
        self, records: Sequence[ResultRecord], offsets: Offsets, group: str
    ) -> None:
        """Store the records and commit the offsets: both or neither."""


@runtime_checkable
class OffsetSource(Protocol):
    """A source whose progress is offsets of a consumer group."""

    group: str

    def offsets(self, progress: Mapping[Partition, Progress]) -> Offsets:
        """What a commit of `progress` consists of, for the partitions that are ours."""


def bind(ways: Sequence[tuple[Sink, Outlet]], source: Source, custody: Custody) -> None:
    """Let sinks that have transactions commit the offsets of `source` in them.

    Raises:
        SettingsError: offsets cannot be part of their transactions.
    """
    for sink, outlet in ways:
        if not isinstance(sink, TransactionalSink) or not sink.transactional:
            continue
        if not isinstance(source, OffsetSource):
            raise SettingsError(
                f"{outlet.name} has a transactional_id, and the source is not in Kafka: drop it"
            )
        if not outlet.required or sum(each.required for _, each in ways) > 1:
            raise SettingsError(
                f"{outlet.name} has a transactional_id: it must be the only required sink, for an "
                "offset must not be committed before every required sink has the result"
            )
        outlet.store = _store(sink, source, custody)


def _store(
    sink: TransactionalSink, source: OffsetSource, custody: Custody
) -> Callable[[Sequence[Writable]], Awaitable[None]]:
    async def store(conclusions: Sequence[Writable]) -> None:
        # What a person has decided on was settled long ago, and commits nothing.
        settled = [each for each in conclusions if isinstance(each, Conclusion)]
        ahead = custody.progress_with((each.errand, each.outcome) for each in settled)
        offsets = source.offsets(ahead) if settled else {}
        await sink.write_with(records(conclusions), offsets, source.group)

    return store
