"""A run for the page to show: real events, the real model, real sinks; only the end is open."""

import asyncio
import sqlite3
from collections import defaultdict
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import aiohttp

from dispatcher import service
from dispatcher.demo import render_night
from dispatcher.invokers import InlineInvoker
from dispatcher.service import Run
from dispatcher.settings import Settings
from dispatcher.status.server import serve
from dispatcher.status.snapshot import Snapshots
from ingest.sources.memory import MemorySource
from workers.handler import handler

TOKEN = "open-sesame"
SEED = 20261123
PRICE = "aws-lambda/us-east-1/arm64"


class Patient(MemorySource):
    """A source that has no end until somebody says so."""

    ended = False

    @property
    def exhausted(self):
        return self.ended and super().exhausted


def night_of(galaxies):
    """Gives, for a folder, the bodies of a simulated night by partition."""

    def bodies(folder):
        render_night(folder / "night.sqlite", galaxies, SEED)
        found = defaultdict(list)
        with closing(sqlite3.connect(folder / "night.sqlite")) as archive:
            for partition, body in archive.execute("SELECT partition, body FROM events"):
                found[partition].append(body)
        return found

    return bodies


@dataclass
class Stage:
    """A run, its page, and the source that decides how long it lasts."""

    run: Run
    source: Patient
    address: str
    snapshots: Snapshots

    @classmethod
    @asynccontextmanager
    async def of(cls, folder, bodies, *, token=None, recent=5000, answering=handler, **sections):
        """Run events; the page is served as long as the context lasts."""
        settings = Settings(
            status={"token": token, "recent": recent},
            dead_letters={"max_ratio": 1.0},
            workers={"weights": "galaxies"},
            **sections,
            spend={"price": PRICE, "night_usd": "0.01", "month_usd": "2.50"},
        )
        source = Patient(bodies(folder), "simulated")
        async with (
            service.prepare(
                "memory://",
                folder / "out",
                settings,
                replaying=source,
                invoker=InlineInvoker(answering),
                tense="test",
            ) as run,
            serve(run) as (address, snapshots),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(service.follow(run, asyncio.Event()))
            try:
                yield cls(run, source, address, snapshots)
            finally:
                source.ended = True
                run.lane.resume()

    async def settled(self):
        """Returns when every event that there is has been settled."""
        total = sum(len(each) for each in self.source._bodies.values())
        while self.run.totals().received < total or self.run.totals().in_flight:
            self.run.pipeline.flush()  # else calls that cost something wait for company
            await asyncio.sleep(0.02)

    async def ask(self, path):
        """What the interface says."""
        async with aiohttp.ClientSession() as session, session.get(self.address + path) as answer:
            return await answer.json()
