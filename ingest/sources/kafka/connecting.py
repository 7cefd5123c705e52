"""Getting into a cluster: a broker is waited for, a refusal is not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError

from ingest.errors import SourceUnavailable
from ingest.sources.kafka import doors
from ingest.sources.kafka.contact import described, refused

_AGAIN_S: Final = 0.5


async def connect(
    consumer: AIOKafkaConsumer, servers: str, client: Mapping[str, Any], seconds: float
) -> set[str]:
    """Start the consumer. Returns the topics of the cluster.

    `client`: what the consumer was given besides `servers`, for a second look at why it failed.

    Raises:
        SourceUnavailable: no broker has answered for `seconds`.
        SourceError: none lets us in.
    """
    try:
        async with asyncio.timeout(seconds):
            await _start(consumer, servers, client)
            known: set[str] = await consumer.topics()
    except (KafkaError, OSError, TimeoutError) as error:
        why = await doors.refusal(servers, client) or error
        raise refused(why, servers) or SourceUnavailable(
            f"no broker answers at {servers} ({described(why)}): check the address, the network "
            "and the security settings (TLS, SASL)"
        ) from error
    return known


async def _start(consumer: AIOKafkaConsumer, servers: str, client: Mapping[str, Any]) -> None:
    """A broker that restarts is back in a moment; one that refuses us is not asked again."""
    while True:
        try:
            await consumer.start()
        except KafkaConnectionError as error:
            why = await doors.refusal(servers, client)
            if why and refused(why, servers):
                raise why from error
            await asyncio.sleep(_AGAIN_S)
        else:
            return
