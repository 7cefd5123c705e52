"""Traces: what was done with an event, from its source to its sinks, as OpenTelemetry's spans.

    event -- take, decode, resolve, wait, call -- infer, write <sink> ..., settle, commit
                                           `~~> batch: a trace of its own

A trail is written while the event is under way (`dispatcher.traces.trail`), and its spans are made
when it is settled. They are sent by a thread of OpenTelemetry's own, so nothing waits for a
collector; what that does not take in time is dropped.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple

from dispatcher.clock import Clock, SystemClock
from dispatcher.conclusions import Conclusion, Writable
from dispatcher.deadline import Deadline
from dispatcher.errands import Errand
from dispatcher.errors import SettingsError
from dispatcher.outlet import Outlet
from dispatcher.settings.traces import Traces as Section
from dispatcher.traces.trail import Facts, Ids, Kind, Shared, Step, Trail
from ingest.events import Partition, Position
from sinks.deadletters import DeadLetter
from sinks.record import ResultRecord

if TYPE_CHECKING:
    from dispatcher.traces.spans import Spans

_FLUSH_S: Final = 2.0
_LOOK_S: Final = 0.02
_HASHES: Final = 2**64
_UNCOMMITTED: Final = 16_384
"""Events that wait for their commit at most: of those before them it is not told."""


class _Settled(NamedTuple):
    """An event that is not committed yet; `since` in monotonic seconds."""

    partition: Partition
    since: float
    root: Ids


@dataclass(frozen=True, slots=True)
class Traces:
    """The traces of one run, of a `share` of its events."""

    share: float
    clock: Clock
    spans: Spans
    _settled: deque[_Settled] = field(default_factory=lambda: deque(maxlen=_UNCOMMITTED))

    def begin(self, errand: Errand) -> Trail | None:
        """The trail of an event whose turn it is; None if it is not among those traced."""
        if not within(self.share, errand.delivery.position):
            return None
        trail = Trail(self.clock.monotonic, errand.started, errand.started)
        trail.step("take")
        return trail

    def watch(self, outlets: Iterable[Outlet]) -> None:
        """See when they store something."""
        for each in outlets:
            each.on_stored = self.stored

    def stored(self, sink: str, conclusions: Sequence[Writable]) -> None:
        """A sink has these now."""
        facts = {"lookback.rows": len(conclusions)}
        for each in conclusions:
            if isinstance(each, Conclusion) and (trail := each.errand.trail) is not None:
                step = trail.beside(f"write {sink}", facts)
                if trail.root is not None:  # a sink that nobody waits for
                    self._send(step, trail.root, self._offset())

    def note(self, conclusion: Conclusion) -> None:
        """Be told of a settled errand: its trace is whole."""
        trail = conclusion.errand.trail
        if trail is None:
            return
        last, offset = trail.settle(), self._offset()
        parent = self.spans.parent_of(conclusion.errand.delivery.headers)
        trail.root = root = self.spans.new(parent.trace if parent else None)
        self.spans.send(
            "event",
            root,
            (trail.started + offset, last.end + offset),
            _facts(conclusion),
            parent=parent,
            remote=True,
            kind=Kind.TAKES,
            error=conclusion.row.reason if isinstance(conclusion.row, DeadLetter) else None,
        )
        for step in trail.steps:
            self._send(step, root, offset)
        home = conclusion.errand.delivery.position.home
        self._settled.append(_Settled(home, last.end, root))

    def committed(self, partitions: Collection[Partition], as_of: float) -> None:
        """What was settled in these by then (monotonic s) does not come again."""
        now, offset = self.clock.monotonic(), self._offset()
        for _ in range(len(self._settled)):
            each = self._settled.popleft()
            if each.partition in partitions and each.since <= as_of:
                self._send(Step("commit", each.since, now), each.root, offset)
            else:
                self._settled.append(each)

    def _send(self, step: Step, parent: Ids, offset: float) -> None:
        ids = self.spans.new(parent.trace)
        self.spans.send(
            step.name,
            ids,
            (step.start + offset, step.end + offset),
            step.facts,
            parent=parent,
            link=self._batch(step.shared, offset) if step.shared else None,
            kind=Kind.ASKS if step.shared or step.name.startswith("write ") else Kind.INSIDE,
            error=step.error,
        )
        for each in step.inside:
            self._send(each, ids, offset)

    def _batch(self, shared: Shared, offset: float) -> Ids:
        """The span of a call, sent with the first event that was part of it."""
        if shared.root is None:
            shared.root = self.spans.new()
            times = (shared.start + offset, shared.end + offset)
            self.spans.send("batch", shared.root, times, shared.facts)
        return shared.root

    def _offset(self) -> float:
        """What makes unix seconds of monotonic ones: the steps of a trace never overlap."""
        return self.clock.now() - self.clock.monotonic()

    async def close(self) -> None:
        """Send what is left, for two seconds at most."""
        # One that asyncio would wait for could hold the end up for as long as a collector hangs.
        flushing = threading.Thread(target=self.spans.flush, daemon=True)
        flushing.start()
        deadline = Deadline.after(SystemClock(), _FLUSH_S)
        while flushing.is_alive():
            if not deadline.left():
                self.spans.give_up()
                return
            await asyncio.sleep(_LOOK_S)


def open_traces(
    stack: AsyncExitStack, given: Section, clock: Clock, run_id: str, *, simulated: bool
) -> Traces | None:
    """The traces of a run as the settings want them, closed with `stack`; None: not at all.

    Raises:
        SettingsError: they are wanted, and OpenTelemetry is not installed.
    """
    if given.endpoint is None or not given.share:
        return None
    try:
        from dispatcher.traces.spans import Spans
    except ImportError as error:
        raise SettingsError(
            f"traces.endpoint is set, and {error.name or 'OpenTelemetry'} is not installed: "
            "pip install 'lookback[traces]', or unset it"
        ) from error
    facts: Facts = {
        "service.name": "lookback",
        "service.version": version("lookback"),
        "service.instance.id": run_id,
        "lookback.simulated": simulated,
    }
    traces = Traces(given.share, clock, Spans(given.endpoint, facts))
    stack.push_async_callback(traces.close)
    return traces


def within(share: float, position: Position) -> bool:
    """Whether the event at `position` is of that share: the same events in every run."""
    if share >= 1:
        return True
    digest = blake2b(str(position).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * _HASHES


def _facts(conclusion: Conclusion) -> Facts:
    errand, row = conclusion.errand, conclusion.row
    facts: dict[str, str | int | float | bool | None] = {
        "lookback.position": str(errand.delivery.position),
        "lookback.lane": errand.assignment.lane,
        "lookback.outcome": conclusion.outcome.value,
        "lookback.bytes": len(errand.delivery.body),
    }
    if row is not None:
        facts |= {
            "lookback.survey": row.survey,
            "lookback.alert_id": row.alert_id,
            "lookback.result_id": row.result_id,
            "lookback.reason": row.reason,
            "lookback.cost_usd_pico": row.cost_usd_pico,
        }
    if isinstance(row, ResultRecord):
        facts["lookback.status"] = row.status
    return {name: value for name, value in facts.items() if value is not None}
