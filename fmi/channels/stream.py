"""The channel over connected sockets, one per other rank: what `direct`, `relay` and `shared` are.

Everything is done in the thread that calls, with blocking sockets where one peer is waited for (one
system call per message) and `poll` where several are. While a large message waits for room it takes
in what arrives, so two ranks that send to each other go on in both directions at once.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from fmi.channels.peers import BLOCKED_S, SPIN_S, Peer, Spin, TlsPeer
from fmi.channels.protocol import Inbox
from fmi.deadline import Deadline
from fmi.errors import FmiError, PeerLost, ProtocolError
from fmi.frames import HEADER, Buffer, Operation, beat_head, empty_view, read_header

_JOINED: Final = 8 * 1024  # up to here one copy is cheaper than a second buffer for the kernel
_BLOCKED_LOOK_S: Final = 0.1
_BROKEN: Final = "its connection broke"
_LEFT: Final = "it left the group, or died: its connection ended"
_DONTWAIT: Final = socket.MSG_DONTWAIT
_HEADER: Final = HEADER.size


class StreamChannel:
    """Frames over a mesh of sockets that are connected and know each other."""

    beat_s = 0.2
    patience_s = 5.0

    def __init__(
        self, rank: int, size: int, run: bytes, sockets: Mapping[int, socket.socket]
    ) -> None:
        self.rank, self.size, self.run = rank, size, run
        self._peers = {
            other: TlsPeer(other, each) if isinstance(each, ssl.SSLSocket) else Peer(other, each)
            for other, each in sockets.items()
        }
        self._by_descriptor = {peer.socket.fileno(): peer for peer in self._peers.values()}
        self._holding = [peer for peer in self._peers.values() if not peer.blocks]
        self._poll = select.poll()
        for descriptor in self._by_descriptor:
            self._poll.register(descriptor, select.POLLIN)
        self._spin = Spin()
        self._inbox: Inbox

    def start(self, inbox: Inbox) -> None:
        """See `Channel.start`."""
        self._inbox = inbox

    def send(self, dest: int, head: bytes, payload: Buffer, deadline: Deadline) -> None:
        """See `Channel.send`."""
        peer = self._peers[dest]
        if peer.broken:
            raise PeerLost((dest,), peer.broken)
        size = len(payload)
        with peer.lock:
            peer.wrote = True
            if size <= _JOINED and not peer.owed:
                data = head + payload if size else head
                try:
                    done = peer.write(data)
                except BlockingIOError:
                    done = 0
                except OSError as error:
                    raise self._broken(peer, error) from None
                if done < len(data):
                    self._write_all(peer, [memoryview(data)[done:]], deadline)
            else:
                whole = [memoryview(peer.owed), memoryview(head), memoryview(payload)]
                self._write_all(peer, [each for each in whole if len(each)], deadline)

    def wait(self, sources: Collection[int], seconds: float) -> None:
        """See `Channel.wait`."""
        if seconds > 0 and len(sources) == 1:
            (source,) = sources
            peer = self._peers.get(source)  # None: this rank itself
            if peer and peer.blocks and peer.open:
                if self._spin.worth() and self._read_spinning(peer):
                    return
                try:
                    self._read(peer, 0)
                except BlockingIOError:
                    seconds -= BLOCKED_S
                else:
                    return
        self._look(max(0.0, seconds))

    def let_go(self) -> None:
        """See `Channel.let_go`."""
        for peer in self._peers.values():
            peer.let_go()

    def beat(self, note: bytes) -> None:
        """See `Channel.beat`. A connection that is in use says enough."""
        frame = beat_head(self.run, self.rank, note) + note
        for peer in self._peers.values():
            if not peer.lock.acquire(blocking=False):
                continue
            try:
                if peer.broken or (peer.wrote and not peer.owed):
                    peer.wrote = False
                    continue
                waiting = peer.owed or frame
                try:
                    peer.owed = waiting[peer.write(waiting) :]
                except BlockingIOError:
                    # The library may hold the frame already, and must get the same bytes again.
                    peer.owed = b"" if peer.blocks and not peer.owed else waiting
                except OSError:
                    pass  # whoever reads or writes next finds out
            finally:
                peer.lock.release()

    def close(self, deadline: Deadline, given_up: Collection[int] = ()) -> None:
        """See `Channel.close`.

        A socket that is closed with something unread in it takes back what its kernel has not
        delivered. So what still arrives is read until all that was sent has arrived.
        """
        leaving = [
            peer for peer in self._peers.values() if not peer.broken and peer.rank not in given_up
        ]
        for peer in leaving:
            with peer.lock, suppress(OSError, PeerLost):
                if peer.owed:
                    self._write_all(peer, [memoryview(peer.owed)], deadline)
                peer.socket.shutdown(socket.SHUT_WR)
        pause_s = 0.0
        while leaving and deadline.left_or_zero():
            for peer in self._peers.values():
                if peer.open:  # of all: others wait for this rank, as this one waits for them
                    self._drain(peer)
            leaving = [peer for peer in leaving if not peer.broken and peer.unsent()]
            if leaving:
                time.sleep(pause_s)
                pause_s = min(0.01, pause_s * 2 + 0.0001)
        for peer in self._peers.values():
            peer.socket.close()

    def _drain(self, peer: Peer) -> None:
        """Throw away what arrives."""
        try:
            while peer.read(peer.view, _DONTWAIT):
                pass
        except BlockingIOError:
            return
        except OSError:
            peer.broken = _BROKEN
        peer.open = False

    def _look(self, seconds: float) -> None:
        """Read whatever is there, of anybody; wait for it for a while."""
        for peer in self._holding:
            if peer.open and peer.pending():
                seconds = 0
                self._try_read(peer)
        for descriptor, _ in self._poll.poll(seconds * 1000):
            self._try_read(self._by_descriptor[descriptor])

    def _read_spinning(self, peer: Peer) -> bool:
        """Look again and again for a moment; whether something came."""
        until = time.perf_counter() + SPIN_S
        while True:
            try:
                self._read(peer, _DONTWAIT)
            except BlockingIOError:
                if time.perf_counter() > until:
                    self._spin.failed()
                    return False
            else:
                self._spin.succeeded()
                return True

    def _try_read(self, peer: Peer) -> None:
        try:  # noqa: SIM105  `suppress` takes as long as the read
            self._read(peer, _DONTWAIT)
        except BlockingIOError:
            pass

    def _read(self, peer: Peer, flags: int) -> None:
        """One read, and what follows from it.

        Raises:
            BlockingIOError: nothing is there.
        """
        try:
            header = peer.header
            if header is not None:
                count = peer.read(peer.target[peer.filled :], flags)
                peer.filled += count
                if count and peer.filled == header.payload:
                    peer.header = None
                    self._inbox.deliver(header, peer.description, peer.target)
            else:
                count = peer.read(peer.view[peer.end :], flags)
                if count:
                    peer.end += count
                    self._parse(peer)
        except BlockingIOError:
            raise
        except OSError as error:
            self._end(peer, f"{_BROKEN} ({error})")
            return
        if not count:
            self._end(peer, _LEFT)

    def _parse(self, peer: Peer) -> None:
        """Deliver the frames in a peer's buffer; a part at its end stays."""
        view, start, end = peer.view, peer.start, peer.end
        while end - start >= _HEADER:
            header = read_header(view, start)
            if header.source != peer.rank:
                raise ProtocolError(f"rank {peer.rank} says to be rank {header.source}")
            body = start + _HEADER + header.description
            if body > end:
                break
            description = bytes(view[start + _HEADER : body]) if header.description else b""
            size = header.payload
            if header.operation == Operation.BEAT:
                if body + size > end:
                    break
                self._inbox.heard(peer.rank, bytes(view[body : body + size]))
                start = body + size
                continue
            if body + size <= end:  # a copy of so little costs less than to ask where it belongs
                self._inbox.deliver(header, description, bytearray(view[body : body + size]))
                start = body + size
                continue
            target = self._inbox.place(header)
            peer.target = empty_view(size) if target is None else target
            peer.filled = end - body
            peer.target[: peer.filled] = view[body:end]
            peer.header, peer.description = header, description
            start = end
        rest = end - start
        if rest and start:
            view[:rest] = bytes(view[start:end])
        peer.start, peer.end = 0, rest

    def _write_all(self, peer: Peer, parts: list[memoryview], deadline: Deadline) -> None:
        """Write as the peer takes it, and read from all meanwhile. The peer's lock is held."""
        peer.owed = b""
        asked = False
        try:
            while True:
                try:
                    done = peer.write_parts(parts)
                except BlockingIOError:
                    done = 0
                    left = deadline.left_or_zero()
                    if not left:
                        why = "it takes nothing until the deadline"
                        raise PeerLost((peer.rank,), why) from None
                    if not asked:
                        self._poll.modify(peer.socket, select.POLLIN | select.POLLOUT)
                        asked = True
                    self._look(min(left, _BLOCKED_LOOK_S))
                    self._inbox.blocked(peer.rank)
                while parts and done >= len(parts[0]):
                    done -= len(parts.pop(0))
                if not parts:
                    return
                parts[0] = parts[0][done:]
        except OSError as error:
            raise self._broken(peer, error) from None
        except FmiError:
            # Half of a message may be sent: the rest goes before the next one, or with a beat.
            peer.owed = b"".join(parts)
            raise
        finally:
            if asked and peer.open:
                self._poll.modify(peer.socket, select.POLLIN)

    def _broken(self, peer: Peer, error: OSError) -> PeerLost:
        """Send nothing more to a peer, and read what it said before: that may be the reason."""
        with suppress(BlockingIOError):
            while peer.open:
                self._read(peer, _DONTWAIT)
        peer.broken = f"{_BROKEN} ({error})"
        return PeerLost((peer.rank,), peer.broken)

    def _end(self, peer: Peer, why: str) -> None:
        peer.open = False
        self._poll.unregister(peer.socket)
        self._inbox.left(peer.rank, why)
