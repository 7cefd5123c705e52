"""The opening of a mesh: one connection to every other rank of a group, all at the same time.

A rank announces at the rendezvous where it listens, and learns where the others do. One loop in
the caller's thread runs all that is said meanwhile: there are no threads, and nobody waits for
one peer before it turns to the next.
"""

from __future__ import annotations

import random
import socket
import ssl
import time
from typing import Final

from fmi.deadline import Deadline
from fmi.errors import NoNetwork, PeerLost, Refused
from fmi.meeting.card import Address, Card, Counter, Member, Message
from fmi.meeting.lines import Line, Switchboard, Talk, new_socket, resolved
from fmi.meeting.pairing import Pairing, Ways
from fmi.meeting.tls import Tls

__all__ = ["Ways", "open_mesh"]

_BACKOFF_S: Final = 0.02, 0.5  # between two calls of the rendezvous, at first and at last
_CONNECTING_S: Final = 1.0  # for those who have met to connect, when it is gone
_NOBODY_S: Final = 2.0  # who was never reached by then is not there
_BACKLOG: Final = 1024  # calls that the kernel holds, so that strangers keep no rank waiting


def open_mesh(
    rendezvous: str,
    group: str,
    rank: int,
    size: int,
    token: str,
    deadline: Deadline,
    *,
    ways: Ways = Ways.DIRECT,
    tls: Tls | None = None,
    restart_s: float = 5.0,
) -> dict[int, socket.socket]:
    """Meet the other ranks at the rendezvous ("host:port") and connect to all of them.

    Returns one socket per other rank: blocking, with TCP_NODELAY; an `ssl.SSLSocket` where `tls`
    is given. Both its ends have proved that they know the group's token. `ways` must be the same
    on all ranks. A rendezvous that goes away is called again for `restart_s`.

    Raises:
        PeerLost: ranks did not come, or cannot be connected to.
        Refused: the rendezvous does not let this rank in, or nobody answers there.
        NoNetwork: this machine does not let the rank listen or open connections.
        ChannelBroken: the files of `tls` cannot be used.
    """
    member = Member(group, rank, size, token)
    address = _host_and_port(rendezvous)
    if tls:
        tls.server(), tls.client()  # a file that is missing is said now
    with Switchboard() as board:
        pairing = Pairing(board, address, member, ways, tls, deadline)
        opening = _Opening(pairing, restart_s)
        try:
            opening.run()
        except BaseException:
            for line in pairing.open.values():
                line.sock.close()
            raise
    for line in pairing.open.values():
        line.sock.settimeout(None)
    return {other: line.sock for other, line in sorted(pairing.open.items())}


