"""A broker with a consumer group, in memory: the twin for tests of several dispatchers.

    broker = MemoryBroker({"0": bodies, "1": more})
    one, other = broker.member(), broker.member()      # each is a Source

What a group may do to its members can be done to these: they come, leave, are cut off, come back
too late; the broker goes away and returns. Rebalances are eager: all partitions are taken from
all members, then dealt out anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from ingest.errors import SourceUnavailable
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources import Keeper


async def _at_once() -> None:
    await asyncio.sleep(0)


class MemoryBroker:
    """A topic, the group that reads it, and what the group has committed.

    `ends`: members are exhausted when all of the topic is committed. `pause` is awaited where a
    request or an answer is on its way: let it take time. `clock`: unix seconds.
    """

    def __init__(
        self,
        partitions: Mapping[str, Sequence[bytes]],
        name: str = "memory",
        *,
        ends: bool = True,
        pause: Callable[[], Awaitable[None]] = _at_once,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.ends = ends
        self.pause = pause
        self.clock = clock
        self.logs = {Partition(name, each): list(bodies) for each, bodies in partitions.items()}
        self.committed: dict[Partition, Progress] = {}
        self.generation = 0
        self.fenced = 0
        """Commits that came from a member whose time was over."""
        self.up = True
        self._members: list[MemoryMember] = []
        self._rebalancing = asyncio.Lock()

    def member(self) -> MemoryMember:
        """A new member. It joins when it is opened."""
        return MemoryMember(self)

    def append(self, partition: str, body: bytes) -> None:
        """Publish one more event."""
        self.logs[Partition(self.name, partition)].append(body)

    @property
    def settled(self) -> bool:
        """Whether all that was published is committed."""
        nothing = Progress()
        return all(
            self.committed.get(each, nothing).watermark >= len(log)
            for each, log in self.logs.items()
        )

    def stop(self) -> None:
        """Go away: nothing is delivered, commits and joins fail."""
        self.up = False

    def start(self) -> None:
        """Come back. Events and commits are kept, the group is not: its members join again."""
        self.up = True
        self._members.clear()
        self.generation += 1

    async def expel(self, member: MemoryMember) -> None:
        """Its session ran out: its partitions go to others. It finds out when it asks again."""
        if member in self._members:
            self._members.remove(member)
            await self._rebalance()

    async def join(self, member: MemoryMember) -> None:
        """Let a member in, and deal partitions out anew.

        Raises:
            SourceUnavailable: the broker is away.
        """
        self._check_up()
        self._members.append(member)
        await self._rebalance()

    def keep(self, partition: Partition, progress: Progress) -> None:
        """Store a commit of the partition's owner. To be overridden by who wants to look at it."""
        self.committed[partition] = progress

    def commit(
        self, member: MemoryMember, generation: int, progress: Mapping[Partition, Progress]
    ) -> bool:
        """Keep what is the member's; False when it is of this generation no more.

        Raises:
            SourceUnavailable: the broker is away.
        """
        self._check_up()
        if member not in self._members or generation != self.generation:
            self.fenced += 1
            return False
        for partition, each in progress.items():
            if partition in member.partitions:
                self.keep(partition, each)
        return True

    def is_member(self, member: MemoryMember) -> bool:
        """Whether it belongs to the group now."""
        return member in self._members

    def _check_up(self) -> None:
        if not self.up:
            raise SourceUnavailable(f"{self.name} is away: start it again")

    async def _rebalance(self) -> None:
        async with self._rebalancing:
            try:
                # All have let go before anything is dealt, also when who joins is killed meanwhile.
                async with asyncio.TaskGroup() as tasks:
                    for each in self._members:
                        if each.connected:
                            tasks.create_task(each.give_up())
            finally:
                self._deal()

    def _deal(self) -> None:
        self._members = [each for each in self._members if each.connected]
        self.generation += 1
        partitions = list(self.logs)
        count = len(self._members)
        for n, member in enumerate(self._members):
            # By generation, so that partitions move at every rebalance.
            member.receive(partitions[(n + self.generation) % count :: count])


class MemoryMember:
    """A member of the group of a `MemoryBroker`, and a source.

    `connected`: set it to False and it is cut off, as after `kill -9` or behind a broken network;
    the group does without it from the next rebalance on. Set to True again, it finds out that its
    time is over, loses what it had and joins again.
    """

    ordered = True

    def __init__(self, broker: MemoryBroker) -> None:
        self.name = broker.name
        self.connected = True
        self.generation = 0
        self._broker = broker
        self._keeper: Keeper | None = None
        self._next: dict[Partition, int] = {}
        self._held: Collection[Partition] = ()
        self._giving_up = False
        self._failure: Exception | None = None

    @property
    def partitions(self) -> Collection[Partition]:
        """What it has been dealt."""
        return self._next.keys()

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`."""
        self._keeper = keeper
        await self._broker.join(self)

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`. Partitions take turns."""
        await self._broker.pause()
        if self._failure:
            raise self._failure
        if not (self._broker.up and self.connected):
            return []
        if not self._broker.is_member(self):
            self._lose()
            await self._broker.join(self)
        return [] if self._giving_up else self._deliveries(limit)

    def _deliveries(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for partition, first in tuple(self._next.items()):
            if partition in self._held or len(taken) == limit:
                continue
            bodies = self._broker.logs[partition][first : first + limit - len(taken)]
            now = self._broker.clock()
            taken += (
                Delivery(Position(*partition, offset), body, now)
                for offset, body in enumerate(bodies, start=first)
            )
            # The one that delivered last is asked last.
            del self._next[partition]
            self._next[partition] = first + len(bodies)
        return taken

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`."""
        self._held = partitions

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`."""
        generation = self.generation  # of the request, however long it is on its way
        await self._broker.pause()
        self._check_connected()
        kept = self._broker.commit(self, generation, progress)
        await self._broker.pause()
        self._check_connected()  # it was kept, and the answer is lost
        if not kept and generation == self.generation:
            self._lose()

    def _check_connected(self) -> None:
        if not self.connected:
            raise SourceUnavailable(f"{self.name} cannot be reached")

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`: when all is committed, whoever did it."""
        return self._broker.ends and self._broker.settled

    async def close(self) -> None:
        """Leave the group."""
        if self.connected:
            await self._broker.expel(self)
            self._lose()

    # What the broker says.

    async def give_up(self) -> None:
        """A rebalance begins: finish, commit, and let go of all partitions.

        What fails in that is raised by the next `take`.
        """
        self._giving_up = True
        try:
            if self._keeper:
                await self._keeper.revoke(self.partitions)
        except Exception as error:  # noqa: BLE001  whatever it is, `take` says it
            self._failure = error
        finally:
            self._giving_up = False
            self._lose()

    def receive(self, partitions: Sequence[Partition]) -> None:
        """A rebalance is over: these are ours."""
        self._lose()
        self.generation = self._broker.generation
        if self._keeper:
            assign, committed = self._keeper.assign, self._broker.committed
            self._next = {each: assign(each, committed.get(each)) for each in partitions}

    def _lose(self) -> None:
        if self._keeper and self._next:
            self._keeper.lose(tuple(self._next))
        self._next = {}
