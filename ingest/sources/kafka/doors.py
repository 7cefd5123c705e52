"""The five places where aiokafka's public interface is not enough. Tested against real brokers.

Nothing else of the product touches what is private to aiokafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

_PROBE_MS: Final = 3_000
_OF_CONNECTIONS: Final = frozenset(
    (
        "ssl_context",
        "security_protocol",
        "sasl_mechanism",
        "sasl_oauth_token_provider",
        "sasl_plain_username",
        "sasl_plain_password",
        "sasl_kerberos_service_name",
        "sasl_kerberos_domain_name",
    )
)


async def committed(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """What the group keeps of `partitions`, in one request; none of those without a commit.

    `AIOKafkaConsumer.committed` gives the offset alone, and asks for one partition at a time.
    """
    found = await consumer._coordinator.fetch_committed_offsets(list(partitions))  # noqa: SLF001
    return dict(found)


async def commit(
    consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, OffsetAndMetadata]
) -> None:
    """Commit as this member of the group.

    `AIOKafkaConsumer.commit` refuses between a change of the subscription (a new topic of the
    night) and the join that follows, which is when the keeper commits what it finished. The group
    still knows the member then. The assignment, the first argument, is not used by aiokafka.
    """
    await consumer._coordinator.commit_offsets(None, dict(offsets))  # noqa: SLF001


async def arrival(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Wait until a fetch of the consumer has arrived, for `seconds` at most.

    `getmany` with a timeout waits the same way, but counts as polling meanwhile, and must not be
    cut off.

    Raises:
        KafkaError: what the fetch says instead (no permission).
    """
    waiter = consumer._fetcher._create_fetch_waiter()  # noqa: SLF001
    try:
        async with asyncio.timeout(seconds):
            await waiter
    except TimeoutError:
        pass


async def refusal(servers: str, client: Mapping[str, Any]) -> Exception | None:
    """Why a broker of `servers` does not let us in; None if it does.

    A consumer only logs the reason, and raises that it has no broker.
    """
    host, port, _ = collect_hosts(servers)[0]
    wanted = {name: value for name, value in client.items() if name in _OF_CONNECTIONS}
    try:
        connection = await create_conn(host, port, request_timeout_ms=_PROBE_MS, **wanted)
    except (KafkaError, OSError, TimeoutError) as error:
        return error
    connection.close()
    return None


async def abandon(consumer: AIOKafkaConsumer) -> None:
    """Close what `AIOKafkaConsumer.stop` left open when it was cut off: a second call does nothing.

    Without a group to leave and a broker to tell, this takes no time.
    """
    parts = (consumer._fetcher, consumer._client)  # noqa: SLF001
    await asyncio.gather(*(each.close() for each in parts if each), return_exceptions=True)
