"""What to do about questions without a verdict: whom to ask again, whose money, whom to blame.

A worker that dies takes its partition with it, and one bad item may be the cause. It says where it
is while it works, so the items it was looking at are suspects and all others are innocent: those
are asked again at once, together, from the purse for retries. Suspects are looked at one after the
other by a worker that says so each time; the one it dies of is asked alone, and if that fails
twice, it becomes a dead letter. This takes five calls, whatever the size of the batch.

Where a worker could not say where it was, suspects are halved. Only one half is asked, since that
tells about the other as well; halves that are found innocent without having been asked are put
aside, and asked together in the end. No good item is paid for twice because of a bad neighbour,
except for what a worker had done when it died.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from dispatcher.errands import Question
from dispatcher.errors import InvocationError
from dispatcher.groups import Part, Replies
from dispatcher.ledger.accounts import Purse
from workers.wire import Verdict, VerdictKind

TOGETHER: Final = 64
"""Items that a worker looks at together (`workers.inference.CHUNK`)."""


_BLAMED: Final = 2
"""Workers that an item must have lost alone: one may be bad luck."""


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """No verdict could be had for an item; `reason` is a code, `detail` the last cause."""

    reason: str
    detail: str


Reply = Verdict | Unanswerable


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the item that kills, without marks.

    Of `rest` one is suspected if the half that is being asked comes back; those `aside` are
    innocent and wait to be asked.
    """

    rest: Sequence[Question]
    aside: Sequence[Question]


@dataclass(frozen=True, slots=True)
class Asking:
    """Questions that are asked together. `careful`: one after the other (see `Groups.ask`).

    `tries`: how often the platform refused to take them.
    """

    questions: Sequence[Question]
    purse: Purse
    careful: bool = False
    search: Search | None = None
    tries: int = 0

    @property
    def everybody(self) -> Sequence[Question]:
        """All that wait for its outcome."""
        if not self.search:
            return self.questions
        return [*self.questions, *self.search.rest, *self.search.aside]


@dataclass(slots=True)
class Findings:
    """Who is answered, and what is to be asked next."""

    answered: list[tuple[Question, Reply]] = field(default_factory=list)
    next: list[Asking] = field(default_factory=list)


def judge(asked: Asking, replies: Replies, attempts: int) -> Findings:
    """Every question of `asked` (and of its search) is in the findings exactly once.

    `attempts`: how often an item must have been part of a call before it is given up.
    """
    found = Findings()
    unsaid: list[Question] = []
    for question in asked.questions:
        verdict = replies.verdicts.get(question.key)
        if verdict is None:
            continue
        if verdict.kind is not VerdictKind.TRY_AGAIN:
            found.answered.append((question, verdict))
        elif question.attempts >= attempts and len(asked.questions) == 1:
            why = f"the worker said: {verdict.reason}"
            found.answered.append((question, Unanswerable("tried_in_vain", why)))
        else:
            unsaid.append(question)
    found.next += _once_more(unsaid)
    lost = [part for part in replies.parts if part.lost]
    for part in lost:
        open_ = [each for each in part.questions if each.key not in replies.verdicts]
        if open_ and part.lost:
            _narrow_down(asked, part, open_, part.lost, attempts, found)
    if not lost and asked.search:
        _look_at_the_rest(asked.search, found)
    return found


def _once_more(questions: Sequence[Question]) -> list[Asking]:
    """Their time did not suffice: first as they are, then in halves."""
    if not questions:
        return []
    if len(questions) == 1 or questions[0].attempts == 1:
        return [Asking(questions, Purse.RETRY)]
    half = len(questions) // 2
    return [Asking(part, Purse.RETRY) for part in (questions[:half], questions[half:])]


def _narrow_down(
    asked: Asking,
    part: Part,
    open_: Sequence[Question],
    error: InvocationError,
    attempts: int,
    found: Findings,
) -> None:
    if not error.blames_items:
        for each in open_:
            each.attempts -= 1  # it was not their turn
        again = Asking(open_, asked.purse, asked.careful, asked.search, asked.tries + 1)
        found.next.append(again)
        return
    aside = [*asked.search.rest, *asked.search.aside] if asked.search else []
    if len(part.questions) == 1:
        open_[0].failed_alone += 1
        if open_[0].attempts >= attempts and open_[0].failed_alone >= _BLAMED:
            found.answered.append((open_[0], Unanswerable(error.reason, str(error))))
        else:
            found.next.append(Asking(open_, Purse.POISON))
        _ask(aside, found)
        return
    if error.reached is not None:
        step = 1 if asked.careful else TOGETHER
        looked_at = {each.key for each in part.questions[error.reached : error.reached + step]}
        suspects = [each for each in open_ if each.key in looked_at]
        if suspects:
            careful = len(suspects) > 1
            found.next.append(Asking(suspects, Purse.POISON, careful))
        _ask([*(each for each in open_ if each.key not in looked_at), *aside], found)
        return
    found.next.append(_halve(open_, aside))


def _look_at_the_rest(search: Search, found: Findings) -> None:
    """The half that was asked came back: the culprit is in the other, if there is one."""
    if len(search.rest) <= 1:
        if search.rest:
            found.next.append(Asking(search.rest, Purse.POISON))
        _ask(search.aside, found)
    else:
        found.next.append(_halve(search.rest, search.aside))


def _halve(suspects: Sequence[Question], aside: Sequence[Question]) -> Asking:
    if len(suspects) == 1:
        return Asking(suspects, Purse.POISON, search=Search((), aside) if aside else None)
    half = len(suspects) // 2
    return Asking(suspects[:half], Purse.POISON, search=Search(suspects[half:], aside))


def _ask(innocent: Sequence[Question], found: Findings) -> None:
    if innocent:
        found.next.append(Asking(innocent, Purse.RETRY))
