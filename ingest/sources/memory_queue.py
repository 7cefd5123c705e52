"""A queue in memory, with visibility: the twin for tests of sources without order.

    queue = MemoryQueue(bodies, visibility_s=30)
    one, other = queue.receiver(), queue.receiver()    # each is a Source

A message that is not deleted in time is delivered again, to whoever asks first; visibility is not
extended, so a short one makes duplicates. Deletes may fail, and a deleted message may come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from ingest.errors import SourceUnavailable
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources import Keeper


class MemoryQueue:
    """Messages, and when each is to be seen again.

    `ends`: receivers are exhausted when every message was deleted. `refuses(message)`: whether a
    delete fails this time. `clock`: seconds that never go back.
    """

    def __init__(
        self,
        bodies: Sequence[bytes],
        name: str = "queue",
        *,
        visibility_s: float = 30.0,
        ends: bool = True,
        refuses: Callable[[int], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.ends = ends
        self.visibility_s = visibility_s
        self.bodies = list(bodies)
        self.up = True
        self.deliveries = 0
        self._refuses = refuses
        self._clock = clock
        self._seen_from = dict.fromkeys(range(len(bodies)), 0.0)

    def receiver(self) -> MemoryReceiver:
        """A new receiver of this queue."""
        return MemoryReceiver(self)

    def send(self, body: bytes) -> int:
        """Put a message in; returns its number."""
        self.bodies.append(body)
        self.put_back(len(self.bodies) - 1)
        return len(self.bodies) - 1

    def put_back(self, message: int) -> None:
        """Let a message be seen at once, even if it was deleted: queues promise at least once."""
        self._seen_from[message] = self._clock()

    def hand_back(self, message: int) -> None:
        """Let a message be seen at once, if it was not deleted."""
        if message in self._seen_from:
            self.put_back(message)

    def expire(self) -> None:
        """Let every message that is not deleted be seen at once."""
        self._seen_from = dict.fromkeys(self._seen_from, self._clock())

    def receive(self, limit: int) -> list[int]:
        """Messages that can be seen; nobody else sees them for `visibility_s`."""
        if not self.up:
            return []
        now = self._clock()
        found = [each for each, since in self._seen_from.items() if since <= now][:limit]
        self._seen_from.update(dict.fromkeys(found, now + self.visibility_s))
        self.deliveries += len(found)
        return found

    def delete(self, message: int) -> bool:
        """Whether the message is gone now."""
        if not self.up or self._refuses(message):
            return False
        self._seen_from.pop(message, None)
        return True

    @property
    def settled(self) -> bool:
        """Whether every message was deleted."""
        return not self._seen_from


class MemoryReceiver:
    """A source that reads a `MemoryQueue`. `connected`: set it to False and it is cut off."""

    ordered = False

    def __init__(self, queue: MemoryQueue) -> None:
        self.name = queue.name
        self.partition = Partition(queue.name, queue.name)
        self.connected = True
        self._queue = queue
        self._held = False
        self._open: set[int] = set()
        self._settled: set[int] = set()

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        keeper.assign(self.partition)

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        if self._held or not self.connected:
            return []
        # What is open here is in the keeper's hands already.
        new = [each for each in self._queue.receive(limit) if each not in self._open]
        self._open.update(new)
        now, bodies = time.time(), self._queue.bodies
        return [Delivery(Position(*self.partition, each), bodies[each], now) for each in new]

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`."""
        self._held = self.partition in partitions

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`: deletes what was settled.

        Raises:
            SourceUnavailable: some of it could not be deleted; the next call tries again.
        """
        if ours := progress.get(self.partition):
            self._settled.update(ours.settled)
            self._open.difference_update(ours.settled)
        self._settled -= {each for each in sorted(self._settled) if self._delete(each)}
        if self._settled:
            raise SourceUnavailable(f"{self.name}: {len(self._settled)} messages stay for now")

    def _delete(self, message: int) -> bool:
        return self.connected and self._queue.delete(message)

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`: when every message was deleted, by whoever."""
        return self._queue.ends and self._queue.settled

    async def close(self) -> None:
        """Let what was not settled be seen at once."""
        if self.connected:
            for each in self._open:
                self._queue.hand_back(each)
            self._open.clear()
