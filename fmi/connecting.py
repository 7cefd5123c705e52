"""How a rank gets into its group: `connect` for asyncio, `connect_blocking` for worker code."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Final

from fmi.aio import AsyncCommunicator
from fmi.channels.protocol import Transport
from fmi.choosing.candidates import open_and_choose
from fmi.choosing.decision import Hint, Workload, check_hint
from fmi.choosing.models import Costs
from fmi.communicator import Communicator
from fmi.deadline import Deadline

_ANYTHING: Final = Workload()


def connect_blocking(
    group: str,
    rank: int,
    size: int,
    over: Transport | Sequence[Transport],
    *,
    deadline_s: float = 30.0,
    hint: Hint = "fast",
    workload: Workload = _ANYTHING,
    costs: Mapping[str, Costs] | None = None,
) -> Communicator:
    """Meet the other ranks of `group` and return the communicator.

    `deadline_s` bounds the meeting, and later each operation. With several channels in `over` the
    first one must work on all ranks. Those of the others that do are measured too, and the one
    that is `hint` for `workload` is kept: see `Communicator.choice`. Prices are those of `costs`,
    by the channel's name, or else `models.DEFAULTS`. Where the ranks were given different things,
    rank 0's count.

    Raises:
        PeerLost: some ranks did not come; raised on every rank that did.
        Refused: wrong token, or the group is unknown or over.
        NoNetwork: this machine does not let the rank listen or take calls.
        ChannelBroken: the store does not work.
        ValueError: there is no such rank or hint, or two channels have one name.
    """
    if not 0 <= rank < size:
        raise ValueError(f"a group of {size} has ranks 0 to {size - 1}, not {rank}")
    check_hint(hint)
    if isinstance(over, Sequence):
        return open_and_choose(group, rank, size, over, deadline_s, hint, workload, costs or {})
    channel = over.open(group, rank, size, Deadline.after(deadline_s))
    return Communicator.over(channel, deadline_s)


class connect:  # noqa: N801  called like a function
    """Meet the other ranks of `group`, in asyncio: `await` it, or `async with` it.

    Parameters and errors are those of `connect_blocking`.
    """

    def __init__(
        self,
        group: str,
        rank: int,
        size: int,
        over: Transport | Sequence[Transport],
        *,
        deadline_s: float = 30.0,
        hint: Hint = "fast",
        workload: Workload = _ANYTHING,
        costs: Mapping[str, Costs] | None = None,
    ) -> None:
        self._rank = rank
        self._meet = partial(
            connect_blocking,
            group,
            rank,
            size,
            over,
            deadline_s=deadline_s,
            hint=hint,
            workload=workload,
            costs=costs,
        )
        self._communicator: AsyncCommunicator | None = None

    def __await__(self) -> Generator[Any, None, AsyncCommunicator]:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncCommunicator:
        self._communicator = await self._connect()
        return await self._communicator.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._communicator:
            await self._communicator.__aexit__(kind, error, trace)

    async def _connect(self) -> AsyncCommunicator:
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"fmi-{self._rank}")
        meeting = asyncio.get_running_loop().run_in_executor(thread, self._meet)
        try:
            return AsyncCommunicator(await asyncio.shield(meeting), thread)
        except asyncio.CancelledError:
            # The meeting ends by its own deadline; nobody waits for who is in it by then.
            meeting.add_done_callback(_leave)
            thread.shutdown(wait=False)
            raise
        except BaseException:
            thread.shutdown(wait=False)
            raise


def _leave(meeting: asyncio.Future[Communicator]) -> None:
    if not meeting.cancelled() and meeting.exception() is None:
        meeting.result().leave("it was cancelled while it met the others")
