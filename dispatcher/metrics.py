"""Every metric, with its unit: the books, what waits where, and how far behind it is.

Read off the run when somebody asks, so a night without a scraper costs nothing. Labels are bounded:
partitions of the source, sinks of the settings, outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from dispatcher.breaker import State
from dispatcher.calls.queue import Holder, Queue
from dispatcher.calls.scheduler import Scheduler
from dispatcher.errors import SettingsError
from dispatcher.ledger.accounts import Purse
from dispatcher.ledger.ledger import Ledger
from dispatcher.ledger.money import DOLLAR
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
    "lookback_unpaid_seconds_total": "of that, for want of money (s)",
    "lookback_at_workers": "items that workers have, per lane",
    "lookback_queue_waiting": "items that wait for a worker, per lane",
    "lookback_queue_oldest_seconds": "age of the oldest of them, per lane (s)",
    "lookback_queue_held": "1 for what they wait for now (company, workers, money, guard, live)",
    "lookback_queue_held_seconds_total": "how long they waited for what (lane, by) (s)",
    "lookback_calls_total": "calls to workers, per lane",
    "lookback_hedges_total": "calls made a second time because the first was far too late",
    "lookback_hedges_won_total": "of those, answered first",
    "lookback_refused_calls_total": "calls that the platform had no worker for",
    "lookback_workers_limit": "workers that may be used now",
    "lookback_workers_in_use": "workers that are used now",
    "lookback_batch_items": "items at which a batch is sent at once, per lane",
    "lookback_spent_dollars_total": "what calls have cost in this run, per purse ($)",
    "lookback_reserved_dollars": "set aside for calls that are under way ($)",
    "lookback_overspent_dollars_total": "what calls have cost above what was set aside ($)",
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
        unpaid = _counter("lookback_unpaid_seconds_total", ())
        unpaid.add_metric([], lane.credit.unpaid_s)
        yield unpaid
        yield from self._queues(pipeline.scheduler.queues)
        yield from self._workers(pipeline.scheduler)
        yield from self._money(pipeline.scheduler.ledger)

    def _queues(self, queues: Sequence[Queue]) -> Iterable[Metric]:
        lane, by = ("lane",), ("lane", "by")
        at_workers = _gauge("lookback_at_workers", lane)
        waiting = _gauge("lookback_queue_waiting", lane)
        oldest = _gauge("lookback_queue_oldest_seconds", lane)
        held = _gauge("lookback_queue_held", by)
        held_s = _counter("lookback_queue_held_seconds_total", by)
        calls = _counter("lookback_calls_total", lane)
        items = _gauge("lookback_batch_items", lane)
        for each in queues:
            at_workers.add_metric([each.lane], each.at_workers)
            waiting.add_metric([each.lane], len(each.waiting))
            oldest.add_metric([each.lane], each.oldest_s)
            calls.add_metric([each.lane], each.calls)
            items.add_metric([each.lane], each.policy.size().items)
            for holder in set(Holder) - {Holder.NOTHING}:
                held.add_metric([each.lane, holder.value], float(each.held is holder))
                held_s.add_metric([each.lane, holder.value], each.held_s[holder])
        yield from (at_workers, waiting, oldest, held, held_s, calls, items)

    def _workers(self, scheduler: Scheduler) -> Iterable[Metric]:
        hedges, won = (
            _counter(name, ()) for name in ("lookback_hedges_total", "lookback_hedges_won_total")
        )
        hedges.add_metric([], scheduler.caller.hedged)
        won.add_metric([], scheduler.caller.won)
        refused = _counter("lookback_refused_calls_total", ())
        refused.add_metric([], scheduler.concurrency.refusals)
        yield from (hedges, won, refused)
        yield _single("lookback_workers_limit", scheduler.concurrency.limit)
        yield _single("lookback_workers_in_use", scheduler.concurrency.in_use)

    def _money(self, ledger: Ledger) -> Iterable[Metric]:
        spent = _counter("lookback_spent_dollars_total", ("purse",))
        for purse in Purse:
            spent.add_metric([purse.value], ledger.spent[purse] / DOLLAR)
        overspent = _counter("lookback_overspent_dollars_total", ())
        overspent.add_metric([], ledger.overshoot / DOLLAR)
        yield from (spent, overspent)
        yield _single("lookback_reserved_dollars", ledger.outstanding / DOLLAR)

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
def serve(run: Run, port: int, host: str = "127.0.0.1") -> Iterator[None]:
    """Answer at http://`host`:`port`/metrics while the context lasts; port 0 does not.

    Raises:
        SettingsError: the port is taken, or the address is none of this machine's.
    """
    if not port:
        yield
        return
    registry = CollectorRegistry()
    registry.register(RunCollector(run))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"metrics.port {port} on {host} cannot be used ({error.strerror}): choose another"
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
