"""What to do about items that got no verdict: ask again, narrow down, give up.

A worker that dies takes its partition with it, and one bad item may be the cause. The
partition is asked once more as it is (most deaths are bad luck); if it dies again it is
halved until the item that kills is alone. That item becomes a dead letter; all others get
their verdicts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from dispatcher.errands import Question
from dispatcher.groups import GroupRunner, Replies, cut
from workers.wire import Verdict, VerdictKind


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """No verdict could be had for an item; `reason` is a code, `detail` the last cause."""

    reason: str
    detail: str


Reply = Verdict | Unanswerable


@dataclass(frozen=True, slots=True)
class Triage:
    """Gets a reply for every question of a batch. `attempts`: how often one is asked at least."""

    groups: GroupRunner
    attempts: int

    async def settle(self, batch: Sequence[Question]) -> AsyncIterator[tuple[Question, Reply]]:
        """Yield each question with its reply, exactly once, as soon as it is known."""
        waiting = [batch]
        while waiting:
            questions = waiting.pop()
            for question in questions:
                question.attempts += 1
            replies = await self.groups.ask([question.item() for question in questions])
            unsettled: list[Question] = []
            for question in questions:
                reply = self._reply(question, replies, alone=len(questions) == 1)
                if reply is None:
                    unsettled.append(question)
                else:
                    yield question, reply
            waiting.extend(_next_batches(unsettled))

    def _reply(self, question: Question, replies: Replies, *, alone: bool) -> Reply | None:
        """The final reply, or None if the question is to be asked again."""
        verdict = replies.verdicts.get(question.key)
        if verdict is not None and verdict.kind is not VerdictKind.TRY_AGAIN:
            return verdict
        # Only what fails alone can be blamed: in company, the neighbour may be the cause.
        if question.attempts < self.attempts or not alone:
            return None
        if verdict is not None:
            return Unanswerable("tried_in_vain", f"the worker said: {verdict.reason}")
        cause = replies.unanswered[question.key]
        return Unanswerable(cause.reason, str(cause))


def _next_batches(questions: list[Question]) -> list[Sequence[Question]]:
    if not questions:
        return []
    if questions[0].attempts == 1 or len(questions) == 1:
        return [questions]
    return cut(questions, 2)
