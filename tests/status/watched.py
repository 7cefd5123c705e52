"""A run that is watched as an operator watches it: by its page, its metrics and its log."""

import asyncio
import json
import re
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import structlog
from answering import Answering

from dispatcher import logs, service
from dispatcher.incidents import FAULTS
from dispatcher.invokers import InlineInvoker
from dispatcher.settings import load
from dispatcher.status.server import serve
from ingest.codecs.notice import InlineImage, NewImage
from ingest.sources.night import NightArchive

TOKEN = "open sesame"
PLAYBOOK = Path(__file__).parents[2] / "docs" / "playbook.md"


def notice(n, image=None):
    """A new-image notice; `image`: pixels [5, 32, 32] (default: noise)."""
    pixels = np.random.default_rng(n).normal(size=(5, 32, 32)) if image is None else image
    stamp = InlineImage.of_pixels(pixels)
    return NewImage(
        id=n, survey="S", ra=1.0, dec=1.0, magnitudes=(20.0,) * 5, stamp=stamp
    ).to_bytes()


def archive(path, bodies):
    """A night archive with these events, in two partitions."""
    with NightArchive(path) as night:
        for n, body in enumerate(bodies):
            night.add(f"p{n % 2}", body)
    return str(path)


class Watched:
    """What can be seen of a run from outside."""

    def __init__(self, run, session, lines, lane, speed):
        self.run, self.session, self.lines, self.lane, self.speed = run, session, lines, lane, speed

    async def get(self, path):
        async with self.session.get(path) as answer:
            return await answer.json()

    async def text(self, path):
        async with self.session.get(path) as answer:
            return await answer.text()

    async def post(self, path, token=TOKEN, **body):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.post(path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def until(self, condition, within_s=20.0):
        """The snapshot in which `condition` holds."""
        end = time.monotonic() + within_s
        while True:
            found = await self.get("/api/status")
            if condition(found):
                return found
            if time.monotonic() > end:
                raise AssertionError(json.dumps(found, indent=1))
            await asyncio.sleep(0.05)

    async def shows(self, name):
        """It shows on the page, in a metric, in one line and in the playbook; in time."""
        fault = FAULTS[name]
        snapshot = await self.until(
            lambda found: any(each["fault"] == name for each in found["incidents"]),
            fault.within_s / self.speed,
        )
        incident = next(each for each in snapshot["incidents"] if each["fault"] == name)
        assert incident["advice"] == fault.advice
        metrics = await self.text("/metrics")
        assert value(metrics, f'lookback_incidents_total{{fault="{name}"}}') >= 1
        assert fault.metric in metrics
        begun = Counter(e.get("subject") for e in self.lines if e.get("incident") == name)
        over = Counter(e.get("subject") for e in self.lines if e.get("ended") == name)
        assert begun
        assert all(count - over[subject] in (0, 1) for subject, count in begun.items())
        assert f"{{#{fault.anchor}}}" in PLAYBOOK.read_text()
        assert incident["playbook"].endswith(f"#{fault.anchor}")
        return incident

    async def is_over(self, name, within_s=20.0):
        """It is shown as over, and the log says so."""
        await self.until(
            lambda found: (
                not any(each["fault"] == name and each["open"] for each in found["incidents"])
            ),
            within_s,
        )
        assert [each for each in self.lines if each.get("ended") == name]


def value(metrics, name):
    """Of one sample of an exposition."""
    return float(re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)[1])


def listening():
    """The log of this process from now on, as objects."""
    lines = []

    class Kept:
        def msg(self, text):
            lines.append(json.loads(text))

        info = warning = error = critical = msg

    logs.configure("json")
    structlog.configure(logger_factory=lambda *_: Kept(), cache_logger_on_first_use=False)
    return lines


@asynccontextmanager
async def watched(location, output, settings="", *, invoker=None, clock=None, speed=1.0, **answer):
    """A run under way. `settings`: TOML; `speed`: of its clock; `answer`: see `Answering`."""
    output.mkdir(exist_ok=True)
    file = output.parent / f"{output.name}.toml"
    file.write_text(f'[status]\nport = {free()}\ntoken = "{TOKEN}"\n{settings}')
    lines = listening()
    given = load(file)
    sha256 = service.identify_model(given.workers.weights).weights_sha256
    invoker = invoker or InlineInvoker(Answering(sha256, **answer))
    stopping = asyncio.Event()
    async with (
        service.prepare(location, output, given, invoker=invoker, clock=clock) as run,
        serve(run, location, file) as (address, snapshots),
        aiohttp.ClientSession(address) as session,
    ):
        lane = asyncio.create_task(_follow(run, stopping, snapshots))
        try:
            yield Watched(run, session, lines, lane, speed)
        finally:
            stopping.set()
            await lane


async def _follow(run, stopping, snapshots):
    await service.follow(run, stopping)
    snapshots.ended = True


def free():
    from parts.process import free_port

    return free_port()
