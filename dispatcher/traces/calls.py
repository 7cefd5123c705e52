"""What a call leaves on the trails of its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dispatcher.calls.triage import Asking
from dispatcher.errands import Question
from dispatcher.groups import Part, Replies
from dispatcher.traces.trail import Facts, Shared, Step, Trail


def sent(questions: Sequence[Question]) -> None:
    """They have waited until now."""
    for each in questions:
        if each.errand.trail is not None:
            each.errand.trail.step("wait")


def answered(asking: Asking, replies: Replies) -> None:
    """The call that they were sent with is over."""
    call: _Call | None = None
    for rank, part in enumerate(replies.parts):
        for each in part.questions:
            if (trail := each.errand.trail) is not None:
                call = call or _Call.of(asking, replies, trail)
                call.note(each, trail, rank, part)


@dataclass(frozen=True, slots=True)
class _Call:
    shared: Shared

    @classmethod
    def of(cls, asking: Asking, replies: Replies, trail: Trail) -> _Call:
        facts: Facts = {
            "lookback.group": replies.group,
            "lookback.ranks": len(replies.parts),
            "lookback.items": len(asking.questions),
            "lookback.purse": asking.purse.value,
            "lookback.lost": sum(part.lost is not None for part in replies.parts),
        }
        return cls(Shared(trail.until, trail.monotonic(), facts))

    def note(self, question: Question, trail: Trail, rank: int, part: Part) -> None:
        cost = question.cost - trail.paid
        trail.paid = question.cost
        facts = {
            **self.shared.facts,
            "lookback.attempt": question.attempts,
            "lookback.rank": rank,
            "lookback.cost_usd_pico": cost,
        }
        lost = part.lost.reason if part.lost else None
        inside = _inference(part, trail.until, trail.monotonic())
        trail.step("call", facts, lost, inside, self.shared)


def _inference(part: Part, start: float, end: float) -> tuple[Step, ...]:
    """What the worker says of its own time.

    Its clock is not ours: how long it took is known, and not when in the call that was. So the
    worker's time is put into the middle, as if way out and way back were equally long.
    """
    ms = _milliseconds(part.ms)
    if "infer" not in ms or "total" not in ms:
        return ()
    before = sum(ms.get(each, 0.0) for each in ("decode", "meet", "weights"))
    began = start + max(0.0, end - start - ms["total"] / 1000) / 2 + before / 1000
    began = min(began, end)
    facts = {f"lookback.worker.{name}_ms": value for name, value in ms.items()}
    return (Step("infer", began, min(began + ms["infer"] / 1000, end), facts),)


def _milliseconds(said: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in said.items() if isinstance(value, int | float)}
