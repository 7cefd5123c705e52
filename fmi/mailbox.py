"""The mailbox: what arrived for a rank, kept until it is asked for, and who will not say more.

One for each channel, shared by all communicators on it. Ranks are those of the channel here.
Every wait of this package is `await_from`, so that it is the one place that knows what ends a
wait: a message, a lost or leaving peer, a failure that another rank reported, silence, or the
deadline.
"""

from __future__ import annotations

import struct
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

from fmi import frames
from fmi.channels.protocol import Channel
from fmi.deadline import Deadline
from fmi.errors import Aborted, FmiError, PeerLost
from fmi.frames import HEADER, MAGIC, Buffer, Encoded, Header, Operation, read_header
from fmi.notes import InCall, Note, Which, different_calls, in_another_call, read_failure

_SLICE_S: Final = 0.1  # between two looks at who is silent, and at an abort of another thread

_MOST_SCRATCH: Final = 1 << 25  # bytes that are kept from call to call
_FRESH_BEATS: Final = 3  # an older note says nothing of what its rank does now
_POINT_TO_POINT: Final = int(Operation.SEND)
_AMONG_SURVIVORS: Final = int(Operation.SURVIVORS)
_FIRST_OF_GROUP: Final = int(Operation.FAILED)


class Frame(NamedTuple):
    """What arrived."""

    header: Header
    description: bytes
    payload: Buffer

    def value(self) -> Any:
        """The object that was sent."""
        return frames.decode(self.header.kind, self.description, self.payload)


class Posted(NamedTuple):
    """A receive whose payload is to be written into the caller's memory."""

    context: int
    operation: int
    number: int
    tag: int
    view: memoryview


