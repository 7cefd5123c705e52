"""The whole road of Lookback but for the model: notices decoded, looked up, recorded, stored.

A notice of 1 KB has no room for a stamp, so each ends as a record that says so: decoding,
the look at seen keys, the record and the write to the sink (in memory) are those of any event.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.delivery.gate import Gate
from benchmarks.delivery.ours import kafka, settings
from dispatcher.books import Outcome
from dispatcher.breaker import Breaker
from dispatcher.checkpoint import Checkpoint
from dispatcher.clock import SystemClock
from dispatcher.conclusions import Clerk, Conclusion
from dispatcher.control import open_queue, open_scheduler
from dispatcher.credit import Credit
from dispatcher.destinations import results_outlet
from dispatcher.errands import Errand
from dispatcher.groups import GroupRunner, ModelIdentity
from dispatcher.intake import Intake
from dispatcher.invokers import InlineInvoker
from dispatcher.lane import Lane, Settle
from dispatcher.ledger.accounts import Purse
from dispatcher.outlet import Outlet
from dispatcher.pipeline import Pipeline
from dispatcher.service import open_intake_parts
from dispatcher.settings import Settings
from dispatcher.writer import Writer
from fmi.meeting.rendezvous import Rendezvous
from sinks.memory import MemorySink

NOTICE_BYTES: Final = 1000
_MODEL: Final = ModelIdentity("none", "0", "0" * 64, None)


def notice(number: int) -> bytes:
    """A new-image notice of 1,000 bytes, without a stamp."""
    fields = {
        "id": number,
        "survey": "bench",
        "ra": number % 360,
        "dec": 10.0,
        "time": 60_000.5,
        "magnitudes": [20.1, 19.2, 18.3, 18.0, 17.9],
        "object": "",
    }
    spare = NOTICE_BYTES - len(json.dumps(fields))
    return json.dumps(fields | {"object": "o" * spare}).encode()


class Gated:
    """The pipeline, behind the gate."""

    def __init__(self, gate: Gate, pipeline: Pipeline) -> None:
        self._gate, self._pipeline = gate, pipeline
        self.flush = pipeline.flush

    @asynccontextmanager
    async def running(self, settle: Settle) -> AsyncIterator[None]:
        """See `Work.running`."""
        async with self._pipeline.running(settle):
            yield

    async def accept(self, errands: Sequence[Errand]) -> None:
        """See `Work.accept`."""
        await self._gate.passed()
        await self._pipeline.accept(errands)


async def notices(
    gate: Gate, servers: str, topic: str, group: str, items: int, fetch: int
) -> dict[str, Any]:
    """From notices in Kafka to records in memory."""
    chosen, sink = settings(items, fetch), MemorySink()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        checkpoint = Checkpoint(folder / "state")
        stack.callback(checkpoint.close)
        pipeline = _pipeline(stack, chosen, checkpoint, sink, folder)
        clock = SystemClock()
        lane = Lane(
            kafka(gate, servers, topic, group),
            Gated(gate, pipeline),
            checkpoint,
            Credit(chosen.flow.items, round(chosen.flow.mib * 2**20), clock),
            clock,
            chosen,
        )
        await lane.run()
    recorded = lane.outcomes[Outcome.NOT_APPLICABLE]
    if recorded != len(sink.records):
        raise RuntimeError(f"{recorded} settled, {len(sink.records)} stored")
    return {"events": recorded}


def _pipeline(
    stack: AsyncExitStack,
    chosen: Settings,
    checkpoint: Checkpoint,
    sink: MemorySink,
    folder: Path,
) -> Pipeline:
    clock = SystemClock()
    decoder, resolver = open_intake_parts(stack, chosen)
    clerk = Clerk("bench", _MODEL, clock)
    groups = GroupRunner(InlineInvoker(_no_model), Rendezvous(), _MODEL, "bench")
    scheduler, durations = open_scheduler(chosen, groups, folder, clock, _MODEL.key)
    dead = Outlet("dead", _no_letters, Breaker(clock), 1)
    return Pipeline(
        Intake(decoder, resolver, checkpoint, clerk, clock, chosen.ingest),
        open_queue(scheduler, durations, chosen, Purse.LIVE),
        scheduler,
        Writer([results_outlet(sink, clock, chosen)], dead),
        listeners=[],
        most_dead=chosen.dead_letters.max_in_a_row,
    )


def _no_model(_event: dict[str, Any], _context: Any) -> Any:
    raise RuntimeError("no notice has a stamp here")


async def _no_letters(conclusions: Sequence[Conclusion]) -> None:
    raise RuntimeError(f"{len(conclusions)} notices could not be read")
