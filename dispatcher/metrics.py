"""Every metric, with its unit: the books, what waits where, and how far behind it is.

Read off the run when somebody asks, so a night without a scraper costs nothing. Labels are bounded:
partitions of the source, sinks of the settings, outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from dispatcher.breaker import State
from dispatcher.errors import SettingsError
from dispatcher.service import Run
from ingest.events import Partition

METRICS: Final = {
    "lookback_received_total": "events taken, per lane and partition (source, partition)",
    "lookback_settled_total": "events settled, per lane, partition and outcome",
    "lookback_in_flight": "events taken and not settled, per lane and partition",
    "lookback_unbalanced_partitions": "partitions whose books do not balance: always 0",
    "lookback_oldest_open_seconds": "age of the oldest event that is not settled (s)",
    "lookback_source_waiting": "offsets that a topic's partition has and we have not taken",
    "lookback_source_behind_seconds": "age of what was taken last, where more waits (s)",
    "lookback_source_lost_total": "offsets that retention deleted before they were taken",
    "lookback_held_back_seconds_total": "how long the source was not asked for want of room (s)",
    "lookback_credit_bytes": "bytes of events between source and sinks",
    "lookback_at_workers": "items that workers have",
    "lookback_sink_waiting": "rows that a sink has not seen, per sink",
    "lookback_sink_written_total": "rows that a sink has taken in this run, per sink",
    "lookback_sink_dropped_total": "rows that a best-effort sink has missed, per sink",
    "lookback_sink_open": "1 while a sink's breaker is open, per sink",
    "lookback_latency_seconds": "from taken to written, quantiles 0.5 and 0.98 (s)",
}
"""Name and meaning of all."""

_PAGE: Final = ("lane", "source", "partition")


class _Lag(Protocol):
    @property
    def offsets(self) -> int: ...
    @property
    def behind_s(self) -> float: ...


@runtime_checkable
class _Behind(Protocol):
    """A source that knows how far it is behind."""

    @property
    def lost_to_retention(self) -> int: ...
    def lag(self) -> Mapping[Partition, _Lag]: ...


class RunCollector:
    """The metrics of one run, for a registry of prometheus_client."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def collect(self) -> Iterable[Metric]:
        """All metrics as they are now."""
        yield from self._books()
        yield from self._flow()
        yield from self._source()
        yield from self._sinks()
        latency = _gauge("lookback_latency_seconds", ("quantile",))
        for fraction in (0.5, 0.98):
            value = self._run.night.latency.quantile(fraction)
            if value is not None:
                latency.add_metric([str(fraction)], value)
        yield latency

    def _books(self) -> Iterable[Metric]:
        lane = self._run.lane
        received = _counter("lookback_received_total", _PAGE)
        settled = _counter("lookback_settled_total", (*_PAGE, "outcome"))
        in_flight = _gauge("lookback_in_flight", _PAGE)
        for assignment in lane.custody.assignments:
            where = [lane.name, *assignment.partition]
            received.add_metric(where, assignment.page.received)
            in_flight.add_metric(where, assignment.tracker.open_count)
            for outcome, count in assignment.page.outcomes.items():
                settled.add_metric([*where, outcome.value], count)
        yield from (received, settled, in_flight)
        yield _single("lookback_unbalanced_partitions", len(lane.unbalanced()))

    def _flow(self) -> Iterable[Metric]:
        lane, pipeline = self._run.lane, self._run.pipeline
        yield _single("lookback_oldest_open_seconds", lane.lag_s())
        held_back = _counter("lookback_held_back_seconds_total", ())
        held_back.add_metric([], lane.credit.waited_s)
        yield held_back
        yield _single("lookback_credit_bytes", lane.credit.bytes)
        yield _single("lookback_at_workers", pipeline.at_workers)

    def _source(self) -> Iterable[Metric]:
        source = self._run.lane.source
        if not isinstance(source, _Behind):
            return
        waiting = _gauge("lookback_source_waiting", ("source", "partition"))
        behind = _gauge("lookback_source_behind_seconds", ("source", "partition"))
        for partition, lag in source.lag().items():
            waiting.add_metric([*partition], lag.offsets)
            behind.add_metric([*partition], lag.behind_s)
        lost = _counter("lookback_source_lost_total", ())
        lost.add_metric([], source.lost_to_retention)
        yield from (waiting, behind, lost)

    def _sinks(self) -> Iterable[Metric]:
        waiting = _gauge("lookback_sink_waiting", ("sink",))
        written = _counter("lookback_sink_written_total", ("sink",))
        dropped = _counter("lookback_sink_dropped_total", ("sink",))
        is_open = _gauge("lookback_sink_open", ("sink",))
        for each in self._run.pipeline.writer.outlets:
            waiting.add_metric([each.name], each.waiting)
            written.add_metric([each.name], each.written)
            dropped.add_metric([each.name], each.dropped)
            is_open.add_metric([each.name], float(each.breaker.state is State.OPEN))
        yield from (waiting, written, dropped, is_open)


@contextmanager
def serve(run: Run, port: int) -> Iterator[None]:
    """Answer at http://127.0.0.1:`port`/metrics while the context lasts; 0 does not.

    Raises:
        SettingsError: the port is taken.
    """
    if not port:
        yield
        return
    registry = CollectorRegistry()
    registry.register(RunCollector(run))
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        raise SettingsError(
            f"metrics.port {port} cannot be used ({error.strerror}): choose another"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _counter(name: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(name, METRICS[name], labels=labels)


def _gauge(name: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, METRICS[name], labels=labels)


def _single(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, METRICS[name], value=value)


def reference() -> str:
    """All metrics as a Markdown table: `docs/delivery.md` holds it."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in METRICS.items()]
    return "\n".join(["| metric | meaning |", "|---|---|", *rows]) + "\n"