class Mailbox:
    """What arrived, by communicator (context) and source. Implements `channels.protocol.Inbox`."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.waiting_for: tuple[int, ...] = ()
        self.waiting_in: InCall | None = None
        self.failures: dict[int, FmiError] = {}  # by context
        self.parents: dict[int, int] = {}  # contexts that were split from another one
        self.lost: set[int] = set()  # given up: what they say later is never taken for an answer
        self.about_survivors: deque[Frame] = deque()
        self.next_context = 1
        self._rank, self._run = channel.rank, channel.run
        self._sent = [0] * channel.size
        self._received = [0] * channel.size
        self._messages: defaultdict[int, deque[Frame]] = defaultdict(deque)
        self._calls: defaultdict[tuple[int, int], deque[Frame]] = defaultdict(deque)
        self._posted: defaultdict[int, list[Posted]] = defaultdict(list)
        self._gone: dict[int, str] = {}
        self.done: set[int] = set()  # left when their work was done
        self._heard_at = [0.0] * channel.size
        self._notes: dict[int, tuple[float, Note]] = {}  # and when it came
        self._sending_about_group = False
        self._sending_in, self._sending_since = 0, 0.0
        self._scratch = memoryview(b"")
        self.arrivals: list[int] | None = None  # sources of parts, for who waits for several
        self._ended = ""  # why this rank itself was ended by another thread
        channel.start(self)

    # What a channel calls.

    def place(self, header: Header) -> memoryview | None:
        """See `Inbox.place`: the memory of the receive that waits for exactly this frame."""
        if header.source not in self._posted:
            return None
        for posted in self._posted[header.source]:
            if (
                header.payload == len(posted.view)
                and header.context == posted.context
                and header.operation == posted.operation
                and header.number == posted.number
                and header.tag == posted.tag
                and header.run == self._run
                and header.source not in self.lost
            ):
                self._posted[header.source].remove(posted)
                return posted.view
        return None

    def deliver(self, header: Header, description: bytes, payload: Buffer) -> None:
        """See `Inbox.deliver`."""
        source = header.source
        if header.run != self._run or source >= len(self._received):
            return  # of another run: never ours
        self._heard_at[source] = time.monotonic()
        operation = header.operation
        if source in self.lost:
            return
        if header.sequence != self._received[source]:
            self._gone[source] = (
                f"message {self._received[source]} was expected and {header.sequence} arrived: "
                "one was lost or doubled on the way"
            )
            return
        self._received[source] = (header.sequence + 1) & 0xFFFFFFFF
        frame: Frame = tuple.__new__(Frame, (header, description, payload))
        if operation == _POINT_TO_POINT:
            self._messages[header.context].append(frame)
        elif operation < _FIRST_OF_GROUP:
            self._calls[header.context, source].append(frame)
            if self.arrivals is not None:
                self.arrivals.append(source)
        else:
            self._deliver_about_group(frame)

    def heard(self, source: int, note: bytes) -> None:
        """See `Inbox.heard`."""
        self._heard_at[source] = time.monotonic()
        self._note(source, note)

    def left(self, source: int, why: str) -> None:
        """See `Inbox.left`."""
        self._gone.setdefault(source, why)

    def blocked(self, dest: int) -> None:
        """See `Inbox.blocked`."""
        self.waiting_for = (dest,)
        if self._sending_about_group:
            return
        if self.failures or self._gone or self._ended:
            self._raise_if_over((dest,), self._sending_in)
        self._raise_if_silent((dest,), self._sending_since)

    # What a communicator calls.

    def send(
        self,
        dest: int,
        context: int,
        operation: int,
        number: int,
        tag: int,
        encoded: Encoded,
        deadline: Deadline,
    ) -> None:
        """Send one frame; what is about the group goes also to a rank that was given up.

        Raises:
            PeerLost: `dest` is gone, or takes nothing until the deadline.
        """
        about_group = operation >= _FIRST_OF_GROUP
        if dest in self.lost and not about_group:
            raise PeerLost((dest,), "it was lost before")
        self._sending_about_group = about_group
        self._sending_in, self._sending_since = context, deadline.since
        kind, description, payload = encoded
        sequence = self._sent[dest]
        self._sent[dest] = (sequence + 1) & 0xFFFFFFFF
        head = HEADER.pack(
            MAGIC,
            self._run,
            context,
            operation,
            kind,
            self._rank,
            tag,
            number,
            sequence,
            len(description),
            len(payload),
        )
        if description:
            head += description
        if dest == self._rank:
            self.deliver(read_header(head), description, bytearray(payload))
            return
        self.channel.send(dest, head, payload, deadline)
        if self.waiting_for:
            self.waiting_for = ()  # it was blocked

    def tell(
        self,
        dest: int,
        context: int,
        operation: Operation,
        notice: Encoded,
        seconds: float,
        tag: int = 0,
    ) -> None:
        """Send what is about the group itself, also to a rank that was given up.

        Raises:
            PeerLost: `dest` is gone, or takes nothing for so long.
        """
        self.send(dest, context, operation, 0, tag, notice, Deadline.after(seconds))

    def post(self, source: int, posted: Posted) -> None:
        """Let a frame that will come from `source` be written into the caller's memory."""
        self._posted[source].append(posted)

    def scratch(self, size: int) -> memoryview:
        """Memory for parts of one call, good until the next one: fresh pages cost time."""
        if size > _MOST_SCRATCH:
            return frames.empty_view(size)
        if len(self._scratch) < size:
            self._scratch = frames.empty_view(size)
        return self._scratch[:size]

    def expects(self, source: int) -> bool:
        """Whether there is a `post` for a frame of `source`."""
        return bool(self._posted.get(source))

    def unpost(self) -> None:
        """Take `post` back: the memory is the caller's again."""
        if self._posted:
            self._posted.clear()
            self.channel.let_go()

    def message(self, context: int, source: int | None, tag: int | None) -> Frame | None:
        """Take the first message that fits; None stands for any.

        Raises:
            ProtocolError: its sender made a collective call before, and this rank did not yet.
        """
        messages = self._messages.get(context)
        if not messages:
            return None
        for i, frame in enumerate(messages):
            header = frame.header
            if (source is None or header.source == source) and (tag is None or header.tag == tag):
                parts = self._calls.get((context, header.source))
                if parts and parts[0].header.sequence < header.sequence:
                    raise in_another_call(self.channel.rank, parts[0].header)
                del messages[i]
                return frame
        return None

    def part(self, context: int, source: int) -> Frame | None:
        """Take the next part of a collective that `source` sent."""
        parts = self._calls.get((context, source))
        return parts.popleft() if parts else None

    def see_that_not_all_are_in_a_call(self, context: int, sources: Collection[int]) -> None:
        """Of such a source no message comes before this rank makes the call, too.

        Raises:
            ProtocolError: all `sources` are in one.
        """
        parts: deque[Frame] | None = None
        for source in sources:
            parts = self._calls.get((context, source))
            if not parts:
                return
        if parts:
            raise in_another_call(self.channel.rank, parts[0].header)

    def leftovers(self, context: int) -> Iterator[Frame]:
        """Parts of collectives that nobody took; survivors may be late for each other."""
        for (of, _), parts in self._calls.items():
            if of == context:
                yield from (each for each in parts if each.header.operation != _AMONG_SURVIVORS)

    def await_from(
        self,
        sources: Collection[int],
        context: int | None,
        deadline: Deadline,
        call: InCall | None = None,
    ) -> None:
        """Wait until something arrives; the caller looks whether it is what it needs.

        Raises:
            PeerLost: one of `sources` is gone, or all are silent until the deadline.
            Aborted, ProtocolError: what another rank reported, or another thread asked for.
        """
        if self.failures or self._gone or self.lost or self._ended:
            self._raise_if_over(sources, context)
        now = time.monotonic()
        if now >= deadline.at:
            self._look_once_more(sources, context)
            return
        self.waiting_for, self.waiting_in = tuple(sources), call
        if now - deadline.since > self.channel.beat_s:
            sources = self._chain(sources)[1]
        self.channel.wait(sources, min(_SLICE_S, deadline.at - now))
        waited_for, self.waiting_for, self.waiting_in = self.waiting_for, (), None
        if time.monotonic() - now >= _SLICE_S:
            self._raise_if_elsewhere(waited_for, call.which() if call else None)
            self._raise_if_silent(waited_for, deadline.since)

    def failure(self, context: int | None) -> FmiError | None:
        """What ended a communicator; the end of the whole is the end of its parts."""
        while context is not None:
            if failure := self.failures.get(context):
                return failure
            context = self.parents.get(context)
        return None

    def raise_if_failed(self, context: int) -> None:
        """After a failure nothing goes on in this communicator."""
        if self.failures and (failure := self.failure(context)):
            raise failure

    def gone(self, source: int) -> str | None:
        """Why nothing more comes from `source`; None if it may."""
        return self._gone.get(source)

    def end(self, why: str) -> None:
        """Let every wait of this rank end, from another thread."""
        self._ended = why

    def culprits(self, sources: Collection[int]) -> tuple[int, ...]:
        """Whom a wait for `sources` is really for, as far as their beats tell.

        A rank that says that it waits is not to blame; one that says nothing, or is busy, is.
        """
        return tuple(sorted(self._chain(sources)[0] or set(sources)))

    # Inside.

    def _chain(self, sources: Collection[int]) -> tuple[set[int], set[int]]:
        """The ranks at the end of who waits for whom, and all on the way."""
        own, recently = self.channel.rank, time.monotonic() - _FRESH_BEATS * self.channel.beat_s
        last, seen, open_ = set[int](), set[int](), list(sources)
        while open_:
            source = open_.pop()
            if source in seen or source == own:
                continue
            seen.add(source)
            noted_at, note = self._notes.get(source, (0.0, None))
            if note is None or noted_at < recently or not note.waits_for:
                last.add(source)
            else:
                open_.extend(note.waits_for)
        return last, seen or set(sources)

    def _look_once_more(self, sources: Collection[int], context: int | None) -> None:
        """What is here already is given also when the deadline has passed."""
        before = sum(self._received)
        self.channel.wait(sources, 0)
        if sum(self._received) == before:
            self._raise_if_over(sources, context)
            raise PeerLost(self.culprits(sources), "it said nothing until the deadline")

    def _raise_if_over(self, sources: Collection[int], context: int | None) -> None:
        if self._ended:
            raise Aborted(self.channel.rank, self._ended)
        if context is not None and (failure := self.failure(context)):
            raise failure
        if before := self.lost.intersection(sources):
            raise PeerLost(before, "it was lost before")
        for source in sources:
            if why := self._gone.get(source):
                raise PeerLost((source,), why)

    def _raise_if_silent(self, sources: Collection[int], since: float) -> None:
        if not self._silent(sources, since):
            return
        self.channel.wait(sources, 0)  # this rank may have been the one that stood still
        if silent := self._silent(sources, since):
            raise PeerLost(silent, f"no sign of life for {self.channel.patience_s:g} s")

    def _silent(self, sources: Collection[int], since: float) -> list[int]:
        """Who was not heard of for longer than a beating heart allows, in this wait."""
        before = time.monotonic() - self.channel.patience_s
        return [each for each in sources if max(self._heard_at[each], since) < before]

    def _raise_if_elsewhere(self, sources: Collection[int], own: Which | None) -> None:
        """Ranks that wait for each other in different calls would wait until the deadline."""
        for source in sources:
            theirs = self._notes[source][1].which if source in self._notes else None
            if own is None or theirs is None or theirs == own:
                continue
            if (theirs.context, theirs.number) == (own.context, own.number):
                raise different_calls(self.channel.rank, own, source, theirs)

    def _note(self, source: int, raw: bytes) -> None:
        with suppress(struct.error, ValueError):  # of a damaged beat only that it came counts
            self._notes[source] = time.monotonic(), Note.read(raw)

    def _deliver_about_group(self, frame: Frame) -> None:
        header = frame.header
        if header.operation == Operation.LEAVE:
            done, self._gone[header.source] = frame.value()
            if done:
                self.done.add(header.source)
        elif header.operation == Operation.FAILED:
            self.failures.setdefault(header.context, read_failure(header.source, frame.value()))
        elif header.operation == Operation.SHRINK:
            self.about_survivors.append(frame)
