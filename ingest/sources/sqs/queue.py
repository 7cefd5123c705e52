"""The calls to one queue, ten messages each, and what their errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError

from ingest.errors import SourceError, SourceUnavailable
from ingest.sources.sqs.envelopes import ENCODINGS

BATCH: Final = 10
"""Most messages of one call."""

# The client wraps most of what goes wrong below it, and not all. ValueError: an endpoint that is
# no address, an answer that is no JSON.
TROUBLE: Final = (
    BotoCoreError,
    ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,
    ValueError,
)

_AT_ONCE: Final = 4
_GONE: Final = frozenset(
    {
        "ReceiptHandleIsInvalid",
        "InvalidParameterValue",  # a FIFO queue's word for a handle that has expired
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
    }
)
_MISSING: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException"})
_ATTRIBUTES: Final = ("ApproximateReceiveCount", "SentTimestamp", "MessageGroupId")


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the queue handed it out. `sent`: unix milliseconds, as SQS writes them."""

    id: str
    handle: str
    text: str
    receive_count: int = 1
    sent: str = ""
    group: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Failures:
    """Ids of messages for which a call failed.

    `gone`: for good, their handle means nothing any more. `pending`: for now, with the reason.
    """

    gone: set[str] = field(default_factory=set)
    pending: dict[str, str] = field(default_factory=dict)


class Queue:
    """One queue, by its name or URL. `client`: arguments of `create_client`."""

    def __init__(
        self, queue: str, client: Mapping[str, Any], wait_s: int, visibility_s: int, receivers: int
    ) -> None:
        self.name = queue.rstrip("/").rsplit("/", 1)[-1]
        self.fifo = self.name.endswith(".fifo")
        self._url = queue if "://" in queue else ""
        self._client = client
        self._wait_s = wait_s
        self._visibility_s = visibility_s
        self._config = AioConfig(
            # Each poll keeps a connection to itself; deletes and heartbeats need theirs.
            max_pool_connections=receivers + 2 * _AT_ONCE,
            connect_timeout=5,
            read_timeout=wait_s + 10,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
        self._sqs: Any = None
        self._opened = AsyncExitStack()

    async def open(self, limit: int) -> list[Received]:
        """Connect, and ask for `limit` messages: that shows whether the queue may be read.

        Raises:
            SourceError: it does not exist, or may not be read.
            SourceUnavailable: no answer.
        """
        try:
            created = get_session().create_client("sqs", **{**self._client, "config": self._config})
            self._sqs = await self._opened.enter_async_context(created)
            if not self._url:
                self._url = (await self._sqs.get_queue_url(QueueName=self.name))["QueueUrl"]
            return await self._receive(min(limit, BATCH), 0)
        except TROUBLE as error:
            raise self._explained(error) from error

    async def receive(self, limit: int) -> list[Received]:
        """Up to ten messages, after one long poll.

        Raises:
            SourceUnavailable: no answer, or none that helps.
        """
        try:
            return await self._receive(min(limit, BATCH), self._wait_s)
        except TROUBLE as error:
            raise SourceUnavailable(f"the queue {self.name} cannot be read ({error})") from error

    async def _receive(self, limit: int, wait_s: int) -> list[Received]:
        answer = await self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=limit,
            WaitTimeSeconds=wait_s,
            VisibilityTimeout=self._visibility_s,
            MessageSystemAttributeNames=_ATTRIBUTES,
            MessageAttributeNames=ENCODINGS,
        )
        return [_received(each) for each in answer.get("Messages", ())]

    async def delete(self, handles: Mapping[str, str]) -> Failures:
        """Delete messages, given as id -> handle. Raises nothing: see what it returns."""

        async def delete(batch: Mapping[str, str]) -> Any:
            entries = [{"Id": each, "ReceiptHandle": handle} for each, handle in batch.items()]
            return await self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)

        return await _in_batches(handles, delete)

    async def change(self, handles: Mapping[str, str], visibility_s: int) -> Failures:
        """Let messages be visible again in `visibility_s`; arguments and answer as `delete`."""

        async def change(batch: Mapping[str, str]) -> Any:
            entries = [
                {"Id": each, "ReceiptHandle": handle, "VisibilityTimeout": visibility_s}
                for each, handle in batch.items()
            ]
            return await self._sqs.change_message_visibility_batch(
                QueueUrl=self._url, Entries=entries
            )

        return await _in_batches(handles, change)

    async def close(self) -> None:
        """Let go of connections."""
        await self._opened.aclose()

    def _explained(self, error: Exception) -> SourceError:
        code = error.response["Error"].get("Code", "") if isinstance(error, ClientError) else ""
        if code in _MISSING:
            where = "check its name, the region and the account"
            return SourceError(f"the queue {self.name} does not exist: {where}")
        if code in _DENIED:
            return SourceError(
                f"the queue {self.name} may not be read: allow sqs:GetQueueUrl, ReceiveMessage, "
                f"DeleteMessage and ChangeMessageVisibility for these credentials ({error})"
            )
        if isinstance(error, NoConnection | HTTPClientError | aiohttp.ClientError | OSError):
            return SourceUnavailable(f"the queue {self.name} does not answer ({error})")
        return SourceError(f"the queue {self.name} cannot be opened ({error})")


async def _in_batches(
    handles: Mapping[str, str], call: Callable[[Mapping[str, str]], Awaitable[Any]]
) -> Failures:
    failures = Failures()
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(batch: Mapping[str, str]) -> None:
        async with turn:
            try:
                answer = await call(batch)
            except TROUBLE as error:
                failures.pending |= dict.fromkeys(batch, f"{error}")
                return
        for each in answer.get("Failed", ()):
            if each["Code"] in _GONE:
                failures.gone.add(each["Id"])
            else:
                failures.pending[each["Id"]] = f"{each['Code']}: {each.get('Message', '')}"

    async with asyncio.TaskGroup() as tasks:
        for batch in _tens(handles):
            tasks.create_task(one(batch))
    return failures


def _tens(handles: Mapping[str, str]) -> Iterator[dict[str, str]]:
    items = iter(handles.items())
    while batch := dict(islice(items, BATCH)):
        yield batch


def _received(message: Mapping[str, Any]) -> Received:
    system = message.get("Attributes", {})
    return Received(
        message["MessageId"],
        message["ReceiptHandle"],
        message["Body"],
        int(system.get("ApproximateReceiveCount", 1)),
        system.get("SentTimestamp", ""),
        system.get("MessageGroupId"),
        {
            name: value["StringValue"]
            for name, value in message.get("MessageAttributes", {}).items()
            if "StringValue" in value
        },
    )
