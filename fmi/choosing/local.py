"""A group of processes on this machine, to measure channels with."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Final

from fmi.channels.direct import Direct
from fmi.channels.protocol import Transport
from fmi.channels.shared import Shared
from fmi.choosing.decision import Choice
from fmi.connecting import connect_blocking
from fmi.errors import ChannelBroken
from fmi.meeting.rendezvous import Rendezvous

GROUP: Final = "fmi-explain"
_DEADLINE_S: Final = 30.0
_START_S: Final = 30.0  # for new processes to load Python


def measured(over: Sequence[Transport], size: int) -> Choice:
    """Let `size` processes meet, measure the channels in `over`, and choose.

    They agree over `Shared`, which is therefore always among the channels of the choice.

    Raises:
        ChannelBroken: the processes cannot even meet.
    """
    processes = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fmi-"))
        channels = [Shared(folder), *(each for each in over if each.name != "shared")]
        told, telling = processes.Pipe(duplex=False)
        stack.callback(told.close)
        ranks = [
            processes.Process(
                target=_rank, args=(rank, size, channels, None if rank else telling), daemon=True
            )
            for rank in range(size)
        ]
        for each in ranks:
            each.start()
            stack.callback(each.join, _DEADLINE_S)
        telling.close()  # the end of rank 0 is the end of what it tells
        try:
            answer = told.recv() if told.poll(_START_S + 2 * _DEADLINE_S) else "it took too long"
        except EOFError:
            answer = "the first one ended without a word"
    if isinstance(answer, str):
        raise ChannelBroken(f"{size} processes of this machine could not meet: {answer}")
    return Choice.from_dict(answer)


@contextmanager
def direct(size: int) -> Iterator[Direct]:
    """The way to each other over TCP, with a rendezvous in a thread for as long as this lasts."""
    rendezvous, loop = Rendezvous(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fmi-rendezvous", daemon=True)
    thread.start()

    async def admit() -> Direct:
        await rendezvous.start()
        token = rendezvous.admit(GROUP, size, _START_S + _DEADLINE_S)
        return Direct(rendezvous.address, token)

    try:
        yield asyncio.run_coroutine_threadsafe(admit(), loop).result()
        asyncio.run_coroutine_threadsafe(rendezvous.close(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _rank(rank: int, size: int, over: Sequence[Transport], tell: Connection | None) -> None:
    try:
        with connect_blocking(GROUP, rank, size, over, deadline_s=_START_S) as ranks:
            answer = ranks.choice.as_dict() if ranks.choice else "there was no choice"
    except Exception as error:  # noqa: BLE001  the parent says it
        answer = f"{type(error).__name__}: {error}"
    if tell:
        tell.send(answer)
