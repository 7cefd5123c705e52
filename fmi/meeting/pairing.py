"""How two ranks get a connection: who calls whom, and when both go through the relay.

Every connection begins with a greeting. Of several that two ranks have at last, the lower rank
picks one and says so. So both agree whichever way was the quickest: called, through two NATs at
one moment, or through the relay.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Final, NamedTuple

from fmi.deadline import Deadline
from fmi.errors import NoNetwork, PeerLost
from fmi.meeting.card import Address, Card, Counter, Member
from fmi.meeting.greeting import greet
from fmi.meeting.lines import READ, Line, Switchboard, Talk, new_socket, resolved
from fmi.meeting.tls import Tls

_STRANGER_S: Final = 0.5  # for an unknown caller to say who it is
_PROVING_S: Final = 5.0  # then for the proof: a far network needs several round trips
_MAX_STRANGERS: Final = 64  # at one time, beside one for each rank
_TRY_S: Final = 0.1, 1.0  # how long one of several ways is tried at first, and at last
_PAUSE_S: Final = 0.1, 0.2  # before the next try: random, so that two do not miss each other
_DIRECT_SHARE, _DIRECT_S = 0.3, 3.0  # then the relay is called
_CHOSEN: Final = b"\x01"


class Ways(Enum):
    """How two ranks may be connected."""

    DIRECT = "direct"
    DIRECT_OR_RELAY = "direct or relay"  # those that cannot call each other go through the relay
    RELAY = "relay"  # nothing listens: for machines that can only call out

    @property
    def direct(self) -> bool:
        """Whether ranks may call each other."""
        return self is not Ways.RELAY

    @property
    def relay(self) -> bool:
        """Whether the relay may be used."""
        return self is not Ways.DIRECT


class _Target(NamedTuple):
    """Where to call a rank; `from_our_port`: from the one that a NAT shows the others."""

    address: Address
    from_our_port: bool = False


class Pairing:
    """One rank's connections to the others: `open` holds those that both sides have settled on."""

    def __init__(
        self,
        board: Switchboard,
        rendezvous: Address,
        member: Member,
        ways: Ways,
        tls: Tls | None,
        deadline: Deadline,
    ) -> None:
        self.open: dict[int, Line] = {}
        self.board = board
        self.rendezvous = rendezvous
        self.member = member
        self.ways = ways
        self.tls = tls
        self.deadline = deadline
        self._cards: Mapping[int, Card] = {}
        self._strangers: dict[Line, None] = {}  # the oldest first
        self._why: dict[int, str] = {}

    def learn(self, cards: Mapping[int, Card]) -> None:
        """Connect to all, now that it is known where they are (or where they are by now)."""
        began, self._cards = bool(self._cards), cards
        if began:
            return
        direct_s = min(_DIRECT_S, _DIRECT_SHARE * self.deadline.left_or_zero())
        own = cards[self.member.rank].own
        for other in self.member.others():
            possible = own is not None and cards[other].own is not None
            if possible:
                self._call(other)
            if self.ways.relay:
                self.board.later(direct_s if possible else 0.0, partial(self._relay, other))

    def take_calls(self, listening: socket.socket) -> None:
        """Let other ranks call, from now on."""
        line = Line(listening)
        self.board.start(line, self._take_calls(line), lambda _: None)

    def lost(self) -> PeerLost:
        """Who is not connected to, and what to do."""
        missing = [other for other in self.member.others() if other not in self.open]
        why = "; ".join(sorted({self._why[each] for each in missing if each in self._why}))
        tried = f" (last: {why})" if why else ""
        if self.ways is Ways.DIRECT:
            return PeerLost(
                missing,
                f"it came to the rendezvous, but there was no connection to it in time{tried}: the "
                "machines of a group must be able to call each other at any port, through NATs "
                "only where those keep ports; where they cannot, allow the relay "
                "(ways=Ways.DIRECT_OR_RELAY)",
            )
        return PeerLost(
            missing,
            "it came to the rendezvous, but there was no connection to it in time, also not "
            f"through the relay{tried}: see that it still runs, and give more time",
        )

    def _take_calls(self, listening: Line) -> Talk[None]:
        while True:
            yield READ
            with suppress(BlockingIOError, ConnectionAbortedError):
                while True:
                    self._greet_caller(self._accept(listening.sock))

    def _accept(self, listening: socket.socket) -> socket.socket:
        while True:
            try:
                return listening.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                raise
            except OSError as error:
                if not self._strangers:
                    raise NoNetwork(
                        f"rank {self.member.rank} cannot take the calls of others ({error}): "
                        "see that it may open enough files (ulimit -n)"
                    ) from error
                self._forget_oldest_stranger()

    def _greet_caller(self, sock: socket.socket) -> None:
        if len(self._strangers) >= _MAX_STRANGERS + self.member.size:
            self._forget_oldest_stranger()
        line = Line(sock)
        self._strangers[line] = None
        self.board.start(
            line,
            self._settle(line, calls=False),
            lambda _: self._strangers.pop(line, None),
            _STRANGER_S,
        )

    def _forget_oldest_stranger(self) -> None:
        line = next(iter(self._strangers))
        del self._strangers[line]
        self.board.drop(line)

    def _targets(self, other: int) -> list[_Target]:
        """Where this rank calls the other; nowhere: it waits for a call. Both know both cards.

        Two that see each other as the rendezvous does: the higher rank calls. Two in one network
        do so, too, whatever the rendezvous sees. Of two behind different NATs each calls the
        other, from the port that it shows: the first packet out makes the hole for those in.
        """
        own, theirs = self._cards[self.member.rank], self._cards[other]
        if own.own is None or theirs.own is None:
            return []
        inside = _Target(theirs.own)
        outside = _Target(theirs.seen, from_our_port=True)
        first = [inside] if self.member.rank > other else []
        if not own.translated and not theirs.translated:
            return first
        if own.seen[0] == theirs.seen[0]:
            return [*first, outside] if own.translated and theirs.translated else first
        if own.translated and theirs.translated:
            return [outside]
        return [inside] if own.translated else []

    def _call(self, other: int, tries: int = 0) -> None:
        targets = self._targets(other)
        if other in self.open or not targets:
            return
        target = targets[tries % len(targets)]
        alone = len(targets) == 1 and not target.from_our_port
        within_s = None if alone else min(_TRY_S[0] * 2**tries, _TRY_S[1])

        def again(error: OSError) -> None:
            self._why[other] = f"{'{}:{}'.format(*target.address)}: {error}"
            self.board.later(random.uniform(*_PAUSE_S), lambda: self._call(other, tries + 1))  # noqa: S311

        own = self._cards[self.member.rank].own
        port = own[1] if own and target.from_our_port else None
        try:
            family, address = resolved(target.address)
            line = Line(new_socket(family, port), other)
        except OSError as error:
            again(error)
            return
        self.board.start(line, self._direct(line, address, other), again, within_s)

    def _direct(self, line: Line, address: Address, other: int) -> Talk[None]:
        yield from line.connect(address)
        self.board.trust(line)
        yield from self._settle(line, calls=True, only=other)

    def _relay(self, other: int, pause_s: float = 0.02) -> None:
        if other in self.open:
            return

        def again(error: OSError) -> None:
            self._why[other] = f"relay: {error}"
            self.board.later(pause_s, lambda: self._relay(other, min(2 * pause_s, 0.5)))

        try:
            family, address = resolved(self.rendezvous)
        except OSError as error:
            again(error)
            return
        line = Line(new_socket(family), other)
        self.board.start(line, self._through_relay(line, address, other), again)

    def _through_relay(self, line: Line, address: Address, other: int) -> Talk[None]:
        counter = Counter(line, self.member, self.tls)
        yield from counter.reach(address)
        yield from counter.ask(self.deadline.left_or_zero(), other=other)
        yield from counter.answer()  # the other is there
        if self.tls:
            line.bare()
        yield from self._settle(line, calls=True, only=other)

    def _settle(self, line: Line, *, calls: bool, only: int | None = None) -> Talk[None]:
        """Greet, and agree with the other that this is the connection to be kept."""

        def wanted(rank: int) -> bool:
            expected = rank == only if only is not None else 0 <= rank < self.member.size
            good = expected and rank != self.member.rank and rank not in self.open
            if good and not calls:
                # The caller may be done once its proof is on the way, and must be heard then.
                self.board.hurry(line, _PROVING_S)
            return good

        other = yield from greet(line, self.member, self.tls, calls=calls, wanted=wanted)
        line.other = other
        self._strangers.pop(line, None)
        self.board.trust(line)
        if self.member.rank > other:
            yield from line.read(len(_CHOSEN))
            self._keep(line, other)
            return
        if other in self.open:
            raise ConnectionAbortedError("another connection was quicker")
        self._keep(line, other)
        try:
            yield from line.write(_CHOSEN)
        except OSError:
            del self.open[other]
            raise

    def _keep(self, line: Line, other: int) -> None:
        self.open[other] = line
        for each in self.board.lines():
            if each.other == other and each is not line:
                self.board.drop(each)
