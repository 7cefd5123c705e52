"""What is measured: sides, sizes, rounds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.delivery import decoded, runs, side, topics, visit
from benchmarks.delivery.runs import Compared, Measured, Plan

FETCH: Final = 500
UNDER_WAY: Final = 1000
QUEUE_COMMIT_S: Final = 0.25
QUEUE_BYTES: Final = 1000
_VISIT_LEAD_S: Final = 12.0  # for the join of the group, and the start of the process

BY_EVENT: Final = (side.FASTSTREAM, side.QUIX)
BY_BATCH: Final = (side.FASTSTREAM_BATCH, side.QUIX_BATCH)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the servers are, and the core of all sides."""

    servers: str
    queues: str
    core: int

    async def consuming(self, count: int, nbytes: int, rounds: int, *others: str) -> list[Plan]:
        """Read a topic from its beginning to its end. `others`: sides besides the two."""
        topic = await topics.filled(self.servers, count, topics.noise(nbytes))
        return self._reading(topic, count, rounds, (side.BARE, side.LOOKBACK, *others))

    async def decoding(self, count: int, rounds: int) -> list[Plan]:
        """The same with notices that Lookback decodes and the bare consumer does not."""
        topic = await topics.filled(self.servers, count, decoded.notice)
        return self._reading(topic, count, rounds, (side.BARE, side.DECODED))

    def _reading(self, topic: str, count: int, rounds: int, names: Sequence[str]) -> list[Plan]:
        common = {"servers": self.servers, "topic": topic}
        own: dict[str, dict[str, Any]] = {
            side.BARE: {"count": count, "fetch": FETCH},
            side.BARE_FOR: {"count": count},
            side.LOOKBACK: {"fetch": FETCH},
            side.DECODED: {"items": 2 * FETCH, "fetch": FETCH},
        }
        return [
            {name: {**common, **own[name], "group": topics.fresh("group")} for name in names}
            for _ in range(rounds)
        ]

    async def answering(self, counts: Mapping[str, int], kind: str, rounds: int) -> list[Plan]:
        """Event in, work, result out, commit; so many events for each side."""
        sizes = set(counts.values())
        filled = {n: await topics.filled(self.servers, n, topics.noise(1000)) for n in sizes}
        return [
            {name: await self._answering(name, n, filled[n], kind) for name, n in counts.items()}
            for _ in range(rounds)
        ]

    async def _answering(self, name: str, count: int, topic: str, kind: str) -> dict[str, Any]:
        ours = name == side.LOOKBACK_WORK
        return {
            "servers": self.servers,
            "topic": topic,
            "group": topics.fresh("group"),
            "to": await topics.create(self.servers, topics.fresh("results")),
            "kind": kind,
            **({"items": UNDER_WAY, "fetch": FETCH} if ours else {"count": count}),
        }

    async def measure(self, *comparisons: list[Plan], shared: bool = False) -> list[Compared]:
        """Measure, and see that each side did what it was to do."""
        found = runs.measure(comparisons, self.core, shared=shared)
        for compared, plans in zip(found, comparisons, strict=True):
            for measured, plan in zip(compared.rounds, plans, strict=True):
                for name, arguments in plan.items():
                    await self._check(name, measured[name], arguments)
        return found

    async def one(self, comparison: list[Plan]) -> Compared:
        """Measure one by itself."""
        return (await self.measure(comparison))[0]

    async def _check(self, name: str, found: Measured, arguments: dict[str, Any]) -> None:
        if "queue" in arguments:
            if left := await topics.drop_queue(self.queues, arguments["queue"]):
                raise RuntimeError(f"{name} left {left} messages in the queue")
            return
        committed = await topics.committed(self.servers, arguments["topic"], arguments["group"])
        stored = found.events
        if to := arguments.get("to"):
            stored = await topics.stored(self.servers, to, found.events)
        if not found.events == committed == stored:
            raise RuntimeError(
                f"{name}: {found.events} done, {committed} committed, {stored} stored"
            )

    async def draining(self, count: int, rounds: int) -> list[Plan]:
        """Receive and delete all messages of a queue; each run has a queue of its own."""
        own: dict[str, dict[str, Any]] = {
            side.BARE_QUEUE: {},
            side.LOOKBACK_QUEUE: {"commit_s": QUEUE_COMMIT_S, "receivers": 2},
        }
        common = {"url": self.queues, "count": count}
        return [
            {
                name: {
                    **common,
                    **more,
                    "queue": await topics.filled_queue(self.queues, count, QUEUE_BYTES),
                }
                for name, more in own.items()
            }
            for _ in range(rounds)
        ]

    def overhead(self, events: int, rounds: int) -> dict[int, float]:
        """Microseconds of the lane for each event, by how many are in flight."""
        found = _child("core", str(self.core), str(events), str(rounds))
        return {int(depth): us for depth, us in found.items()}

    async def memory(self, count: int, marks: list[int]) -> dict[int, float]:
        """Resident memory (MiB) where so many events were taken."""
        topic = await topics.filled(self.servers, count, topics.noise(1000))
        arguments = {"servers": self.servers, "topic": topic, "group": topics.fresh("group")}
        found = _child("memory", str(self.core), json.dumps({**arguments, "marks": marks}))
        if found["events"] != count:
            raise RuntimeError(f"{found['events']} of {count} events were taken")
        return {int(mark): mib for mark, mib in found["rss_mib"].items()}

    async def visit(self, count: int) -> dict[str, Any]:
        """A visit arrives at the pace of the survey; what a lane makes of it."""
        topic = await topics.create(self.servers, topics.fresh("visit"))
        halves, start = visit.packets(), time.time() + _VISIT_LEAD_S
        arguments = {"servers": self.servers, "topic": topic, "count": count, "start": start}
        taking = asyncio.create_task(
            asyncio.to_thread(_child, "visit", str(self.core), json.dumps(arguments))
        )
        late_s = await topics.paced(
            self.servers,
            topic,
            count,
            visit.PACKETS / visit.WINDOW_S,
            lambda number: visit.packet(halves, number),
            start,
        )
        return {
            **await taking,
            "sender_late_s": late_s,
            "packet_bytes": len(visit.packet(halves, 1)),
        }


def _child(name: str, *arguments: str) -> dict[str, Any]:
    command = ["timeout", str(runs.LIMIT_S), sys.executable, "-m", f"benchmarks.delivery.{name}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} could not be measured: {done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures
