"""A browser, a run whose night goes on, and the page that shows it."""

import shutil

import pytest
import pytest_asyncio
import structlog
from browsing import opened
from playwright.async_api import async_playwright
from staged import TOKEN, Stage, night_of

from dispatcher.incidents import Board

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    """Chromium, without a window."""
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM
        )
        yield made
        await made.close()


@pytest.fixture(scope="module")
def board():
    """Listens to the log of this process."""
    before, made = structlog.get_config(), Board()
    structlog.configure(processors=[made, structlog.dev.ConsoleRenderer(colors=False)])
    yield made
    structlog.configure(**before)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory, board):
    """A simulated night that was run to its last event; the lane waits for more."""
    async with Stage.of(tmp_path_factory.mktemp("stage"), night_of(60), token=TOKEN) as made:
        await made.settled()
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser, stage):
    """The page of the stage; nothing may have gone wrong in it."""
    async with opened(browser, stage.address) as made:
        yield made
        assert made.complaints == []
