"""Health: whether a run is alive, and whether it can do its work now.

Not alive means that only a restart helps: the loop of the lane makes no turns. Held back by a sink,
by money or by a person it is alive, for as long as that takes. Not ready means that something it
needs is away, and that a restart does not help.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatcher.breaker import State
from dispatcher.health.pulse import Doing
from dispatcher.outlet import Outlet

if TYPE_CHECKING:
    from dispatcher.service import Run


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`, or the reasons why not, each a sentence."""

    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is nothing to say against it."""
        return not self.reasons


def live(run: Run) -> Verdict:
    """Whether the loop of the lane makes its turns."""
    silent_s = run.lane.pulse.silent_s
    if silent_s <= run.settings.status.stalled_s:
        return Verdict(())
    return Verdict((f"the lane hangs: it has been {run.lane.doing} for {silent_s:.0f} s",))


def ready(run: Run) -> Verdict:
    """Whether source, workers, ledger and required sinks are there, and more events are taken."""
    return Verdict((*live(run).reasons, *_absent(run)))


def _absent(run: Run) -> Iterator[str]:
    match run.lane.doing:
        case Doing.OPENING:
            yield "the source is not open yet"
        case Doing.DRAINING | Doing.COMMITTING | Doing.ENDED:
            yield f"no more events are taken ({run.lane.doing})"
    for each in run.board.open():
        if each.fault.name == "broker_gone":
            yield f"the source does not answer: {each.subject}"
    if not run.groups.slots:
        yield "no worker is there"
    if run.pipeline.scheduler.ledger.away:
        yield "the ledger does not answer, so no money can be set aside"
    yield from filter(None, map(_refusal, run.pipeline.writer.outlets))


def _refusal(outlet: Outlet) -> str | None:
    if not outlet.required or outlet.breaker.state is State.CLOSED:
        return None
    why = f": {outlet.error}" if outlet.error else ""
    return f"the sink {outlet.name} takes no rows{why}"
