"""Whom a run has work done by: the invoker that its settings ask for.

The invokers are loaded when they are asked for: aiobotocore alone takes half a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dispatcher.access import aws_client
from dispatcher.errors import SettingsError
from dispatcher.invokers import Invoker
from dispatcher.invokers.local import LocalInvoker
from dispatcher.settings import Settings
from dispatcher.settings.sections import ITEMS_PER_INVOCATION
from workers.weights import find

if TYPE_CHECKING:
    from dispatcher.invokers.aws_lambda import LambdaInvoker
    from dispatcher.invokers.pointers import Pointers

_PRICES: Final = "aws-lambda/"  # then region and architecture


def workforce(settings: Settings, run_id: str) -> Invoker:
    """The invoker, not yet open.

    Raises:
        SettingsError: the settings contradict each other.
    """
    engine = settings.workers.engine
    if engine == "local":
        return LocalInvoker(settings.workers.count, _environment(settings))
    if settings.ranks() != 1 and settings.workers.rendezvous is None and not _here(settings):
        raise SettingsError(
            "workers on other machines cannot meet as groups: set workers.rendezvous to an address "
            "that reaches this machine from there, or workers.ranks = 1"
        )
    if engine == "lambda":
        return _functions(settings, run_id)
    if settings.dask.scheduler is None:
        raise SettingsError('workers.engine = "dask" needs dask.scheduler')
    from dispatcher.invokers.cluster import DaskInvoker

    # A path of this machine means nothing there: a shipped model is known by its name.
    named = {**_environment(settings), "LOOKBACK_WEIGHTS": settings.workers.weights}
    return DaskInvoker(settings.dask.scheduler, settings.workers.count, named)


def _here(settings: Settings) -> bool:
    """Whether the workers run on this machine, although they are functions."""
    endpoint = settings.functions.endpoint or ""
    return settings.workers.engine == "lambda" and endpoint.startswith("http://127.0.0.1:")


def _functions(settings: Settings, run_id: str) -> LambdaInvoker:
    if settings.functions.bucket is None and settings.batch.items > ITEMS_PER_INVOCATION:
        raise SettingsError(
            f"batch.items is {settings.batch.items}: {ITEMS_PER_INVOCATION} fit into an "
            "invocation, set functions.bucket for larger ones"
        )
    from dispatcher.invokers.aws_lambda import Deployed, LambdaInvoker

    given, (region, architecture) = settings.functions, _place(settings)
    deployed = Deployed(
        given.name,
        given.alias,
        settings.spend.memory_mb,
        settings.workers.deadline_s,
        architecture,
        region,
        given.account,
    )
    client, pointers = invoke_client(settings), _pointers(settings, run_id)
    return LambdaInvoker(deployed, settings.workers.count, client, pointers)


def invoke_client(settings: Settings) -> dict[str, Any]:
    """Arguments for aiobotocore's client of the functions.

    Raises:
        SettingsError: the price is that of another region.
    """
    region, _ = _place(settings)
    endpoint = settings.functions.endpoint
    return {
        **aws_client(settings.aws),
        "region_name": region,
        **({"endpoint_url": endpoint} if endpoint else {}),
    }


def _place(settings: Settings) -> tuple[str, str]:
    """Region and architecture that the price is for."""
    if not settings.spend.price.startswith(_PRICES):
        raise SettingsError(
            'workers.engine = "lambda" costs money: set spend.price to what it costs there, such '
            "as aws-lambda/us-east-1/x86_64, and spend.memory_mb to the memory of the function"
        )
    region, architecture = settings.spend.price.removeprefix(_PRICES).split("/")
    if (settings.aws.region or region) != region:
        raise SettingsError(
            f"aws.region is {settings.aws.region}, spend.price is for {region}: one of them is "
            "wrong"
        )
    return region, architecture


def _pointers(settings: Settings, run_id: str) -> Pointers | None:
    given = settings.functions
    if given.bucket is None:
        if given.weights == "bucket":
            raise SettingsError('functions.weights = "bucket" needs functions.bucket')
        return None
    from dispatcher.invokers.pointers import Pointers

    bucket, _, folder = given.bucket.removeprefix("s3://").partition("/")
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    weights = find(settings.workers.weights) if given.weights == "bucket" else None
    region, _ = _place(settings)
    client = aws_client(settings.aws) | {"region_name": region}
    return Pointers(bucket, prefix, run_id, weights, client)


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "LOOKBACK_WEIGHTS": str(find(settings.workers.weights).resolve()),
        "LOOKBACK_PRECISION": settings.workers.precision,
    }


def port_of(address: str) -> int:
    """Of host:port.

    Raises:
        SettingsError: it is no such thing.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"workers.rendezvous: {address} is no host:port")
    return int(port)