class _Opening:
    """One rank's conversation with the rendezvous, and what it begins."""

    def __init__(self, pairing: Pairing, restart_s: float) -> None:
        self._pairing, self._restart_s = pairing, restart_s
        self._board, self._deadline = pairing.board, pairing.deadline
        self._rendezvous, self._member = pairing.rendezvous, pairing.member
        self._ways, self._tls = pairing.ways, pairing.tls
        self._own: Address | None = None  # where this rank listens
        self._met = False
        self._reached = False
        self._away_since: float | None = None  # the rendezvous, after it was there
        self._nobody_at = time.monotonic() + min(_NOBODY_S, self._deadline.left_or_zero() / 2)
        self._backoff_s = _BACKOFF_S[0]

    def run(self) -> None:
        """Until all pairs are connected."""
        self._announce()
        pairs = self._member.size - 1
        while len(self._pairing.open) < pairs or not (pairs or self._met):
            left = self._deadline.left_or_zero()
            if not left:
                raise self._pairing.lost() if self._met else self._unanswered()
            self._board.turn(left)

    def _announce(self) -> None:
        """Call the rendezvous. The line stays open until the mesh is; if it breaks, call again.

        So it never matters when the rendezvous is restarted: as long as one rank has not heard
        where the others are, none has a connection to it, and all of them come again.
        """
        # All from one port, and the same each time: where a NAT keeps ports, others can call it.
        port = self._own[1] if self._own else 0
        try:
            family, address = resolved(self._rendezvous)
            line = Line(new_socket(family, port if self._ways.direct else None))
        except OSError as error:
            self._broken(error)
            return
        self._board.start(line, self._meet(line, address), self._broken)

    def _meet(self, line: Line, address: Address) -> Talk[None]:
        counter = Counter(line, self._member, self._tls)
        yield from counter.reach(address)
        self._reached, self._away_since = True, None
        if self._ways.direct and not self._own:
            self._own = self._listen(line.sock)
        yield from counter.ask(self._patience(), address=self._own)
        while True:
            try:
                answer = yield from counter.answer()
            except Refused:
                if not self._met:
                    raise
                # Too late for a meeting, but this rank has met.
                raise ConnectionAbortedError("it has nothing more to say") from None
            self._learn(answer)

    def _patience(self) -> float:
        """How long the server may wait for the others; its answer needs some time, too."""
        left = self._deadline.left_or_zero()
        return left - max(0.1 * left, min(1.0, 0.3 * left))

    def _listen(self, server: socket.socket) -> Address | None:
        """Listen where this rank is when it calls the rendezvous: there others reach it, too."""
        host, port, *_ = server.getsockname()
        listening = None
        try:
            listening = new_socket(server.family, port, host)
            listening.listen(_BACKLOG)
        except OSError as error:
            if listening:
                listening.close()
            if self._ways.relay:
                return None
            raise NoNetwork(
                f"this rank cannot listen for the others ({error}): see that it may open ports at "
                "the address from which it reaches the rendezvous, or let all ranks only call out "
                "(ways=Ways.RELAY)"
            ) from error
        self._pairing.take_calls(listening)
        return host, port

    def _learn(self, answer: Message) -> None:
        if "peers" in answer:
            self._backoff_s = _BACKOFF_S[0]
            self._met = True
            self._pairing.learn(
                {
                    int(rank): Card(own and (own[0], own[1]), (seen[0], seen[1]))
                    for rank, (own, seen) in answer["peers"].items()
                }
            )
        elif not self._met:
            raise PeerLost(answer["missing"], "it did not come to the rendezvous in time")

    def _broken(self, error: OSError) -> None:
        _check_certificates(error)
        now = time.monotonic()
        if self._reached:
            self._away_since = self._away_since or now
            if self._met and now - self._away_since >= self._restart_s + _CONNECTING_S:
                raise self._pairing.lost()  # those who have not met will not come any more
            if not self._met and now - self._away_since >= self._restart_s:
                raise Refused(
                    f"the rendezvous went away while this rank waited ({error}), and did not come "
                    f"back within {self._restart_s:g} s: see whether who started the group still "
                    "runs"
                ) from error
        if not self._reached and now >= self._nobody_at:
            raise Refused(
                f"the rendezvous at {'{}:{}'.format(*self._rendezvous)} cannot be reached "
                f'({error}): give the "host:port" at which this machine sees it, and see that it '
                "runs"
            ) from error
        pause_s = random.uniform(0.5, 1.0) * self._backoff_s  # noqa: S311
        self._board.later(pause_s, self._announce)
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_S[1])

    def _unanswered(self) -> PeerLost:
        others = [each for each in self._member.others() if each not in self._pairing.open]
        return PeerLost(
            others,
            "the rendezvous did not answer in time: see that it runs, that nothing else runs at "
            "its address, and that it uses TLS if and only if the ranks do",
        )


def _host_and_port(rendezvous: str) -> Address:
    host, _, port = rendezvous.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise Refused(
            f'{rendezvous!r} is no address of a rendezvous: give the "host:port" at which this '
            "machine sees it"
        )
    return host, int(port)


def _check_certificates(error: OSError) -> None:
    """See that it is not TLS that failed; calling again would not help."""
    passing = ssl.SSLEOFError | ssl.SSLZeroReturnError
    if isinstance(error, ssl.SSLError) and not isinstance(error, passing):
        raise Refused(
            f"no TLS with the rendezvous ({error}): see that it uses TLS, too, and that one "
            "authority signed the certificates of all"
        ) from error
