"""The metrics of one run. Read off the run when somebody asks: a night without costs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.process_collector import ProcessCollector

from dispatcher import health
from dispatcher.breaker import State
from dispatcher.calls.queue import Holder
from dispatcher.incidents import FAULTS
from dispatcher.ledger.accounts import Purse
from dispatcher.ledger.money import DOLLAR
from dispatcher.metrics.catalogue import METRICS
from dispatcher.service import Run
from dispatcher.sources import Lagging
from sinks.deadletters import ErrorClass
from sinks.deadletters.letter import class_of
from workers.drift import QUANTITIES

_SHORT: Final = 12

Sample = tuple[str, float, tuple[str, ...]]


def registry(run: Run) -> CollectorRegistry:
    """What /metrics exposes: those of the run, and of its process."""
    made = CollectorRegistry()
    made.register(RunCollector(run))
    ProcessCollector(namespace="lookback", registry=made)
    return made


class RunCollector:
    """The metrics of one run, for a registry of prometheus_client."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def describe(self) -> Iterable[Family]:
        """So that a registry need not look at the run to know the names."""
        return [each.family() for each in METRICS.values()]

    def collect(self) -> Iterable[Family]:
        """All metrics as they are now; those that this run has no value for are empty.

        KeyError, ValueError: a metric that the catalogue does not have, or not with these labels.
        """
        families = {name: each.family() for name, each in METRICS.items()}
        for name, value, labels in self._samples():
            full = f"lookback_{name}"
            if len(labels) != len(METRICS[full].labels):
                raise ValueError(f"{full} has the labels {METRICS[full].labels}, not {labels}")
            families[full].add_metric(labels, value)
        return families.values()

    def _samples(self) -> Iterator[Sample]:
        yield from self._books()
        yield from self._ages()
        yield from self._queues()
        yield from self._workers()
        yield from self._money()
        yield from self._sinks()
        yield from self._sky()
        yield from self._health()

    def _books(self) -> Iterator[Sample]:
        lane = self._run.lane
        for each in lane.custody.assignments:
            where = (lane.name, *each.partition)
            yield "received_total", each.page.received, where
            yield "in_flight", each.tracker.open_count, where
            for outcome, count in each.page.outcomes.items():
                yield "settled_total", count, (*where, outcome.value)
        yield "unbalanced_partitions", len(lane.unbalanced()), ()
        dead = Counter[ErrorClass]()
        for reason, count in self._run.watchman.dead.items():
            dead[class_of(reason)] += count
        for kind in ErrorClass:
            yield "dead_letters_total", dead[kind], (kind.value,)

    def _ages(self) -> Iterator[Sample]:
        run, lane = self._run, self._run.lane
        yield "oldest_open_seconds", lane.lag_s(), ()
        yield "objective_seconds", run.settings.live.objective_s, ()
        for fraction in (0.5, 0.98):
            value = run.night.latency.quantile(fraction)
            if value is not None:
                yield "latency_seconds", value, (str(fraction),)
        if isinstance(lane.source, Lagging):
            for partition, lag in lane.source.lag().items():
                yield "source_waiting", lag.offsets, tuple(partition)
                yield "source_behind_seconds", lag.behind_s, tuple(partition)
            yield "source_lost_total", lane.source.lost_to_retention, ()
        credit = lane.credit
        yield "held_back_seconds_total", credit.waited_s, ()
        yield "unpaid_seconds_total", credit.unpaid_s, ()
        yield "credit_bytes", credit.bytes, ()
        yield "paused", float(credit.paused), ()

    def _queues(self) -> Iterator[Sample]:
        for each in self._run.pipeline.scheduler.queues:
            lane = (each.lane,)
            yield "at_workers", each.at_workers, lane
            yield "queue_waiting", len(each.waiting), lane
            yield "queue_oldest_seconds", each.oldest_s, lane
            yield "calls_total", each.calls, lane
            yield "batch_items", each.policy.size().items, lane
            for holder in set(Holder) - {Holder.NOTHING}:
                yield "queue_held", float(each.held is holder), (*lane, holder.value)
                yield "queue_held_seconds_total", each.held_s[holder], (*lane, holder.value)

    def _workers(self) -> Iterator[Sample]:
        scheduler = self._run.pipeline.scheduler
        yield "workers_limit", scheduler.concurrency.limit, ()
        yield "workers_in_use", scheduler.concurrency.in_use, ()
        yield "workers_lost_total", self._run.groups.lost, ()
        yield "refused_calls_total", scheduler.concurrency.refusals, ()
        yield "hedges_total", scheduler.caller.hedged, ()
        yield "hedges_won_total", scheduler.caller.won, ()

    def _money(self) -> Iterator[Sample]:
        ledger = self._run.pipeline.scheduler.ledger
        for purse in Purse:
            yield "spent_dollars_total", ledger.spent[purse] / DOLLAR, (purse.value,)
        yield "reserved_dollars", ledger.outstanding / DOLLAR, ()
        yield "overspent_dollars_total", ledger.overshoot / DOLLAR, ()
        for each in ledger.known_balances:
            if each.cap is not None:
                where = (each.account, each.window.value)
                yield "cap_dollars", each.cap / DOLLAR, where
                yield "cap_used_ratio", each.spent / each.cap if each.cap else 1.0, where

    def _sinks(self) -> Iterator[Sample]:
        for each in self._run.pipeline.writer.outlets:
            sink = (each.name,)
            yield "sink_waiting", each.waiting, sink
            yield "sink_written_total", each.written, sink
            yield "sink_dropped_total", each.dropped, sink
            yield "sink_open", float(each.breaker.state is not State.CLOSED), sink

    def _sky(self) -> Iterator[Sample]:
        night, adrift = self._run.night, self._run.groups.adrift
        asked = night.out_of_domain + sum(night.in_bins)
        yield "out_of_domain_ratio", night.out_of_domain / asked if asked else 0.0, ()
        for quantity in QUANTITIES:
            yield "drift", float(quantity in adrift), (quantity,)
        yield "review_waiting", self._run.desk.waiting, ()

    def _health(self) -> Iterator[Sample]:
        run, lasting = self._run, Counter(each.fault.name for each in self._run.board.open())
        for fault in FAULTS:
            yield "incident", lasting[fault], (fault,)
            yield "incidents_total", run.board.counts[fault], (fault,)
        yield "clock_jumps_total", run.watchman.jumps, ()
        yield "live", float(health.live(run).ok), ()
        yield "silent_seconds", run.lane.pulse.silent_s, ()
        yield "ready", float(health.ready(run).ok), ()
        model = run.groups.model
        yield "build_info", 1, (version("lookback"), model.name, model.weights_sha256[:_SHORT])
