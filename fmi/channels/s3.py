"""Messages through S3: one object each, below a prefix for each run and receiver.

S3 cannot wait for a message, so a receiver asks again and again, with pauses that grow. It asks
for the objects that must come next, which is cheap, and lists its prefix where many may come. It
deletes what it has read. A message stays when its sender leaves.

What ranks leave that crashed nobody reads, and nobody deletes: give the bucket a lifecycle rule
that expires what is below the prefix after a day.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from fmi.channels.bucket import Bucket
from fmi.channels.protocol import Inbox
from fmi.channels.store import answers, meet, verdict
from fmi.deadline import Deadline
from fmi.errors import ChannelBroken, ProtocolError
from fmi.frames import HEADER, Buffer, read_header, run_id

_SHORTEST_S: Final = 0.005
_LONGEST_S: Final = 0.25
_GROWTH: Final = 1.5
_FEW: Final = 4  # sources for whose next objects it is better to ask than to list
_LONG: Final = 8 << 20  # waited for when sent, as many copies would fill the memory
_COUNT: Final = 8  # bytes of a beat's number, before the note


@dataclass(frozen=True, slots=True)
class S3:
    """The transport. Credentials are found where the AWS tools look for them.

    `parallel` requests are under way at once.
    """

    bucket: str
    prefix: str = "fmi"
    endpoint_url: str | None = None
    region: str | None = None
    parallel: int = 8

    @property
    def name(self) -> str:
        """See `Transport.name`."""
        return "s3"

    def open(self, group: str, rank: int, size: int, deadline: Deadline) -> S3Channel:
        """See `Transport.open`."""
        bucket = Bucket(self.bucket, self.prefix, self.endpoint_url, self.region, self.parallel)
        try:
            pages = _Pages(bucket)
            number = meet(pages, group, rank, size, deadline)
        except BaseException:
            bucket.close()
            raise
        return S3Channel(rank, size, run_id(group, number), bucket, pages, number, self.parallel)


class S3Channel:
    """One rank's view of the bucket. `usage` counts requests by operation.

    Writes and deletes are done by threads, for the sender need not wait for them; what is wrong
    with them shows in a later call, and at the latest in `close`.
    """

    beat_s = 1.0
    patience_s = 5.0

    def __init__(
        self,
        rank: int,
        size: int,
        run: bytes,
        bucket: Bucket,
        pages: _Pages,
        number: bytes,
        parallel: int,
    ) -> None:
        self.rank, self.size, self.run = rank, size, run
        self.usage: Counter[str] = bucket.usage
        self._bucket, self._parallel = bucket, parallel
        self._pages, self._number = pages, number
        self._writes = ThreadPoolExecutor(parallel, f"fmi-s3-writes-{rank}")
        self._reads = ThreadPoolExecutor(parallel, f"fmi-s3-reads-{rank}")
        self._under_way: deque[Future[None]] = deque()
        self._beats = ThreadPoolExecutor(1, f"fmi-s3-beat-{rank}")
        self._beating: Future[None] | None = None
        self._beat = 0
        self._closed = False
        self._sent, self._taken = [0] * size, [0] * size  # objects to, and from, each rank
        self._listed: deque[str] = deque()
        self._heard: dict[int, bytes] = {}
        self._pause = _SHORTEST_S
        self._look_at = self._list_at = self._hear_at = 0.0

    def start(self, inbox: Inbox) -> None:
        """See `Channel.start`."""
        self._inbox = inbox

    def send(self, dest: int, head: bytes, payload: Buffer, deadline: Deadline) -> None:
        """See `Channel.send`."""
        self._settle(2 * self._parallel, deadline)
        key = self._key(dest, self.rank, self._sent[dest])
        self._sent[dest] += 1
        self._do(self._bucket.put_new, key, b"".join((head, payload)))
        if len(payload) > _LONG:
            self._settle(0, deadline)
        self._pause, self._look_at = _SHORTEST_S, 0.0  # there may be an answer

    def wait(self, sources: Collection[int], seconds: float) -> None:
        """See `Channel.wait`."""
        self._settle(len(self._under_way))
        due = self._look_at - time.monotonic()
        if seconds and due > 0:
            time.sleep(min(due, seconds))
            if due > seconds:
                return
        others = [source for source in sources if source != self.rank]
        now = time.monotonic()
        if self._take(self._candidates(others, now)):
            self._pause, self._look_at = _SHORTEST_S, 0.0
        else:
            self._pause = min(_LONGEST_S, _GROWTH * self._pause)
            self._look_at = now + self._pause
        if now >= self._hear_at:
            self._hear_at = now + self.beat_s
            self._hear(others)

    def let_go(self) -> None:
        """See `Channel.let_go`. Nothing arrives in parts here."""

    def beat(self, note: bytes) -> None:
        """See `Channel.beat`. One that takes long stands for those that are due meanwhile."""
        if self._beating is None or self._beating.done():
            self._beat += 1
            body = self._beat.to_bytes(_COUNT, "big") + note
            with suppress(RuntimeError):  # closed
                self._beating = self._beats.submit(self._bucket.put, self._alive(self.rank), body)

    def close(self, deadline: Deadline, given_up: Collection[int] = ()) -> None:  # noqa: ARG002
        """See `Channel.close`. Deletes what only this rank would read; the last one, everything.

        Raises:
            ChannelBroken: something that was sent did not get there.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._settle(0, deadline)
            self._beats.shutdown(wait=False)
            if self._beating:
                wait_for([self._beating], deadline.left_or_zero())
            if deadline.left_or_zero():
                with suppress(ChannelBroken):  # all that was sent is there: that is what counts
                    self._tidy()
        finally:
            for threads in (self._beats, self._reads, self._writes):
                threads.shutdown(wait=False, cancel_futures=True)
            self._bucket.close()

    def _key(self, dest: int, source: int, count: int) -> str:
        return f"{self.run.hex()}/{dest}/{source}/{count:012}"

    def _alive(self, rank: int) -> str:
        return f"{self.run.hex()}/alive/{rank}"

    def _do(self, call: Any, *args: Any) -> None:
        self._under_way.append(self._writes.submit(call, *args))

    def _settle(self, most: int, deadline: Deadline | None = None) -> None:
        """Raise what went wrong with requests that are done; wait until `most` are under way."""
        while self._under_way and (self._under_way[0].done() or len(self._under_way) > most):
            first = self._under_way.popleft()
            try:
                first.result(deadline.left_or_zero() if deadline else None)
            except TimeoutError:
                raise ChannelBroken("the bucket took nothing until the deadline") from None

    def _candidates(self, sources: list[int], now: float) -> list[str]:
        """Keys of objects that are there, or may be: those that come next of each source."""
        if not self._listed:
            if len(sources) <= _FEW and now < self._list_at:
                return [self._key(self.rank, each, self._taken[each]) for each in sources]
            self._list_at = now + self.beat_s  # others than `sources` may have something to say
            self._listed.extend(self._bucket.names(f"{self.run.hex()}/{self.rank}"))
        next_of, keys, copies = list(self._taken), list[str](), list[str]()
        while self._listed and len(keys) < self._parallel:
            key = self._listed.popleft()
            _, _, source, count = key.split("/")
            if int(count) == next_of[int(source)]:
                next_of[int(source)] += 1
                keys.append(key)
            elif int(count) < next_of[int(source)]:
                copies.append(key)  # of a repeated request
        if copies:
            self._do(self._bucket.delete, copies)
        return keys

    def _take(self, keys: list[str]) -> bool:
        """Take in those of these objects that are there."""
        taken = []
        for key, body in zip(keys, self._get(keys), strict=True):
            source = int(key.split("/")[2])
            if body is not None and key == self._key(self.rank, source, self._taken[source]):
                self._taken[source] += 1
                self._deliver(memoryview(body))
                taken.append(key)
        if taken:
            self._do(self._bucket.delete, taken)
        return bool(taken)

    def _get(self, keys: list[str]) -> Iterable[bytearray | None]:
        apply = self._reads.map if len(keys) > 1 else map
        return apply(self._bucket.get, keys)

    def _deliver(self, frame: memoryview) -> None:
        if len(frame) < HEADER.size:
            raise ProtocolError("an object is there that is no message")
        header = read_header(frame)
        start = HEADER.size + header.description
        if len(frame) != start + header.payload:
            raise ProtocolError("a message is not as long as its header says")
        payload = frame[start:]
        # Copying costs nothing next to how the bytes came here.
        if (placed := self._inbox.place(header)) is not None:
            placed[:] = payload
            payload = placed
        self._inbox.deliver(header, bytes(frame[HEADER.size : start]), payload)

    def _hear(self, sources: list[int]) -> None:
        """See which ranks live. By their beats' numbers: no clock is compared with another."""
        for source, beat in zip(sources, self._get([*map(self._alive, sources)]), strict=True):
            if beat and self._heard.get(source) != bytes(beat[:_COUNT]):
                self._heard[source] = bytes(beat[:_COUNT])
                self._inbox.heard(source, bytes(beat[_COUNT:]))

    def _tidy(self) -> None:
        self._pages.erase(answers(self._number))
        if self._bucket.names(answers(self._number)):
            keys = [self._alive(self.rank), *self._bucket.names(f"{self.run.hex()}/{self.rank}")]
        else:  # all have left, this rank is the last
            keys = self._bucket.names(self.run.hex()) + self._bucket.names(verdict(self._number))
        self._bucket.delete(keys)


class _Pages:
    """The meeting's pages are prefixes, and a note is an object."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._written: list[str] = []
        self._read: set[str] = set()

    def write(self, page: str, note: bytes) -> None:
        key = f"{page}/{secrets.token_hex(8)}"
        self._bucket.put_new(key, note)
        self._written.append(key)

    def read(self, pages: Collection[str], seconds: float) -> list[tuple[str, bytes]]:
        end, pause = Deadline.after(seconds), _SHORTEST_S
        while True:
            notes = [(page, bytes(note)) for page in pages for note in self._new(page)]
            left = end.left_or_zero()
            if notes or not left:
                return notes
            time.sleep(min(pause, left))
            pause = min(_LONGEST_S, _GROWTH * pause)

    def _new(self, page: str) -> Iterable[bytearray]:
        for key in self._bucket.names(page):
            if key not in self._read:
                self._read.add(key)
                if (note := self._bucket.get(key)) is not None:
                    yield note

    def erase(self, page: str) -> None:
        self._bucket.delete([key for key in self._written if key.startswith(f"{page}/")])
