"""What a channel must do. Matching, collectives and failures are built on it, for all alike."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from fmi.deadline import Deadline
from fmi.frames import Buffer, Header


class Inbox(Protocol):
    """Where a channel puts what arrives. Called in the thread that called `send` or `wait`."""

    def place(self, header: Header) -> memoryview | None:
        """Where to write the payload that is arriving, exactly as long; None: a buffer of its own.

        Saves the copy of a large payload. `deliver` must be called with that view then.
        """

    def deliver(self, header: Header, description: bytes, payload: Buffer) -> None:
        """Take one whole frame. A payload that was not `place`d must be writable (bytearray)."""

    def heard(self, source: int, note: bytes) -> None:
        """`source` lives: a beat of it arrived."""

    def blocked(self, dest: int) -> None:
        """Called now and then while a `send` waits for room.

        Raises:
            FmiError: what else than room or the deadline ends the wait.
        """

    def left(self, source: int, why: str) -> None:
        """Nothing more comes from `source`: its connection ended."""


class Channel(Protocol):
    """Frames between the ranks of one group, in order per direction. Belongs to one thread.

    Only `beat` is called by another one.
    """

    rank: int
    size: int
    run: bytes  # stands for this meeting of the group and no other; in every frame's header
    beat_s: float  # how often `beat` should be called; who is silent for `patience_s` is lost
    patience_s: float

    def start(self, inbox: Inbox) -> None:
        """Put what arrives into `inbox` from now on. Called once, before all else."""

    def send(self, dest: int, head: bytes, payload: Buffer, deadline: Deadline) -> None:
        """Hand over one frame: `head` is header and description.

        When it returns, the caller may write to the payload's memory again. While it has to wait
        it takes in what arrives, so that two that send to each other never block each other.

        Raises:
            PeerLost: `dest` is gone, or takes nothing until the deadline.
            ChannelBroken: what carries the messages does not work.
        """

    def wait(self, sources: Collection[int], seconds: float) -> None:
        """Take in what arrives, from anybody. `sources` are those the caller waits for.

        Returns as soon as something was taken in (part of a frame counts), or when `seconds` are
        over; with 0 it only looks. It may return early, and the caller calls again.

        Raises:
            ChannelBroken: what carries the messages does not work.
            ProtocolError: what arrived is no frame.
        """

    def let_go(self) -> None:
        """Write no more into memory that `Inbox.place` gave: what still arrives goes elsewhere."""

    def beat(self, note: bytes) -> None:
        """Let the others know that this rank lives. Called by a thread of its own; never waits."""

    def close(self, deadline: Deadline, given_up: Collection[int] = ()) -> None:
        """Leave. What was sent before still arrives; waits for that until the deadline.

        Nobody waits for the ranks that were `given_up`.
        """


class Transport(Protocol):
    """How to reach the other ranks of a group: what a user hands to `connect`."""

    @property
    def name(self) -> str:
        """What it is called in messages and models."""

    def open(self, group: str, rank: int, size: int, deadline: Deadline) -> Channel:
        """Meet the other ranks; returns when all are connected.

        Raises:
            PeerLost: some ranks did not come; raised on every rank that did.
            Refused: wrong token, or the group is unknown or over.
            NoNetwork: this machine does not let the rank listen or take calls.
            ChannelBroken: the store does not work.
        """
