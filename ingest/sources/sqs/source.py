"""An SQS queue as a source: long polls, heartbeats, and deletes of what was settled.

    poll -> in flight -> opened (S3 where a message points there) -> ahead -> take -> commit: delete

A message is ours from the poll that brought it until it is deleted or handed back; all that time
its visibility is kept. Nothing is deleted that was not settled: what is left behind by a crash
is handed out again by the queue, and is at the same position then.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from ingest.errors import SourceUnavailable
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources import Keeper
from ingest.sources.sqs.contents import Contents, Part, needs_fetching
from ingest.sources.sqs.envelopes import Content, unwrapped
from ingest.sources.sqs.inflight import InFlight, Message, offset_of
from ingest.sources.sqs.objects import Objects
from ingest.sources.sqs.options import Counts, SqsOptions
from ingest.sources.sqs.outage import Outage
from ingest.sources.sqs.queue import BATCH, Queue, Received
from ingest.sources.sqs.visibility import Visibility

_PATIENCE_S: Final = 0.2  # how long `take` waits when there is nothing
_AHEAD: Final = 2 * BATCH  # messages of each receiver that wait to be taken
_LONGEST_RETRY_S: Final = 300
_LEAVE_S: Final = 5.0  # of each of the last steps: a last heartbeat, deleting, handing back
_HOUR_S: Final = 3600

_log = structlog.get_logger()

_Letter = tuple[Message, Received, list[Content]]


class SqsSource:
    """Reads the queue that `queue` names: a name, or a URL (for a queue of another account).

    `client`: arguments of aiobotocore's `create_client` (`endpoint_url`, `region_name`,
    credentials), with AWS's own places for what is missing; `s3`: the same for the objects that
    messages lead to, when they differ. `allow`: prefixes (`s3://bucket/prefix`) of those objects;
    others are not read. `counts` says what happened so far.
    """

    ordered = False

    def __init__(
        self,
        queue: str,
        options: SqsOptions | None = None,
        client: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
        s3: Mapping[str, Any] | None = None,
    ) -> None:
        self._options = options = options or SqsOptions()
        client = client or {}
        self._queue = Queue(queue, client, options.wait_s, options.visibility_s, options.receivers)
        self.name = f"sqs:{self._queue.name}"
        self.partition = Partition(self.name, self._queue.name)
        self.counts = Counts()
        self._objects = Objects(client if s3 is None else s3, allow)
        self._contents = Contents(self._objects, options.max_bytes)
        self._inflight = InFlight(options.visibility_s)
        self._visibility = Visibility(
            self._queue,
            self._inflight,
            self.counts,
            options.visibility_s,
            options.max_age_h * _HOUR_S,
        )
        self._outage = Outage(self.name)
        self._running: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._sweeping = asyncio.Lock()
        self._held = False
        # What was opened and not taken yet, and whether there is any.
        self._ahead: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        # Room for more: messages asked for in polls, being fetched; and whether any of it changed.
        self._asked = 0
        self._fetching = 0
        self._room = asyncio.Event()
        # Whether a whole poll was empty since the last message, and since when one would count.
        self._quiet = False
        self._busy_until = 0.0
        self._abandoned_until = 0.0

    @property
    def in_flight(self) -> int:
        """Messages that are held now: waiting, taken, or settled and not deleted yet."""
        return len(self._inflight)

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        try:
            await self._objects.open()
            first = await self._queue.open(self._options.max_outstanding)
            keeper.assign(self.partition)
        except BaseException:
            await self._disconnect()
            raise
        self._running = asyncio.create_task(self._run(first))

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`. Waits up to 0.2 s, and raises nothing that AWS can cause."""
        if self._running and self._running.done():
            self._running.result()  # an error in this package must not look like an empty queue
        if self._held:
            return []
        if not self._ahead:
            await _first_of(self._arrived, _PATIENCE_S)
        taken = [self._ahead.popleft() for _ in range(min(limit, len(self._ahead)))]
        if not self._ahead:
            self._arrived.clear()
        self._room.set()
        return taken

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`. Polls go on until what may wait has come."""
        self._held = self.partition in partitions

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """Delete what was settled, in a FIFO queue in the order of its groups.

        Raises:
            SourceUnavailable: some of it could not be deleted; the next call tries again.
        """
        if ours := progress.get(self.partition):
            for offset in ours.settled:
                self._inflight.settle(offset)
        await self._sweep()

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`: never, unless the options say until the queue is empty."""
        return self._options.until_empty and self._quiet and not len(self._inflight)

    async def close(self) -> None:
        """Delete what was settled, hand the rest back to be seen at once, and disconnect."""
        try:
            if self._running:
                await self._stop(self._running)
        finally:
            self._running = None
            self._ahead.clear()
            await self._disconnect()

    async def _stop(self, running: asyncio.Task[None]) -> None:
        self._stopping.set()
        self._room.set()
        if self._reading:
            await asyncio.wait({self._reading}, timeout=self._options.leave_s)
            self._reading.cancel()
        # Not cancelled at once: a delete that is cut off may have been done.
        await asyncio.wait({running}, timeout=_LEAVE_S)
        running.cancel()
        await asyncio.wait({running})
        # What fails or takes too long here comes again, and is known by its key then.
        with suppress(SourceUnavailable, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._sweep()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._hand_back(list(self._inflight), self._abandoned_s())
        if not running.cancelled():
            running.result()

    def _abandoned_s(self) -> int:
        """How long polls that we gave up go on in the server.

        It does not notice that we are gone, and would hand out to nobody what is handed back: so
        messages stay unseen until these polls are over.
        """
        return max(0, math.ceil(self._abandoned_until - time.monotonic()))

    async def _disconnect(self) -> None:
        await self._objects.close()
        await self._queue.close()

    async def _run(self, first: list[Received]) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._reading = tasks.create_task(self._read(first))
            tasks.create_task(self._keep())

    async def _read(self, first: list[Received]) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._admit(tasks, first)
                for _ in range(self._options.receivers):
                    tasks.create_task(self._receive(tasks))
        finally:
            self._stopped.set()

    async def _keep(self) -> None:
        """Keep visibility, and delete what is settled without a commit: what says nothing."""
        while not self._stopped.is_set():
            await _first_of(self._stopped, self._visibility.tick_s)
            await self._visibility.refresh()
            with suppress(SourceUnavailable):  # the next commit says so
                await self._sweep()

    async def _receive(self, tasks: asyncio.TaskGroup) -> None:
        while wanted := await self._wanted():
            started = time.monotonic()
            self._asked += wanted
            try:
                received = await self._poll(wanted)
            except SourceUnavailable as error:
                await _first_of(self._stopping, self._outage.failed(error))
                continue
            finally:
                self._asked -= wanted
                self._room.set()
            self._outage.over()
            if received:
                self._busy(time.monotonic())
            elif started >= self._busy_until:
                self._quiet = True
            await self._admit(tasks, received)

    async def _wanted(self) -> int:
        """How many messages to ask for, as soon as there is room; 0 when none are wanted."""
        while not (self._stopping.is_set() or self.exhausted):
            free = min(
                self._options.max_outstanding - len(self._inflight),
                _AHEAD * self._options.receivers - len(self._ahead) - self._fetching,
            )
            if (free := free - self._asked) > 0:
                return min(free, BATCH)
            self._room.clear()
            await self._room.wait()
        return 0

    async def _poll(self, wanted: int) -> list[Received]:
        over = time.monotonic() + self._options.wait_s
        try:
            return await self._queue.receive(wanted)
        except asyncio.CancelledError:
            self._abandoned_until = max(self._abandoned_until, over)
            raise

    def _busy(self, until: float) -> None:
        """The queue is not empty; no poll that began before `until` says that it is."""
        self._quiet = False
        self._busy_until = max(self._busy_until, until)

    async def _admit(self, tasks: asyncio.TaskGroup, received: Sequence[Received]) -> None:
        """Open new messages, one by one; those of a group, one after the other."""
        chains: dict[str, list[_Letter]] = {}
        for each in received:
            if message := self._new(each):
                contents = unwrapped(each.text, each.attributes)
                # Standard queues know groups, too, but promise no order in them.
                name = each.group if self._queue.fifo and each.group else each.id
                chains.setdefault(name, []).append((message, each, contents))
        for chain in chains.values():
            if any(needs_fetching(contents) for _, _, contents in chain):
                self._fetching += len(chain)
                tasks.create_task(self._fetch(chain))
            else:
                await self._open(chain)

    def _new(self, received: Received) -> Message | None:
        """A message in flight; None for one that must not be delivered (again)."""
        now = time.monotonic()
        self.counts.redelivered += received.receive_count > 1
        if self._inflight.seen_again(received.id, received.handle, now):
            return None
        group = received.group if self._queue.fifo else None
        message = self._inflight.add(received.id, received.handle, group, now)
        if self._inflight.was_deleted(received.id):
            # A queue may hand out what was deleted, and a delete may have come too late.
            self.counts.repeated += 1
            self._inflight.delivered(message, ())
            return None
        self.counts.received += 1
        return message

    async def _fetch(self, chain: list[_Letter]) -> None:
        try:
            await self._open(chain)
        finally:
            self._fetching -= len(chain)
            self._room.set()

    async def _open(self, chain: list[_Letter]) -> None:
        for at, (message, received, contents) in enumerate(chain):
            try:
                parts = await self._contents.parts(received.text, contents)
            except SourceUnavailable as error:
                later = 2 ** min(received.receive_count - 1, 16)
                wait_s = min(self._options.retry_s * later, _LONGEST_RETRY_S)
                _log.warning("an object is tried again", wait_s=wait_s, error=f"{error}")
                # Those behind it in its group would overtake it.
                await self._hand_back([each for each, _, _ in chain[at:]], wait_s)
                return
            self._deliver(message, received, parts)

    def _deliver(self, message: Message, received: Received, parts: Sequence[Part | None]) -> None:
        deliveries = [
            Delivery(
                Position(*self.partition, offset_of(message.id, n if len(parts) > 1 else None)),
                part.body,
                time.time(),
                {**_headers(received), **part.headers},
            )
            for n, part in enumerate(parts)
            if part
        ]
        self.counts.passed_over += not deliveries
        self._inflight.delivered(message, [each.position.offset for each in deliveries])
        self._ahead.extend(deliveries)
        if deliveries:
            self._arrived.set()

    async def _sweep(self) -> None:
        """Delete all that is settled. One at a time, or a message would be deleted twice."""
        async with self._sweeping:
            while ready := self._inflight.ready():
                await self._delete(ready)

    async def _delete(self, messages: Sequence[Message]) -> None:
        handles = {each.id: each.handle for each in messages}
        for each in messages:
            each.leaving = True
        try:
            failures = await self._queue.delete(handles)
        finally:
            for each in messages:
                each.leaving = False
        for each in messages:
            is_gone = each.id in failures.gone
            if each.id in failures.pending or (is_gone and each.handle != handles[each.id]):
                continue  # not now; or it was handed out to us anew, with another handle
            self.counts.deleted += not is_gone
            self.counts.expired += is_gone and not each.lost
            self._inflight.remove(each, deleted=True)
        self._room.set()
        if failures.pending:
            why = next(iter(failures.pending.values()))
            raise SourceUnavailable(
                f"{len(failures.pending)} messages of {self._queue.name} were not deleted ({why})"
            )

    async def _hand_back(self, messages: Sequence[Message], wait_s: int) -> None:
        """Let the queue hand them out again in `wait_s`; where that fails, it does later."""
        # First, so that no heartbeat keeps what we let go of.
        for each in messages:
            self._inflight.remove(each)
        self._busy(time.monotonic() + wait_s)
        failures = await self._queue.change({each.id: each.handle for each in messages}, wait_s)
        if failures.pending:
            why = next(iter(failures.pending.values()))
            _log.warning("handing back failed", messages=len(failures.pending), error=why)
        self.counts.returned += len(messages) - len(failures.pending) - len(failures.gone)
        self._room.set()


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, but no longer than that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _headers(received: Received) -> dict[str, str]:
    headers = {
        "sqs_message_id": received.id,
        "sqs_receive_count": str(received.receive_count),
        "sqs_sent_ms": received.sent,
        "sqs_message_group": received.group or "",
    }
    return {name: value for name, value in headers.items() if value}
