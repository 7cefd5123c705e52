"""`lookback functions` and its kill switch; `lookback platform`, a platform on this machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.commands import completion as offered
from dispatcher.commands.exits import answer
from dispatcher.commands.options import AsJson, SettingsFile, settings_of

if TYPE_CHECKING:
    from dispatcher.platform.api import FunctionPlatform
    from dispatcher.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="The functions: look at them, stop them, let them go.\n\n"
    "Example: lookback functions show --settings lookback.toml",
)


@app.command()
def show(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """What is deployed, and how many may run.

    Example: lookback functions show --settings lookback.toml
    """
    _print(asyncio.run(_look(settings_of(settings))), as_json)


@app.command()
def stop(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Kill switch: let no invocation of the function begin, of whoever asks.

    Sets its reserved concurrency to 0. What runs goes on to its end. Takes effect within seconds,
    also for dispatchers that cannot be reached. Needs lambda:PutFunctionConcurrency.

    Example: lookback functions stop --settings lookback.toml
    """
    _print(asyncio.run(_reserve(settings_of(settings), 0)), as_json)


@app.command()
def start(
    concurrency: Annotated[int, typer.Argument(min=1, help="Invocations at once at most.")],
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Let so many invocations run at once, after a stop or as a limit.

    Example: lookback functions start 100 --settings lookback.toml
    """
    _print(asyncio.run(_reserve(settings_of(settings), concurrency)), as_json)


def platform(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0: a free one.")
    ] = 9001,
    concurrency: Annotated[int, typer.Option(min=1, help="Invocations at once at most.")] = 2,
    memory_mb: Annotated[
        int, typer.Option(min=128, max=10240, help="MB of a function; more is killed.")
    ] = 1769,
    timeout_s: Annotated[
        float, typer.Option(min=1, max=900, help="Seconds after which a function is killed.")
    ] = 60.0,
    weights: Annotated[
        str,
        typer.Option(
            help="A shipped model or a file; none: no weights.", autocompletion=offered.models
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """A function platform on this machine: the real handler behind Lambda's Invoke API. SIMULATED.

    Nothing leaves the machine and nothing is billed by anybody. A run finds it by
    functions.endpoint.

    Example: lookback platform --port 9001 --concurrency 2
    """
    from dispatcher.platform.api import FunctionPlatform
    from dispatcher.platform.function import Function
    from workers.weights import find

    carried = "none" if weights == "none" else str(find(weights or None).resolve())
    function = Function(
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        concurrency=concurrency,
        environment={"LOOKBACK_WEIGHTS": carried, "LOOKBACK_PAYLOADS": "http://127.0.0.1:"},
    )
    asyncio.run(_serve(FunctionPlatform(function), port, as_json=as_json))


async def _serve(made: FunctionPlatform, port: int, *, as_json: bool) -> None:
    await made.start(port=port)
    function = f"{made.function.arn}:{made.function.alias}"
    if as_json:
        answer({"simulated": True, "function": function, "endpoint": made.url})
    else:
        typer.echo(f"SIMULATED function platform: {function}")
        typer.echo(f'[workers]\nengine = "lambda"\n[functions]\nendpoint = "{made.url}"')
    sys.stdout.flush()  # who reads it through a pipe waits for the address
    try:
        await asyncio.Event().wait()
    finally:
        await made.close()


async def _look(settings: Settings) -> dict[str, Any]:
    given = settings.functions
    async with _client(settings) as client:
        found = await client.get_function_configuration(
            FunctionName=given.name, Qualifier=given.alias
        )
        reserved = await client.get_function_concurrency(FunctionName=given.name)
    return {
        "function": found["FunctionArn"],
        "memory_mb": found["MemorySize"],
        "timeout_s": found["Timeout"],
        "architecture": found.get("Architectures", ["x86_64"])[0],
        "state": found.get("State", "Active"),
        "concurrency": reserved.get("ReservedConcurrentExecutions"),
    }


async def _reserve(settings: Settings, concurrency: int) -> dict[str, Any]:
    name = settings.functions.name
    async with _client(settings) as client:
        await client.put_function_concurrency(
            FunctionName=name, ReservedConcurrentExecutions=concurrency
        )
    return {"function": name, "concurrency": concurrency}


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[Any]:
    """A client whose errors say what to do."""
    # Late, as all that takes its time to load: no other command needs it.
    from aiobotocore.session import get_session
    from botocore.exceptions import BotoCoreError, ClientError

    from dispatcher.errors import SettingsError
    from dispatcher.invokers.lambda_errors import ADVICE, refusal
    from dispatcher.workforce import invoke_client

    try:
        async with get_session().create_client("lambda", **invoke_client(settings)) as client:
            yield client
    except ClientError as error:
        raise SettingsError(refusal(error)) from error
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"{error}; {ADVICE}") from error


def _print(said: dict[str, Any], as_json: bool) -> None:
    if as_json:
        answer(said)
        return
    for name, value in said.items():
        typer.echo(f"{name:<14} {'not limited' if value is None else value}")
