"""Where events are between source and sinks, how fast they move, and what holds them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.books import Outcome
from dispatcher.breaker import State
from dispatcher.calls.queue import Holder
from dispatcher.calls.triage import Asking
from dispatcher.outlet import Outlet
from dispatcher.service import Run
from dispatcher.sources import Lagging
from ingest.events import Partition

_RATE_OVER_S: Final = 10.0
_LOOK_S: Final = 1.0
_SHOWN_S: Final = 300

RESOLVING: Final = "resolving"
QUEUED: Final = "waiting for workers"
WORKING: Final = "with workers"
WRITING: Final = "waiting for sinks"


@dataclass(slots=True)
class Rates:
    """Events settled a second, by partition, over the last ten."""

    _looks: deque[tuple[float, dict[Partition, int]]] = field(default_factory=deque)

    def look(self, run: Run) -> dict[Partition, float]:
        """As they are now."""
        now = run.lane.clock.monotonic()
        settled = {each.partition: each.page.settled for each in run.lane.custody.assignments}
        if not self._looks or now - self._looks[-1][0] >= _LOOK_S:
            self._looks.append((now, settled))
        while len(self._looks) > 2 and now - self._looks[0][0] > _RATE_OVER_S:
            self._looks.popleft()
        then, before = self._looks[0]
        passed = max(now - then, 1e-9)
        if now == then:
            return dict.fromkeys(settled, 0.0)
        return {each: (n - before.get(each, n)) / passed for each, n in settled.items()}


def partitions(run: Run, rates: Rates) -> list[dict[str, Any]]:
    """One row for each partition of the source that is ours."""
    lane, now = run.lane, run.lane.clock.monotonic()
    lag = lane.source.lag() if isinstance(lane.source, Lagging) else {}
    per_second, unbalanced = rates.look(run), set(lane.unbalanced())
    rows = []
    for each in lane.custody.assignments:
        oldest, behind = each.tracker.oldest, lag.get(each.partition)
        rows.append(
            {
                "source": each.partition.source,
                "partition": each.partition.name,
                "received": each.page.received,
                "settled": each.page.settled,
                "in_flight": each.tracker.open_count,
                "rate_per_s": round(per_second.get(each.partition, 0.0), 2),
                "oldest_s": round(now - oldest[1], 2) if oldest else 0.0,
                "waiting": behind.offsets if behind else None,
                "behind_s": round(behind.behind_s, 2) if behind else None,
                "balanced": each.partition not in unbalanced,
            }
        )
    return rows


def stages(run: Run) -> list[dict[str, Any]]:
    """How many events are where, in the order of their way."""
    queues = run.pipeline.scheduler.queues
    counts = {
        RESOLVING: run.pipeline.resolving,
        QUEUED: sum(len(each.waiting) + _again(each.again) for each in queues),
        WORKING: sum(each.at_workers for each in queues),
        WRITING: run.pipeline.writer.waiting,
    }
    return [{"stage": stage, "items": items} for stage, items in counts.items()]


def _again(asked: Iterable[Asking]) -> int:
    return sum(len(each.questions) for each in asked)


def held(run: Run) -> dict[str, Any]:
    """Who holds whom back: what stands in the way of the oldest, and where."""
    credit, queue = run.lane.credit, run.pipeline.queue
    away = [each.name for each in run.pipeline.writer.outlets if each.required and _open(each)]
    by, why, stage = queue.held.value, queue.why, QUEUED
    if credit.paused:
        by, why, stage = "pause", "a person has paused the source", "source"
    elif away:
        by, why, stage = "sinks", f"{', '.join(away)} takes no rows", WRITING
    elif queue.held is Holder.NOTHING and not queue.affordable(1):
        by, why = Holder.MONEY.value, queue.ledger.why(queue.purse)
    return {"stage": stage, "by": by, "why": why, "source_held_s": round(credit.waited_s, 1)}


def _open(outlet: Outlet) -> bool:
    return outlet.breaker.state is not State.CLOSED


def lanes(run: Run) -> list[dict[str, Any]]:
    """One row for each queue of the scheduler."""
    return [
        {
            "lane": each.lane,
            "waiting": len(each.waiting),
            "at_workers": each.at_workers,
            "oldest_s": round(each.oldest_s, 2),
            "held_by": each.held.value,
            "why": each.why,
            "calls": each.calls,
            "batch_items": each.policy.size().items,
            "books": run.totals().to_json() if each.lane == run.lane.name else None,
        }
        for each in run.pipeline.scheduler.queues
    ]


def groups(run: Run) -> list[dict[str, Any]]:
    """Groups of workers that are at work, the oldest first."""
    now = time.monotonic()
    return [
        {
            "group": name,
            "lane": run.lane.name,
            "ranks": each.ranks,
            "items": each.items,
            "since_s": round(now - each.since, 2),
        }
        for name, each in list(run.groups.under_way.items())
    ]


def workers(run: Run) -> dict[str, int]:
    """How many may be used, and are."""
    concurrency = run.pipeline.scheduler.concurrency
    return {
        "limit": concurrency.limit,
        "in_use": concurrency.in_use,
        "most": run.groups.slots,
        "refused_calls": concurrency.refusals,
        "lost": run.groups.lost,
    }


def sinks(run: Run) -> list[dict[str, Any]]:
    """One row for each sink, dead letters last."""
    return [
        {
            "name": each.name,
            "required": each.required,
            "waiting": each.waiting,
            "written": each.written,
            "dropped": each.dropped,
            "state": each.breaker.state.value,
            "error": each.error,
        }
        for each in run.pipeline.writer.outlets
    ]


def per_second(run: Run) -> list[dict[str, Any]]:
    """Events settled in each of the last 300 full seconds (unix time)."""
    night = run.night
    now = int(night.clock.monotonic() - night.started)
    began = night.clock.now() - (night.clock.monotonic() - night.started)
    rows = []
    for second in range(max(0, now - _SHOWN_S), now):
        counts: Mapping[Outcome, int] = night.per_second.get(second, {})
        written = counts.get(Outcome.WRITTEN, 0)
        rows.append(
            {"t": int(began) + second, "written": written, "other": sum(counts.values()) - written}
        )
    return rows
