"""Dead letters in an SQS queue, large bodies on S3."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, ClassVar, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from sinks.amazon import FAILURES, explaining
from sinks.deadletters.bodies import Bodies
from sinks.deadletters.letter import DeadLetter, Place
from sinks.errors import SinkRefused, SinkUnavailable

_BATCH: Final = 10  # messages; SQS takes and gives no more at once
_ATTRIBUTES: Final = 1024  # bytes of a message that are left for its attributes
_LONGEST_CODE: Final = 200
_REPEATS: Final = 10
_HIDDEN_S: Final = 600  # how long a message stays hidden at most when whoever looks at it dies

_ADVICE: Final = (
    "check the queue's address, that of large bodies, and the permissions of the credentials for "
    "both"
)


class DeadLetterQueue:
    """One message a letter: its JSON, with `reason` and `error_class` as message attributes.

    A queue cannot be looked into, and finds nothing by key. To scan is to receive all there is,
    which hides it from every other reader meanwhile, and to let it go again; to remove costs the
    same, for however few places. A message takes 1 MiB at most, in base64: larger bodies (some
    780 kB) go to S3 below `bodies`, and without it such a letter is refused, not cut.

    Args:
        url: of the queue, or its name; a FIFO queue ends in `.fifo`. It must have no redrive
            policy of its own: every look counts as a delivery and would move letters on.
        client: settings of `create_client` (`region_name`, `endpoint_url`, ...).
        bodies: "bucket/prefix" for the large ones.
        wait_s: how long a queue that seems empty is listened to. 0 may miss messages, except
            where the queue is on one machine.
        timeout_s: of one request.
    """

    guarantee: ClassVar[str] = (
        "A write or removal that returned is on several of SQS's servers. Letters are deleted at "
        "the end of the queue's retention (14 days at most; 4 if nobody set it). The queue may "
        "hold several copies of a place, a scan gives the last one sent, a removal takes all. A "
        "standard queue may rarely bring a removed copy back. At most 120,000 messages."
    )

    def __init__(
        self,
        url: str,
        *,
        client: Mapping[str, Any] | None = None,
        bodies: str | None = None,
        wait_s: int = 2,
        timeout_s: float = 20.0,
    ) -> None:
        self.name = f"SQS queue {url.rpartition('/')[2]}"
        self._url = url
        # One attempt: whoever calls this tries again.
        config = AioConfig(
            connect_timeout=timeout_s,
            read_timeout=wait_s + timeout_s,
            retries={"total_max_attempts": 1},
        )
        given = client or {}
        config = config.merge(given["config"]) if "config" in given else config
        self._client = {**given, "config": config}
        self._wait_s = wait_s
        self._bodies = Bodies(bodies) if bodies else None
        self._largest = 0
        self._sqs: Any = None
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """See `DeadLetterSink.open`."""
        session = get_session()
        try:
            with explaining(self.name, _ADVICE):
                sqs = session.create_client("sqs", **self._client)
                self._sqs = await self._stack.enter_async_context(sqs)
                if self._bodies:
                    await self._bodies.open(self._stack, session, self._client)
                await self._check()
        except BaseException:
            await self.close()
            raise

    async def _check(self) -> None:
        if "://" not in self._url:
            found = await self._opened().get_queue_url(QueueName=self._url)
            self._url = found["QueueUrl"]
        answer = await self._opened().get_queue_attributes(
            QueueUrl=self._url, AttributeNames=["All"]
        )
        if "RedrivePolicy" in answer["Attributes"]:
            raise SinkRefused(
                f"{self.name} has a redrive policy, so that looking at letters would move them to "
                "another queue: remove the policy"
            )
        self._largest = int(answer["Attributes"]["MaximumMessageSize"]) - _ATTRIBUTES

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink.write`."""
        latest = {each.place: each for each in letters}
        batch: list[dict[str, Any]] = []
        size = 0
        with explaining(self.name, _ADVICE):
            for each in latest.values():
                entry = self._entry(each, await self._text(each))
                length = len(entry["MessageBody"])
                if batch and (len(batch) == _BATCH or size + length > self._largest):
                    await self._send(batch)
                    batch, size = [], 0
                batch.append({**entry, "Id": str(len(batch))})
                size += length + _ATTRIBUTES
            if batch:
                await self._send(batch)

    async def _text(self, letter: DeadLetter) -> str:
        # ASCII: not every character of JSON is allowed in a message.
        text = json.dumps(letter.to_json())
        if len(text) <= self._largest:
            return text
        if self._bodies is None:
            raise SinkRefused(
                f"{self.name} takes {self._largest} bytes a message and the dead letter of "
                f"{letter.place} has {len(text)}: give it an S3 location for large bodies"
            )
        return json.dumps({**letter.about(), "body_at": await self._bodies.put(letter)})

    def _entry(self, letter: DeadLetter, text: str) -> dict[str, Any]:
        attributes = {
            "reason": _attribute(letter.reason),
            "error_class": _attribute(letter.error_class.value),
        }
        entry = {"MessageBody": text, "MessageAttributes": attributes}
        if not self._url.endswith(".fifo"):
            return entry
        # Not the place alone: an event that is redriven and dies again within five minutes would
        # be taken for the same message and dropped. A group of its own: behind a hidden message
        # the rest of its group is hidden, too.
        name = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
        return {**entry, "MessageDeduplicationId": name, "MessageGroupId": name}

    async def _send(self, entries: Sequence[Mapping[str, Any]]) -> None:
        answer = await self._opened().send_message_batch(QueueUrl=self._url, Entries=entries)
        for each in answer.get("Failed", ()):
            error = SinkRefused if each["SenderFault"] else SinkUnavailable
            raise error(f"{self.name}: {each['Code']} ({each.get('Message', '')})")

    async def scan(self) -> AsyncGenerator[DeadLetter, None]:
        """See `DeadLetterSink.scan`.

        What is received goes to a temporary file first: the last copy of a place may come last,
        and nothing should stay hidden while somebody thinks about a letter.
        """
        with TemporaryFile() as file:
            last: dict[Place, tuple[tuple[float, float], int, int]] = {}
            with explaining(self.name, _ADVICE):
                async with self._received() as batches:
                    async for messages in batches:
                        for each in messages:
                            if each.place not in last or each.age >= last[each.place][0]:
                                last[each.place] = each.age, file.tell(), len(each.text)
                                file.write(each.text.encode())
            for _, start, length in last.values():
                file.seek(start)
                with explaining(self.name, _ADVICE):
                    letter = await self._letter(json.loads(file.read(length)))
                yield letter

    async def _letter(self, found: Mapping[str, Any]) -> DeadLetter:
        if "body_at" not in found:
            return DeadLetter.from_json(found)
        return DeadLetter.from_json(found, await self._opened_bodies().get(found["body_at"]))

    async def remove(self, places: Collection[Place]) -> None:
        """See `DeadLetterSink.remove`."""
        if not places:
            return
        wanted = set(places)
        with explaining(self.name, _ADVICE):
            async with self._received() as batches:
                async for messages in batches:
                    await self._delete([each for each in messages if each.place in wanted])

    async def _delete(self, messages: Sequence[_Message]) -> None:
        if not messages:
            return
        entries = [{"Id": str(n), "ReceiptHandle": m.handle} for n, m in enumerate(messages)]
        answer = await self._opened().delete_message_batch(QueueUrl=self._url, Entries=entries)
        for each in answer.get("Failed", ()):
            raise SinkUnavailable(f"{self.name}: {each['Code']} ({each.get('Message', '')})")
        for name in {m.body_at for m in messages if m.body_at}:
            await self._opened_bodies().delete(name)

    @asynccontextmanager
    async def _received(self) -> AsyncIterator[AsyncIterator[list[_Message]]]:
        """All messages, in batches; what is still there at the end is let go."""
        handles: list[str] = []
        try:
            async with aclosing(self._receive(handles)) as batches:
                yield batches
        finally:
            # What this does not reach is visible again after `_HIDDEN_S`.
            with suppress(*FAILURES):
                for n in range(0, len(handles), _BATCH):
                    await self._let_go(handles[n : n + _BATCH])

    async def _receive(self, handles: list[str]) -> AsyncGenerator[list[_Message], None]:
        seen: set[str] = set()
        repeats = 0
        # A message may come twice; when nothing else comes, the first ones are visible again.
        while repeats < _REPEATS:
            answer = await self._opened().receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                MessageSystemAttributeNames=["SentTimestamp"],
                VisibilityTimeout=_HIDDEN_S,
                WaitTimeSeconds=self._wait_s,
            )
            found = answer.get("Messages", ())
            if not found:
                return
            handles.extend(each["ReceiptHandle"] for each in found)
            fresh = [self._message(each) for each in found if each["MessageId"] not in seen]
            repeats = 0 if fresh else repeats + 1
            seen.update(each["MessageId"] for each in found)
            yield fresh

    async def _let_go(self, handles: Sequence[str]) -> None:
        # A deleted message's handle fails, which is as good.
        entries = [
            {"Id": str(n), "ReceiptHandle": each, "VisibilityTimeout": 0}
            for n, each in enumerate(handles)
        ]
        await self._opened().change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

    def _message(self, received: Mapping[str, Any]) -> _Message:
        try:
            found = json.loads(received["Body"])
            sent = float(received["Attributes"]["SentTimestamp"])
            return _Message(
                handle=received["ReceiptHandle"],
                text=received["Body"],
                place=Place.from_json(found),
                age=(sent, float(found["t_dead"])),
                body_at=found.get("body_at"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SinkRefused(
                f"{self.name} holds a message that is no dead letter ({error!r}): give a queue of "
                "its own to dead letters"
            ) from error

    def _opened(self) -> Any:
        if self._sqs is None:
            raise SinkUnavailable(f"{self.name} is not open")
        return self._sqs

    def _opened_bodies(self) -> Bodies:
        if self._bodies is None:
            raise SinkRefused(
                f"{self.name} has letters whose bodies are on S3: give the location they are at"
            )
        return self._bodies

    async def close(self) -> None:
        """See `DeadLetterSink.close`."""
        self._sqs = None
        await self._stack.aclose()


def _attribute(code: str) -> dict[str, str]:
    # A code may come from a worker of another release. Not every character is allowed here.
    return {"DataType": "String", "StringValue": json.dumps(code)[1:-1][:_LONGEST_CODE] or "-"}


@dataclass(frozen=True, slots=True)
class _Message:
    """A message as received; of two of one place the one with the greater `age` counts."""

    handle: str
    text: str
    place: Place
    age: tuple[float, float]
    body_at: str | None
