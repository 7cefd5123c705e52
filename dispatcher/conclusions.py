"""How an errand ends: its outcome, and what the sinks are to keep of it.

One place turns events, stamps and replies into result records and dead letters, so that
every row says the same things in the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.books import Outcome
from dispatcher.calls.triage import Reply, Unanswerable
from dispatcher.clock import Clock
from dispatcher.errands import Errand, Question
from dispatcher.groups import ModelIdentity
from ingest.errors import DecodeError, NotApplicable
from ingest.events import Event, Position, Stamp
from sinks.deadletters import DeadLetter
from sinks.record import ResultRecord, Status
from workers.wire import Estimate, VerdictKind

_PICO_PER_MICRO: Final = 10**6


@dataclass(frozen=True, slots=True, eq=False)
class Conclusion:
    """An errand, its outcome, and the row that must be stored before it is settled.

    `row` is None for duplicates and filtered events: there is nothing to store.
    """

    errand: Errand
    outcome: Outcome
    row: ResultRecord | DeadLetter | None = None
    stamp: Stamp | None = None
    """What the model saw, where it was asked."""
    pz: str | None = None
    """Sketch of p(z), where there is one."""


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """A row that a person has decided on. Its errand was settled when it was held for that."""

    row: ResultRecord


Writable = Conclusion | Decided


def _as_it_is(record: ResultRecord) -> ResultRecord:
    return record


@dataclass(frozen=True, slots=True)
class Clerk:
    """Writes the rows of one run. `examine`: says of an estimate whether a person looks at it."""

    run_id: str
    model: ModelIdentity
    clock: Clock
    tense: str = "current"
    redriven: dict[Position, int] = field(default_factory=dict)
    examine: Callable[[ResultRecord], ResultRecord] = _as_it_is

    def passed_over(self, errand: Errand, outcome: Outcome) -> Conclusion:
        """A duplicate or filtered event."""
        return Conclusion(errand, outcome)

    def dead(self, errand: Errand, error: DecodeError, event: Event | None = None) -> Conclusion:
        """A delivery that cannot be read, or whose stamp cannot."""
        return self._dead(errand, event, error.reason, error.detail, attempts=0)

    def not_applicable(self, errand: Errand, event: Event, why: NotApplicable) -> Conclusion:
        """A good event that the model cannot be asked about."""
        record = self._record(errand, event, None, status=Status(why.reason), reason=why.detail)
        return Conclusion(errand, Outcome.NOT_APPLICABLE, record)

    def answered(self, question: Question, reply: Reply) -> Conclusion:
        """What the worker said, or that it could not be made to say anything."""
        errand, event = question.errand, question.event
        if isinstance(reply, Unanswerable):
            return self._dead(errand, event, reply.reason, reply.detail, *question.spent)
        if reply.kind is VerdictKind.BAD_INPUT:
            detail = "the worker refused the stamp"
            return self._dead(errand, event, reply.reason or "bad_input", detail, *question.spent)
        if reply.estimate is None:
            record = self._record(
                errand,
                event,
                question.stamp,
                status=Status.OUT_OF_DOMAIN,
                reason=reply.reason,
                **_cost(question),
            )
            return Conclusion(errand, Outcome.NOT_APPLICABLE, record, question.stamp)
        record = self._record(
            errand,
            event,
            question.stamp,
            status=Status.OK,
            t_inferred=self.clock.now(),
            **_cost(question),
            **_redshift(reply.estimate),
        )
        row = self.examine(record)
        return Conclusion(errand, Outcome.WRITTEN, row, question.stamp, reply.estimate.pz)

    def _dead(
        self,
        errand: Errand,
        event: Event | None,
        reason: str,
        detail: str,
        attempts: int,
        cost: int | None = None,
    ) -> Conclusion:
        position = errand.delivery.position
        letter = DeadLetter(
            src_topic=position.source,
            src_partition=position.partition,
            src_offset=position.offset,
            reason=reason,
            detail=detail,
            attempts=attempts,
            cost_usd_pico=cost,
            body=errand.delivery.body,
            headers=dict(errand.delivery.headers),
            survey=event.survey if event else None,
            alert_id=str(event.alert_id) if event else None,
            result_id=event.key(self.model.key) if event else None,
            run_id=self.run_id,
            t_dead=self.clock.now(),
            redriven=self.redriven.get(position, 0),
        )
        return Conclusion(errand, Outcome.DEAD, letter)

    def _record(
        self, errand: Errand, event: Event, stamp: Stamp | None, **answer: Any
    ) -> ResultRecord:
        position, host = errand.delivery.position, event.host
        return ResultRecord(
            result_id=event.key(self.model.key),
            survey=event.survey,
            alert_id=str(event.alert_id),
            source_id=event.source_id,
            object_id=event.object_id,
            ra=event.ra_deg,
            dec=event.dec_deg,
            midpoint_mjd_tai=event.mjd_tai,
            z_target=event.target,
            host_id=host.id if host else None,
            host_sep_arcsec=host.separation_arcsec if host else None,
            host_prob=host.probability if host else None,
            bands_used="".join(stamp.bands_used) if stamp else None,
            input_ref=stamp.origin if stamp else None,
            model_name=self.model.name,
            model_version=self.model.version,
            weights_sha256=self.model.weights_sha256,
            calibration_id=self.model.calibration_id,
            run_id=self.run_id,
            tense=self.tense,
            src_topic=position.source,
            src_partition=position.partition,
            src_offset=position.offset,
            src_schema_id=event.schema_id,
            t_broker_in=errand.delivery.received,
            t_published=self.clock.now(),
            **answer,
        )


def _cost(question: Question) -> dict[str, int]:
    return {
        "cost_usd_pico": question.cost,
        "cost_usd_micro": round(question.cost / _PICO_PER_MICRO),
    }


def _redshift(estimate: Estimate) -> dict[str, float | int | None]:
    return {
        "z_median": estimate.z_median,
        "z_mean": estimate.z_mean,
        "z_mode": estimate.z_mode,
        "z_err68_low": estimate.z_err68_low,
        "z_err68_high": estimate.z_err68_high,
        "z_err95_low": estimate.z_err95_low,
        "z_err95_high": estimate.z_err95_high,
        "quality_flag": estimate.quality_flag,
        "out_of_domain": estimate.out_of_domain,
    }
