"""The questions of one lane that wait for a worker, and what holds them back."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from dispatcher.calls.guard import Guard
from dispatcher.calls.policy import Policy
from dispatcher.calls.triage import Asking, Reply
from dispatcher.clock import Clock
from dispatcher.errands import Question
from dispatcher.ledger.accounts import Purse
from dispatcher.ledger.ledger import Ledger


class Holder(StrEnum):
    """What waiting questions wait for."""

    NOTHING = "nothing"
    COMPANY = "company"
    WORKERS = "workers"
    MONEY = "money"
    GUARD = "guard"
    LIVE = "live"


def _nobody_listens(question: Question, reply: Reply) -> None:
    raise RuntimeError(f"nobody waits for the reply to {question.key}: {reply}")


@dataclass(slots=True)
class Queue:
    """First in, first out; what is to be asked again goes first.

    `answered` is told of every question exactly once. `held` and `held_s`: what the front waits for
    now, and for how long such things were waited for so far.
    """

    lane: str
    purse: Purse
    policy: Policy
    guard: Guard
    ledger: Ledger
    wake: Callable[[], None]
    clock: Clock
    reserve: float = 0.0
    """Share of the workers that this lane leaves to others."""
    answered: Callable[[Question, Reply], None] = _nobody_listens
    paused: bool = False
    """Somebody else goes first: nothing is sent."""
    at_workers: int = 0
    calls: int = 0
    held: Holder = Holder.NOTHING
    why: str | None = None
    held_s: defaultdict[Holder, float] = field(default_factory=lambda: defaultdict(float))
    again: deque[Asking] = field(default_factory=deque)
    waiting: deque[Question] = field(default_factory=deque)
    hurry: int = 0
    """So many at the front go as they are."""
    _since: float = 0.0
    _wake_at: int = 1

    def put(self, question: Question) -> None:
        """A question that is new."""
        self.waiting.append(question)
        # The scheduler is woken for the first one (it then looks when that is due) and for a full
        # batch; who waits for workers or money is looked at when those come.
        if len(self.waiting) >= self._wake_at and self.held not in (Holder.WORKERS, Holder.MONEY):
            self._wake_at = max(self.policy.size().items, len(self.waiting) + 1)
            self.wake()

    def flush(self) -> None:
        """Nothing will join what is waiting: send it as it is."""
        if self.waiting:
            self.hurry = len(self.waiting)
            self.wake()

    def take(self, count: int) -> list[Question]:
        """The oldest `count`."""
        taken = [self.waiting.popleft() for _ in range(count)]
        self.hurry = max(0, self.hurry - count)
        self._wake_at = self.policy.size().items if self.waiting else 1
        return taken

    @property
    def oldest_s(self) -> float:
        """Age of the oldest that waits (s); 0 when none does."""
        return self.clock.monotonic() - self.waiting[0].errand.started if self.waiting else 0.0

    def affordable(self, wanted: int) -> int:
        """How many of `wanted` more questions could be paid, besides those that wait already."""
        size = self.policy.size()
        quote = self.policy.quote(size.items, size.ranks)
        waiting = len(self.waiting)
        per_item = -(-quote.reserve // size.items)
        return max(0, self.ledger.affordable(self.purse, per_item, wanted + waiting) - waiting)

    def hold(self, holder: Holder, why: str | None = None) -> None:
        """Say what the front waits for from now on."""
        now = self.clock.monotonic()
        self.held_s[self.held] += now - self._since
        self.held, self.why, self._since = holder, why, now
