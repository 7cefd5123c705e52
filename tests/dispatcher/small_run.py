"""A run of a hundred events with a model that is none, in this process, for tests of its health."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
from answering import Answering

from dispatcher import service
from dispatcher.invokers import InlineInvoker
from dispatcher.service import Run
from dispatcher.settings import load
from ingest.codecs.notice import InlineImage, NewImage
from ingest.sources.night import NightArchive

EVENTS = 100
SETTINGS = (
    "[flow]\nitems = 24\nfetch = 8\n[batch]\nitems = 8\nlinger_s = 0.05\n"
    "[status]\nstalled_s = 0.2\n"
)


def archive(folder: Path) -> str:
    """Make the night; returns where it is."""
    stamp = InlineImage.of_pixels(np.random.default_rng(3).normal(size=(5, 32, 32)))
    path = folder / "night.sqlite"
    with NightArchive(path) as night:
        for n in range(EVENTS):
            event = NewImage(id=n, survey="S", ra=1.0, dec=1.0, magnitudes=(20.0,) * 5, stamp=stamp)
            night.add("p", event.to_bytes())
    return str(path)


def preparing(folder: Path) -> Callable[[], AbstractAsyncContextManager[Run]]:
    """Prepares the run when it is called."""
    file = folder / "lookback.toml"
    file.write_text(SETTINGS)
    settings, night = load(file), archive(folder)
    model = service.identify_model(settings.workers.weights)
    invoker = InlineInvoker(Answering(model.weights_sha256))
    return lambda: service.prepare(night, folder / "out", settings, invoker=invoker)


async def until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)
