"""Meeting over several channels, of which all ranks keep the same one.

The first channel is the one that must work, and carries the agreement: which of the others every
rank can use, what each rank measured, and what rank 0 chose. No rank concludes anything alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from fmi.channels.protocol import Transport
from fmi.choosing.calibration import Measured, combine, is_quick, measure
from fmi.choosing.decision import Choice, Hint, Workload, choose
from fmi.choosing.models import Costs, costs_of
from fmi.communicator import Communicator
from fmi.deadline import Deadline
from fmi.errors import FmiError

# All ranks are there when they open a further channel: who is not in it by then will not come.
_OPENING_S: Final = 5.0
_SHARE: Final = 0.4  # of what is left of the deadline, for all further channels together


def open_and_choose(
    group: str,
    rank: int,
    size: int,
    over: Sequence[Transport],
    deadline_s: float,
    hint: Hint,
    workload: Workload,
    costs: Mapping[str, Costs],
) -> Communicator:
    """Meet over the first of `over`, try the others, and return the communicator of the best.

    What rank 0 was given counts: the order of the channels, hint, workload and costs.

    Raises:
        FmiError: the first channel does not work; see `connect_blocking`.
        ValueError: there is no channel, or two have one name.
    """
    transports = {each.name: each for each in over}
    if not over or len(transports) < len(over):
        names = ", ".join(each.name for each in over) or "none"
        raise ValueError(f"give one channel or more, each with a name of its own, not {names}")
    deadline = Deadline.after(deadline_s)
    first = Communicator.over(over[0].open(group, rank, size, deadline), deadline_s)
    candidates = _Candidates(first, group, transports, costs)
    try:
        plan, share_s = candidates.plan(deadline.left_or_zero())
        for name, thorough in plan.items():
            candidates.try_one(name, share_s, thorough=thorough)
        choice = candidates.decide(hint, workload)
    except BaseException as error:
        candidates.close(f"it failed: {type(error).__name__}: {error}"[:500])
        raise
    chosen = candidates.open.pop(choice.name)
    candidates.close("another channel was chosen")
    chosen.choice, chosen.deadline_s = choice, deadline_s
    return chosen


class _Candidates:
    """The channels that are open at one rank. The first one is always among them."""

    def __init__(
        self,
        first: Communicator,
        group: str,
        transports: Mapping[str, Transport],
        costs: Mapping[str, Costs],
    ) -> None:
        self._first, self._group, self._transports = first, group, transports
        self._before = {name: costs_of(name, costs) for name in transports}
        self._costs = dict[str, Costs]()
        self._left_out = dict[str, str]()
        self.open = {next(iter(transports)): first}

    def plan(self, left_s: float) -> tuple[dict[str, bool], float]:
        """Which channels to try, and whether thoroughly; and how long each may take to open."""
        said = self._first.allgather((list(self._transports), left_s))
        for name in self._transports:
            if without := [rank for rank, (names, _) in enumerate(said) if name not in names]:
                lacking = ", ".join(map(str, without))
                self._left_out[name] = f"it was not given to rank {lacking}"
        mine = {
            name: is_quick(each)
            for name, each in self._before.items()
            if name not in self._left_out
        }
        plan: dict[str, bool] = self._first.bcast(mine)
        share_s = _SHARE * min(left_s for _, left_s in said) / max(1, len(plan) - 1)
        return plan, min(_OPENING_S, share_s)

    def try_one(self, name: str, share_s: float, *, thorough: bool) -> None:
        """Open and measure a channel, and learn how the others fared: all have it, or none."""
        measured, why = Measured(), ""
        try:
            measured = measure(self._communicator(name, share_s), thorough=thorough)
        except Exception as error:
            # Whatever it is (a package that is not installed, say), the others wait to hear of it.
            if self.open.get(name) is self._first:
                raise
            why = f"{type(error).__name__}: {error}"
        fared = self._first.allgather((measured, why))
        failures = dict[str, list[str]]()
        for rank, (_, why) in enumerate(fared):
            if why:
                failures.setdefault(why, []).append(str(rank))
        if not failures:
            parts = [Measured(*each) for each, _ in fared]
            self._costs[name] = combine(parts, self._before[name])
            return
        self._left_out[name] = "; ".join(
            f"rank {', '.join(ranks)}: {why}" for why, ranks in failures.items()
        )
        if name in self.open:
            _leave(self.open.pop(name), "not all ranks can use this channel")

    def decide(self, hint: Hint, workload: Workload) -> Choice:
        """Rank 0's choice."""
        mine = None
        if self._first.rank == 0:
            size = self._first.size
            mine = choose(self._costs, workload, size, hint, self._left_out).as_dict()
        return Choice.from_dict(self._first.bcast(mine))

    def close(self, why: str) -> None:
        """Leave all channels that are still open."""
        while self.open:
            _leave(self.open.popitem()[1], why)

    def _communicator(self, name: str, share_s: float) -> Communicator:
        if name not in self.open:
            deadline, first = Deadline.after(share_s), self._first
            channel = self._transports[name].open(self._group, first.rank, first.size, deadline)
            self.open[name] = Communicator.over(channel, share_s)
        return self.open[name]


def _leave(ranks: Communicator, why: str) -> None:
    with suppress(FmiError):  # nobody waits for what it carried
        ranks.leave(why)
