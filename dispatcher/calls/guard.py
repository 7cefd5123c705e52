"""The guard of a lane: stops it when money is burnt for nothing, and lets it try again."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.ledger.money import dollars

_FAILED_S: Final = 300.0
_LONGEST: Final = 16  # times the first probe's wait

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """When it stops: see `docs/control.md`. `probe_s`: until one call is tried."""

    cost_band: float = 3.0
    failed_share: float = 0.5
    growth: float = 3.0
    calls: int = 20
    probe_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Call:
    when: float
    cost: int
    expected: int
    results: int
    failed: int
    ratio: float | None


class Guard:
    """Watches the last calls of `lane`. Calls that cost nothing never stop it."""

    def __init__(self, lane: str, limits: GuardLimits, clock: Clock) -> None:
        self._lane, self._limits, self._clock = lane, limits, clock
        self._calls: deque[_Call] = deque(maxlen=max(1000, limits.calls))
        self._reason: str | None = None
        self._probe_at = math.inf
        self._wait_s = limits.probe_s
        self._probing = False

    @property
    def reason(self) -> str | None:
        """Why nothing is sent; None while all is well."""
        return self._reason

    def may_send(self) -> bool:
        """Whether a call may go: always while closed, and when the time of a probe has come."""
        return self._reason is None or self._clock.monotonic() >= self._probe_at

    def sending(self) -> None:
        """A call goes. If that is the probe, no other does until it is back, or overdue."""
        self._probing = self._reason is not None
        if self._probing:
            # One that the platform refuses never comes back to `note`: the next takes its place.
            self._probe_at = self._clock.monotonic() + self._wait_s

    def note(
        self, *, cost: int, results: int, expected: int, failed_cost: int, ratio: float | None
    ) -> None:
        """A call came back. Money in pico-dollars; `ratio`: duration over prediction, if known."""
        call = _Call(self._clock.monotonic(), cost, expected, results, failed_cost, ratio)
        if self._reason is not None:
            if self._probing:
                self._judge_probe(call)
            return
        self._calls.append(call)
        if reason := self._trouble():
            self._open(reason)

    def reset(self) -> None:
        """Go on as if nothing had been."""
        if self._reason is not None:
            _log.info(
                "the guard is opened", ended="guard_closed", subject=self._lane, lane=self._lane
            )
        self._reason, self._probing, self._wait_s = None, False, self._limits.probe_s
        self._calls.clear()

    def _judge_probe(self, call: _Call) -> None:
        self._probing = False
        good = (
            call.results > 0
            and not call.failed
            and call.cost <= self._limits.cost_band * call.expected
            and (call.ratio is None or call.ratio <= self._limits.growth)
        )
        if good:
            self.reset()
            return
        longest = _LONGEST * self._limits.probe_s
        self._wait_s = min(longest, 2 * self._wait_s)
        self._probe_at = self._clock.monotonic() + self._wait_s

    def _open(self, reason: str) -> None:
        self._reason = reason
        self._probe_at = self._clock.monotonic() + self._wait_s
        _log.warning(
            "the guard stops a lane",
            incident="guard_closed",
            subject=self._lane,
            lane=self._lane,
            why=reason,
            tried_again_in_s=self._wait_s,
        )

    def _trouble(self) -> str | None:
        limits, last = self._limits, list(self._calls)[-self._limits.calls :]
        if len(last) < limits.calls:
            return None
        if not any(each.cost for each in last):
            return None  # a busy machine is slow, and burns nothing
        cost, expected = sum(each.cost for each in last), sum(each.expected for each in last)
        results = sum(each.results for each in last)
        if expected and cost > limits.cost_band * expected:
            each = dollars(cost // results) if results else "everything, and there is none"
            return (
                f"a result costs {each}, {cost / expected:.1f} times what was expected "
                "(guard.cost_band)"
            )
        ratios = [each.ratio for each in last if each.ratio is not None]
        if len(ratios) >= limits.calls / 2 and median(ratios) > limits.growth:
            return f"calls take {median(ratios):.1f} times what they took (guard.growth)"
        return self._failures(last[0].when)

    def _failures(self, since: float) -> str | None:
        begin = min(since, self._clock.monotonic() - _FAILED_S)
        recent = [each for each in self._calls if each.when >= begin]
        cost = sum(each.cost for each in recent)
        failed = sum(each.failed for each in recent)
        if cost and failed > self._limits.failed_share * cost:
            return (
                f"{dollars(failed)} of the last {dollars(cost)} went to calls that failed "
                "(guard.failed_share)"
            )
        return None
