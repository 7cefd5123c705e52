"""What a consumer costs without anything on top: the floor that Lookback stands on."""

from __future__ import annotations

import time
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from benchmarks.delivery.gate import Gate
from benchmarks.delivery.topics import SESSION_S, queue_client

COMMIT_S: Final = 1.0
FETCH: Final = {
    "fetch_max_bytes": 64 << 20,
    "max_partition_fetch_bytes": 1 << 20,
    "isolation_level": "read_committed",
}
"""How much a fetch brings: what Lookback asks for by default."""


def _consumer(servers: str, topic: str, group: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=1000 * SESSION_S,
        **FETCH,
    )


async def getmany(
    gate: Gate, servers: str, topic: str, group: str, count: int, fetch: int
) -> dict[str, Any]:
    """Up to `fetch` records at once; a commit a second."""
    consumer = _consumer(servers, topic, group)
    await consumer.start()
    try:
        seen, nbytes, due = 0, 0, time.monotonic() + COMMIT_S
        while seen < count:
            for records in (await consumer.getmany(timeout_ms=200, max_records=fetch)).values():
                await gate.passed()
                seen += len(records)
                nbytes += sum(len(each.value) for each in records)
            if time.monotonic() >= due:
                await consumer.commit()
                due = time.monotonic() + COMMIT_S
        await consumer.commit()
        gate.end()
        return {"events": seen, "nbytes": nbytes}
    finally:
        await consumer.stop()


async def one_by_one(
    gate: Gate, servers: str, topic: str, group: str, count: int
) -> dict[str, Any]:
    """`async for`; a commit a second."""
    consumer = _consumer(servers, topic, group)
    await consumer.start()
    try:
        seen, due = 0, time.monotonic() + COMMIT_S
        async for _ in consumer:
            await gate.passed()
            seen += 1
            if time.monotonic() >= due:
                await consumer.commit()
                due = time.monotonic() + COMMIT_S
            if seen == count:
                break
        await consumer.commit()
        gate.end()
        return {"events": seen}
    finally:
        await consumer.stop()


async def queue(gate: Gate, url: str, queue: str, count: int) -> dict[str, Any]:
    """Receive ten, delete ten, in one task."""
    async with queue_client(url) as client:
        seen = 0
        while seen < count:
            answer = await client.receive_message(
                QueueUrl=queue,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                VisibilityTimeout=600,  # the first ones wait behind the gate
            )
            await gate.passed()
            if messages := answer.get("Messages", []):
                await client.delete_message_batch(
                    QueueUrl=queue,
                    Entries=[
                        {"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]}
                        for n, each in enumerate(messages)
                    ],
                )
            seen += len(messages)
        gate.end()
        return {"events": seen}
