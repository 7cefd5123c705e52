"""The six channels, each with what it needs running, and how to run a program on all ranks."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from stores import BUCKET, s3_server, store, through_redis, through_s3, valkey_server

import fmi
from fmi.meeting.rendezvous import Rendezvous

__all__ = ["s3_server", "store", "through_redis", "through_s3", "valkey_server"]

CHANNELS = ["memory", "shared", "direct", "relay", "redis", "s3"]


@pytest.fixture
def in_threads():
    """Run calls side by side; what they return or raise, in order."""

    async def in_threads(*calls):
        with ThreadPoolExecutor(len(calls)) as threads:
            loop = asyncio.get_running_loop()
            return await asyncio.gather(
                *(loop.run_in_executor(threads, call) for call in calls), return_exceptions=True
            )

    return in_threads


@dataclass
class Meeting:
    """A kind of channel, and how to run a program over it."""

    name: str
    transport: object  # of a group's name and size
    slow: float = 1.0

    async def run(self, size, program, deadline_s=10.0):
        """Run `program(communicator)` on every rank; what it returns or raises, in rank order."""
        group = f"group-{next(_NUMBERS)}"
        over = self.transport(group, size)
        loop = asyncio.get_running_loop()

        def rank(number):
            with fmi.connect_blocking(
                group, number, size, over, deadline_s=deadline_s * self.slow
            ) as ranks:
                return program(ranks)

        with ThreadPoolExecutor(size) as threads:
            calls = [loop.run_in_executor(threads, rank, number) for number in range(size)]
            return await asyncio.gather(*calls, return_exceptions=True)


_NUMBERS = itertools.count()


@pytest.fixture
async def rendezvous():
    """A rendezvous that runs."""
    made = Rendezvous()
    await made.start()
    yield made
    await made.close()


def pytest_generate_tests(metafunc):
    """Each channel in turn, with groups of several sizes where a test asks for a `size`."""
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "meeting" not in metafunc.fixturenames or any("meeting" in each for each in chosen):
        return
    channels = getattr(metafunc.module, "CHANNELS", CHANNELS)
    if "size" not in metafunc.fixturenames:
        metafunc.parametrize("meeting", channels, indirect=True)
        return
    # A message through S3 takes several requests: one size is enough to show that it is a channel.
    cases = [(each, size) for each in channels for size in ([3] if each == "s3" else [1, 2, 3, 8])]
    metafunc.parametrize(("meeting", "size"), cases, indirect=["meeting"])


@pytest.fixture
def meeting(request, tmp_path_factory):
    """One of the channels."""
    return meeting_over(request.param, request, tmp_path_factory)


def meeting_over(name, request, folders):
    """A `Meeting` over a channel of this name."""
    if name == "memory":
        return Meeting(name, lambda _, size: fmi.Memory(size))
    if name == "shared":
        return Meeting(name, lambda *_: fmi.Shared(Path(folders.mktemp("shared"))))
    if name == "redis":
        url = request.getfixturevalue("valkey_server").url
        return Meeting(name, lambda *_: fmi.Redis(url))
    if name == "s3":
        url = request.getfixturevalue("s3_server").url
        return Meeting(name, lambda *_: fmi.S3(BUCKET, endpoint_url=url), slow=2.5)
    meets = request.getfixturevalue("rendezvous")
    kind = {"direct": fmi.Direct, "relay": fmi.Relay}[name]
    return Meeting(name, lambda group, size: kind(meets.address, meets.admit(group, size, 60)))
