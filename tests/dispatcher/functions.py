"""Functions for tests: a platform on loopback, and aiobotocore's client of it."""

from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from dispatcher.invokers.aws_lambda import Deployed, LambdaInvoker
from dispatcher.platform.api import FunctionPlatform
from dispatcher.platform.function import Function
from dispatcher.platform.troubles import Troubles

HERE = Path(__file__).parent
CLIENT = {
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}
ODD = Function(handler="handlers.handler", environment={"PYTHONPATH": str(HERE)})
"""A function that does what its event says (`handlers`)."""


@asynccontextmanager
async def a_platform(function=ODD, troubles=None, idle_s=300.0, **given):
    """A function platform while it runs."""
    made = FunctionPlatform(replace(function, **given), troubles or Troubles(), idle_s)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def invoker_of(platform, slots=2, pointers=None, **expected):
    """An invoker of its function, not yet open."""
    function = platform.function
    wanted = {
        "name": function.name,
        "alias": function.alias,
        "memory_mb": function.memory_mb,
        "timeout_s": function.timeout_s,
        **expected,
    }
    client = {**CLIENT, "endpoint_url": platform.url}
    return LambdaInvoker(Deployed(**wanted), slots, client, pointers)


@asynccontextmanager
async def on_a_platform(**given):
    """The invoker of a function of its own, with the platform behind it."""
    async with a_platform(**given) as platform:
        yield invoker_of(platform)
