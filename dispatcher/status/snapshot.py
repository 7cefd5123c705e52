"""A run in one look, as JSON: what the status page shows, all of it from the run itself.

Unknown is null; times are unix seconds (`*_s`: seconds); money is exact dollars as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, Protocol

from dispatcher import health
from dispatcher.incidents import Incident, LogLine
from dispatcher.ledger.windows import Calendar
from dispatcher.service import Run
from dispatcher.status import flow, sky
from dispatcher.status.money import Money
from sinks.deadletters import ErrorClass
from sinks.deadletters.letter import class_of

_LINES: Final = 50
_INCIDENTS: Final = 50


ADVICE: Final = {
    ErrorClass.MALFORMED: "the bytes are broken: the sender has to mend them",
    ErrorClass.NOT_FOR_US: "change the settings, then redrive",
    ErrorClass.TRANSIENT: "redrive once what was missing is there",
    ErrorClass.POISON: "they cost workers: redrive only after a mend of the worker",
    ErrorClass.STALE: "too old when their turn came",
}


class Background(Protocol):
    """Something that was begun from the page, and goes on by itself."""

    def to_json(self) -> dict[str, Any]:
        """kind, title, state, settled, of, message."""


@dataclass(slots=True)
class Snapshots:
    """Looks at one run. `background`: what was begun from the page; `ended`: it is over."""

    run: Run
    background: Sequence[Background] = ()
    ended: bool = False
    _rates: flow.Rates = field(default_factory=flow.Rates)
    _money: Money = field(init=False)

    def __post_init__(self) -> None:
        scheduler, settings = self.run.pipeline.scheduler, self.run.settings
        self._money = Money(
            scheduler.ledger,
            scheduler.caller.tariff,
            settings.caps(),
            Calendar(settings.spend.noon_utc_h),
            self.run.lane.clock,
        )

    def forget(self) -> None:
        """Somebody has acted: what was looked up some seconds ago may hold no more."""
        self._money.forget()

    async def look(self) -> dict[str, Any]:
        """Everything, as it is now."""
        run = self.run
        lane, night = run.lane, run.night
        return {
            "run": self._run(),
            "health": self._health(),
            "books": run.totals().to_json(),
            "partitions": flow.partitions(run, self._rates),
            "stages": flow.stages(run),
            "held": flow.held(run),
            "credit": {
                "items": lane.credit.items,
                "max_items": lane.credit.max_items,
                "bytes": lane.credit.bytes,
                "max_bytes": lane.credit.max_bytes,
            },
            "oldest_s": round(run.lane.lateness_s(), 2),
            "rates": {
                "per_second": flow.per_second(run),
                "estimates_per_s": round(night.rate(), 2),
            },
            "latency": {
                "p50_s": night.latency.quantile(0.5),
                "p98_s": night.latency.quantile(0.98),
                "objective_s": run.settings.live.objective_s,
            },
            "money": await self._money.look(),
            "lanes": flow.lanes(run),
            "groups": flow.groups(run),
            "workers": flow.workers(run),
            "redshifts": sky.redshifts(night, run.reference),
            "drift": sky.drift(night, run.groups),
            "dead_letters": _dead_letters(run.watchman.dead),
            "sinks": flow.sinks(run),
            "incidents": [self._incident(each) for each in run.board.recent()[:_INCIDENTS]],
            "log": [_line(each) for each in reversed(list(run.board.lines)[-_LINES:])],
            "review": await run.desk.counts(),
            "errands": [each.to_json() for each in self.background],
        }

    def _run(self) -> dict[str, Any]:
        run = self.run
        clock, night, model = run.lane.clock, run.night, run.groups.model
        return {
            "id": run.run_id,
            "title": run.title,
            "simulated": run.simulated,
            "lane": run.lane.name,
            "source": run.lane.source.name,
            "started": clock.now() - (clock.monotonic() - night.started),
            "now": clock.now(),
            "version": version("lookback"),
            "state": self._state(),
            "model": {
                "name": model.name,
                "version": model.version,
                "weights_sha256": model.weights_sha256,
                "calibration_id": model.calibration_id,
            },
            "actions": run.settings.status.token is not None,
        }

    def _state(self) -> str:
        lane = self.run.lane
        if self.ended:
            return "ended"
        if lane.stopping:
            return "stopping"
        return "paused" if lane.credit.paused else "running"

    def _health(self) -> dict[str, Any]:
        if self.ended:
            return {"live": True, "ready": False, "reasons": ["the run is over"]}
        live, ready = health.live(self.run), health.ready(self.run)
        return {"live": live.ok, "ready": ready.ok, "reasons": [*live.reasons, *ready.reasons]}

    def _incident(self, each: Incident) -> dict[str, Any]:
        return {
            "fault": each.fault.name,
            "title": each.fault.title,
            "subject": each.subject,
            "message": each.message,
            "facts": plain(each.facts),
            "since": each.since,
            "last": each.last,
            "count": each.count,
            "open": each.open,
            "advice": each.fault.advice,
            "playbook": f"{self.run.settings.status.playbook}#{each.fault.anchor}",
        }


def _dead_letters(counts: Mapping[str, int]) -> dict[str, Any]:
    """Those of this run, the most frequent reason first."""
    found = sorted(counts.items(), key=lambda each: -each[1])
    return {
        "held": sum(counts.values()),
        "by_reason": [
            {"reason": reason, "class": class_of(reason).value, "count": count}
            for reason, count in found
        ],
        "advice": {each.value: advice for each, advice in ADVICE.items()},
    }


def _line(each: LogLine) -> dict[str, Any]:
    return {
        "when": each.when,
        "level": each.level,
        "event": each.event,
        "facts": plain(each.facts),
    }


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a log line tells, in values that JSON has."""
    return {
        key: value if isinstance(value, int | float | str | bool | None) else str(value)
        for key, value in facts.items()
    }
