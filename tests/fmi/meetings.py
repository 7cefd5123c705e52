"""The six channels, and how to run a program on all ranks of a group over each."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stores import BUCKET

import fmi

CHANNELS = ["memory", "shared", "direct", "relay", "redis", "s3"]

_NUMBERS = itertools.count()


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
