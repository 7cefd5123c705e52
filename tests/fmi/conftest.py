"""What the tests of message passing share."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest


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
