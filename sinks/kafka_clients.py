"""aiokafka's clients, started and ended in bounded time, whatever state their brokers are in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

_STOP_S: Final = 5.0
_FIRST_ANSWER_S: Final = 1.0


async def start(client: AIOKafkaConsumer | AIOKafkaProducer, timeout_s: float) -> None:
    """Connect.

    Raises:
        aiokafka.errors.KafkaError, TimeoutError: the brokers do not answer.
    """
    starting = asyncio.create_task(client.start())
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(starting)
    except BaseException:
        # Cancelled between its first request and the answer it would leave the socket open.
        await asyncio.wait([starting], timeout=_FIRST_ANSWER_S)
        starting.cancel()
        await asyncio.wait([starting])
        raise


async def stop(consumer: AIOKafkaConsumer) -> None:
    """End it; one whose broker is gone may take for ever."""
    with suppress(KafkaError, OSError):  # a TimeoutError is an OSError
        await asyncio.wait_for(consumer.stop(), _STOP_S)


async def dismiss(producer: AIOKafkaProducer) -> None:
    """End it; what it has not sent is dropped.

    Not `stop`: that waits until all is sent, and an idempotent producer never gives a batch up, so
    it would wait for ever for a broker that is gone.
    """
    try:
        with suppress(KafkaError, OSError):
            await asyncio.wait_for(producer._sender.close(), _STOP_S)  # noqa: SLF001
    finally:
        producer._closed = True  # noqa: SLF001 - else it warns that it was not stopped
        await producer.client.close()
