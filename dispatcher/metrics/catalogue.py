"""Every metric: name, kind, unit, labels, meaning. Nothing else can be exposed.

Every label is bounded, and `LABELS` says by what: no label holds an event, an object or a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


class Kind(StrEnum):
    """A counter only grows, while a run lasts."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. `unit`: "" where it counts something; `labels`: in the order of their values."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    labels: tuple[str, ...] = ()

    def family(self) -> CounterMetricFamily | GaugeMetricFamily:
        """An empty family to be filled, one value for each combination of labels."""
        made = CounterMetricFamily if self.kind is Kind.COUNTER else GaugeMetricFamily
        return made(self.name, self.meaning, labels=self.labels)


def _counter(name: str, meaning: str, *labels: str, unit: str = "") -> Metric:
    return Metric(f"lookback_{name}_total", Kind.COUNTER, meaning, unit, labels)


def _gauge(name: str, meaning: str, *labels: str, unit: str = "") -> Metric:
    return Metric(f"lookback_{name}", Kind.GAUGE, meaning, unit, labels)


LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lane": "live, replay, redrive",
        "source": "the one that the run reads",
        "partition": "the partitions of the source that are ours",
        "outcome": "written, duplicate, filtered, not_applicable, dead",
        "class": "the five error classes of dead letters",
        "quantile": "0.5, 0.98",
        "by": "company, workers, money, guard, live",
        "purse": "the five purses of the ledger",
        "account": "the purses, and total",
        "window": "minute, hour, night, month",
        "sink": "the sinks of the settings",
        "quantity": "the 13 that are watched: redshifts, quality, magnitudes, colours",
        "fault": "the faults of the playbook",
        "version": "one a process",
        "model": "one a process",
        "weights": "one a process: the first twelve digits of their SHA-256",
    }
)
"""What bounds the values of each label."""

_PAGE: Final = ("lane", "source", "partition")
_TOPIC: Final = ("source", "partition")

_ALL: Final = (
    # The books.
    _counter("received", "events taken", *_PAGE),
    _counter("settled", "events settled", *_PAGE, "outcome"),
    _gauge("in_flight", "events taken and not settled", *_PAGE),
    _gauge("unbalanced_partitions", "partitions whose books do not balance: always 0"),
    _counter("dead_letters", "events that became dead letters, by error class", "class"),
    # Age.
    _gauge("oldest_open_seconds", "age of the oldest event that is not settled", unit="s"),
    _gauge("source_waiting", "offsets that a partition has and we have not taken", *_TOPIC),
    _gauge(
        "source_behind_seconds", "age of what was taken last, where more waits", *_TOPIC, unit="s"
    ),
    _counter("source_lost", "offsets that retention deleted before they were taken"),
    _gauge(
        "latency_seconds", "from taken to written, quantiles 0.5 and 0.98", "quantile", unit="s"
    ),
    _gauge("objective_seconds", "what 95 of 100 should stay below", unit="s"),
    # What holds whom back.
    _counter("held_back_seconds", "how long the source was not asked for want of room", unit="s"),
    _counter("unpaid_seconds", "of that, for want of money", unit="s"),
    _gauge("credit_bytes", "bytes of events between source and sinks", unit="B"),
    _gauge("queue_waiting", "items that wait for a worker", "lane"),
    _gauge("queue_oldest_seconds", "age of the oldest of them", "lane", unit="s"),
    _gauge(
        "queue_held",
        "1 for what they wait for now (company, workers, money, guard, live)",
        "lane",
        "by",
    ),
    _counter("queue_held_seconds", "how long they waited for what", "lane", "by", unit="s"),
    # Workers.
    _gauge("at_workers", "items that workers have", "lane"),
    _counter("calls", "calls to workers", "lane"),
    _gauge("batch_items", "items at which a batch is sent at once", "lane"),
    _gauge("workers_limit", "workers that may be used now"),
    _gauge("workers_in_use", "workers that are used now"),
    _counter("workers_lost", "workers that gave no answer"),
    _counter("refused_calls", "calls that the platform had no worker for"),
    _counter("hedges", "calls made a second time because the first was far too late"),
    _counter("hedges_won", "of those, answered first"),
    # Money.
    _counter("spent_dollars", "what calls have cost in this run", "purse", unit="$"),
    _gauge("reserved_dollars", "set aside for calls that are under way", unit="$"),
    _counter("overspent_dollars", "what calls have cost above what was set aside", unit="$"),
    _gauge("cap_dollars", "what may be spent, where there is a cap", "account", "window", unit="$"),
    _gauge("cap_used_ratio", "share of a cap that is spent", "account", "window"),
    # Sinks.
    _gauge("sink_waiting", "rows that a sink has not seen", "sink"),
    _counter("sink_written", "rows that a sink has taken in this run", "sink"),
    _counter("sink_dropped", "rows that a best-effort sink has missed", "sink"),
    _gauge("sink_open", "1 while a sink fails and is left alone", "sink"),
    # The sky.
    _gauge("out_of_domain_ratio", "share of asked events that the model refused to estimate"),
    _gauge("drift", "1 for what is not distributed as in the training", "quantity"),
    _gauge("review_waiting", "estimates that wait for a person"),
    # Health.
    _gauge("incident", "incidents that last, by fault (see the playbook)", "fault"),
    _counter("incidents", "incidents that have begun, by fault", "fault"),
    _counter("clock_jumps", "times that the clock of this machine was set"),
    _gauge("live", "1 while the lane's loop makes its turns (/live)"),
    _gauge("silent_seconds", "how long that loop has made no turn", unit="s"),
    _gauge("ready", "1 while all that is needed is there (/ready)"),
    _gauge("paused", "1 while a person holds the source back"),
    _gauge("build_info", "always 1: what runs", "version", "model", "weights"),
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({each.name: each for each in _ALL})
"""By name."""


def reference() -> str:
    """All metrics and their labels as Markdown tables: `docs/metrics.md` holds them."""
    rows = [
        f"| `{each.name}` | {each.kind} | {each.unit} | {', '.join(each.labels)} | {each.meaning} |"
        for each in METRICS.values()
    ]
    head = ["| metric | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
    bounds = [f"| `{label}` | {values} |" for label, values in LABELS.items()]
    labels = ["", "| label | its values |", "|---|---|"]
    return "\n".join([*head, *rows, *labels, *bounds]) + "\n"
