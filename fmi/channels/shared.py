"""The channel between processes of one host: Unix sockets in a folder that they share."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fmi.channels.stream import StreamChannel
from fmi.deadline import Deadline
from fmi.errors import NoNetwork, PeerLost, Refused
from fmi.frames import run_id

_PAUSE_S: Final = 0.002
_PATH_LIMIT: Final = 100  # bytes of a Unix socket's path; the kernel takes 107


@dataclass(frozen=True, slots=True)
class Shared:
    """Reach ranks on this host through `folder`: an empty one, for this run and no other.

    Who starts the ranks makes the folder (`tempfile.mkdtemp`), and its permissions decide who may
    take part.
    """

    folder: Path | str
    name = "shared"

    def open(self, group: str, rank: int, size: int, deadline: Deadline) -> StreamChannel:
        """See `Transport.open`."""
        folder = Path(self.folder)
        sockets = dict[int, socket.socket]()
        with ExitStack() as on_failure:
            claim = _claim(folder, rank)
            on_failure.callback(os.close, claim)
            with _listen(folder, rank, size) as listening:
                for other in range(rank):
                    sockets[other] = _call(folder, rank, other, size, deadline)
                    on_failure.callback(sockets[other].close)
                for _ in range(rank + 1, size):
                    other, connection = _receive(listening, rank, size, sockets, deadline)
                    sockets[other] = connection
                    on_failure.callback(connection.close)
            on_failure.pop_all()
        return _SharedChannel(rank, size, run_id(group, str(folder)), sockets, claim)


class _SharedChannel(StreamChannel):
    """Holds the claim to be its rank as long as it is open."""

    def __init__(
        self, rank: int, size: int, run: bytes, sockets: dict[int, socket.socket], claim: int
    ) -> None:
        super().__init__(rank, size, run, sockets)
        self._claim = claim

    def close(self, deadline: Deadline, given_up: Collection[int] = ()) -> None:
        """See `Channel.close`."""
        super().close(deadline, given_up)
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1


def _claim(folder: Path, rank: int) -> int:
    """See that no other living process is this rank; the kernel forgets the claims of dead ones."""
    path = folder / f"{rank}.lock"
    try:
        claim = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NoNetwork(
            f"the folder {folder} cannot be used ({error}): "
            "make one that all ranks of this host can write to"
        ) from None
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(claim)
        raise Refused(f"another process is rank {rank} in {folder}: use a folder per run") from None
    return claim


def _path(folder: Path, rank: int) -> Path:
    path = folder / f"{rank}.socket"
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise NoNetwork(f"the path {folder} is too long for a socket: take one below /tmp")
    return path


def _listen(folder: Path, rank: int, size: int) -> socket.socket:
    path = _path(folder, rank)
    with suppress(FileNotFoundError):
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        new = path.with_suffix(".new")
        listening.bind(str(new))
        listening.listen(size)
        new.rename(path)  # who finds it can call it
    except OSError as error:
        listening.close()
        raise NoNetwork(f"rank {rank} cannot listen in {folder} ({error})") from None
    return listening


def _call(folder: Path, rank: int, other: int, size: int, deadline: Deadline) -> socket.socket:
    """Connect to a lower rank, which may not be there yet."""
    path = _path(folder, other)
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(deadline.left())
            connection.connect(str(path))
            connection.sendall(rank.to_bytes(4, "big") + size.to_bytes(4, "big"))
            connection.settimeout(None)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            connection.close()
            time.sleep(_PAUSE_S)
        except TimeoutError:
            connection.close()
            raise PeerLost((other,), f"it did not come to {folder} in time") from None
        else:
            return connection


def _receive(
    listening: socket.socket,
    rank: int,
    size: int,
    known: dict[int, socket.socket],
    deadline: Deadline,
) -> tuple[int, socket.socket]:
    missing = [each for each in range(rank + 1, size) if each not in known]
    try:
        listening.settimeout(deadline.left())
        connection, _ = listening.accept()
        connection.settimeout(deadline.left())
        said = connection.recv(8, socket.MSG_WAITALL)
    except TimeoutError:
        raise PeerLost(missing, "it did not come in time") from None
    other, its_size = int.from_bytes(said[:4], "big"), int.from_bytes(said[4:], "big")
    if its_size != size or other not in missing:
        connection.close()
        raise Refused(
            f"rank {other} of {its_size} called rank {rank} of {size}: use a folder per run"
        )
    connection.settimeout(None)
    return other, connection
