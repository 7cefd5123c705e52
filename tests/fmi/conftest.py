"""Each of the six channels in turn, with what it needs running."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from meetings import CHANNELS, meeting_over
from stores import s3_server, store, through_redis, through_s3, valkey_server

__all__ = ["s3_server", "store", "through_redis", "through_s3", "valkey_server"]


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
