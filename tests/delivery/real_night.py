"""Nights with real parts: dispatchers are processes that are killed, sources are real servers."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from delivery.dispatcher import Wrong
from delivery.sky import Sky
from dispatcher import service
from dispatcher.settings import load
from ingest.codecs.notice import InlineImage

FATES = {"ok": 85, "no_stamp": 7, "filtered": 4, "undecodable": 4}
_TESTS = Path(__file__).parents[1]
_LONGEST_S = 120.0
_LOOK_S = 0.1
_SETTINGS = """
[ingest]
surveys = ["S"]
[batch]
items = 6
linger_s = 0.2
[flow]
items = 60
fetch = 16
[workers]
ranks = 1
[sinks]
required = ["results.sqlite", "results.jsonl"]
batch = 7
commit_s = 0.1
[dead_letters]
max_ratio = 1.0
"""


def real_sky(draw, events):
    pixels = np.random.default_rng(1).normal(size=(5, 32, 32)).astype(np.float32)
    return Sky(draw, events, FATES, InlineImage.of_pixels(pixels.round(1)))


class RealNight:
    """Dispatchers that read `location`, each into a folder of its own.

    `settled`: whether nothing is left to be done. `seen`: what happened, counted.
    """

    def __init__(self, location, sky, folder, seed, dispatchers, settings, settled):
        self.location, self.sky, self.folder, self.settled = location, sky, folder, settled
        self.draw = random.Random(f"{seed} faults")
        self.names = [f"d{n}" for n in range(dispatchers)]
        self.settings = folder / "lookback.toml"
        self.settings.write_text(_SETTINGS + settings)
        self.running = {}
        self.seen = Counter(events=sky.events)

    async def run(self, faults, more=()):
        """Start all, let `faults` things happen (a kill, a leave, or one of `more`), and end."""
        try:
            async with asyncio.timeout(_LONGEST_S):
                for name in self.names:
                    self._start(name)
                for _ in range(faults):
                    await self._progress()
                    await asyncio.sleep(self.draw.uniform(0, 0.8))
                    await self._disturb(
                        self.draw.choice([self._kill, self._kill, self._leave, *more])
                    )
                while not await self.settled():
                    self._see_that_all_run()
                    await asyncio.sleep(_LOOK_S)
                for name in self.names:
                    await self._end(name)
        finally:
            for each in self.running.values():
                each.kill()
                each.communicate()

    async def _disturb(self, kind):
        await kind()
        self.seen[kind.__name__.strip("_").replace("_", " ")] += 1

    async def _progress(self):
        """Wait until something was stored, or nothing is left to be."""
        before = self._size()
        while self._size() == before and not await self.settled():
            self._see_that_all_run()
            await asyncio.sleep(_LOOK_S)

    def _see_that_all_run(self):
        for name, process in tuple(self.running.items()):
            if process.poll() is not None:
                _, errors = self.running.pop(name).communicate()
                raise Wrong(f"{name} ended with {process.returncode}: {errors[-2000:]}")

    def _size(self):
        return sum(each.stat().st_size for each in self.folder.glob("*/*.jsonl"))

    def _start(self, name):
        command = (sys.executable, "-m", "delivery.real_dispatcher")
        arguments = map(str, (self.location, self.folder / name, self.settings))
        paths = os.pathsep.join(map(str, (_TESTS, _TESTS / "dispatcher", _TESTS.parent)))
        self.running[name] = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, **_ACCESS},
        )
        self.seen["starts"] += 1

    async def _kill(self):
        """`kill -9`, and another start."""
        name = self.draw.choice(self.names)
        self.running[name].kill()
        self.running.pop(name).communicate()
        self._start(name)

    async def _leave(self):
        name = self.draw.choice(self.names)
        await self._end(name)
        self._start(name)

    async def _end(self, name):
        process = self.running[name]
        process.terminate()
        _, errors = await asyncio.to_thread(process.communicate)
        del self.running[name]
        if process.returncode not in (0, -signal.SIGTERM):  # the latter while it starts
            raise Wrong(f"{name} left with {process.returncode}: {errors[-2000:]}")

    # What is left of it.

    def check(self):
        """See that all sinks together hold every event once, and none holds one twice.

        Raises:
            Wrong: they do not.
        """
        expected = self._expected()
        rows, lines, letters = {}, {}, {}
        for folder in (self.folder / name for name in self.names):
            rows |= _rows(folder / "results.sqlite")
            lines |= _once(folder / "results.jsonl", lambda line: line["result_id"])
            letters |= _once(folder / "deadletters.jsonl", lambda line: line["body"])
        lines = {key: line["status"] for key, line in lines.items()}
        for name, held in (("results.sqlite", rows), ("results.jsonl", lines)):
            if missing := expected.items() ^ held.items():
                raise Wrong(f"{name} differs in {len(missing)}: {list(missing)[:3]}")
        dead = sum(fate == "undecodable" for fate in self.sky.fates.values())
        if len(letters) != dead:
            raise Wrong(f"{len(letters)} dead letters instead of {dead}")

    def _expected(self):
        key = service.identify_model(load(self.settings).workers.weights).key
        return {
            _event(body).key(key): self.sky.fates[body]
            for body in self.sky.fates
            if self.sky.fates[body] in ("ok", "no_stamp")
        }


_ACCESS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
}


def _event(body):
    from hashlib import blake2b

    from ingest.codecs import notice

    return notice.decode(body, blake2b(body, digest_size=8).hexdigest())


def _rows(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT result_id, status FROM results"))


def _once(path, name_of):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {name_of(line): line for line in lines}
    if len(found) != len(lines) and path.name == "results.jsonl":
        raise Wrong(f"{path} holds a key twice")
    return found
