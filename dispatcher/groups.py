"""A batch goes to a group: cut into partitions, one rank each, verdicts and bills back.

`ask` is one attempt. It never raises for a lost worker: what came back is returned, what did not is
named with its cause, and `triage` decides what happens next.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import orjson
import structlog

from dispatcher.errands import Question
from dispatcher.errors import FunctionError, InvocationError, Refused
from dispatcher.invokers import Answer, Invoker
from dispatcher.invokers.bill import Bill
from fmi.meeting.rendezvous import Rendezvous
from workers.errors import WireError, WrongWeights
from workers.wire import Verdict, decode_verdicts, encode_items

T = TypeVar("T")
_STILL_S: Final = 600.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model whose answers this run accepts."""

    name: str
    version: str
    weights_sha256: str
    calibration_id: str | None

    @property
    def key(self) -> str:
        """What goes into a result key."""
        return f"{self.name}@{self.weights_sha256}"


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one partition: its bill, and why it was lost (None: it was not).

    `questions`: in the order in which the worker looked at them. `bill`: None if the platform did
    not say. `ms`: what the worker says of its own time, by phase (milliseconds).
    """

    questions: Sequence[Question]
    bill: Bill | None
    lost: InvocationError | None = None
    ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replies:
    """What one call gave: verdicts by key, and what became of each partition.

    A verdict may be there although its partition was lost: its rank had told the root.
    """

    verdicts: dict[str, Verdict]
    parts: Sequence[Part]
    group: str = ""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A group that works. `since`: monotonic seconds."""

    ranks: int
    items: int
    since: float


class Groups(Protocol):
    """Whoever can be asked: a group of workers, or a simulation of one."""

    @property
    def slots(self) -> int:
        """How many workers there are at most."""

    async def ask(
        self, questions: Sequence[Question], ranks: int, deadline_s: float, *, careful: bool = False
    ) -> Replies:
        """One attempt at these questions, by `ranks` workers.

        Failures are in the replies and never raised. `careful`: the workers look at one item after
        the other, so that a lost one can tell at which it was.
        """


@dataclass(slots=True)
class GroupRunner:
    """Sends questions to groups of workers."""

    invoker: Invoker
    rendezvous: Rendezvous
    model: ModelIdentity
    run_id: str
    reached_at: str | None = None
    """Address of the rendezvous as workers see it, where that is not its own."""
    lost: int = 0
    """Workers that gave no answer, since the start."""
    under_way: dict[str, UnderWay] = field(default_factory=dict)
    """By name of the group."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    adrift: set[str] = field(default_factory=set)
    """Quantities that a worker has found unlike those of the training, in this run."""
    _told: dict[str, float] = field(default_factory=dict)
    """When (monotonic s) it was said of which of them."""

    @property
    def slots(self) -> int:
        """See `Groups.slots`."""
        return self.invoker.slots

    async def ask(
        self, questions: Sequence[Question], ranks: int, deadline_s: float, *, careful: bool = False
    ) -> Replies:
        """See `Groups.ask`."""
        partitions = cut(questions, min(ranks, len(questions)))
        group = f"{self.run_id}-{next(self._numbers)}"
        job = {"weights_sha256": self.model.weights_sha256, **await self.invoker.job()}
        payloads = self._payloads(group, job, partitions, deadline_s, careful)
        self.under_way[group] = UnderWay(len(partitions), len(questions), time.monotonic())
        with structlog.contextvars.bound_contextvars(batch=group):
            try:
                # Who waits for a rank that is lost before they meet need not wait any longer.
                answers = await self.invoker.invoke(
                    payloads, deadline_s, lambda: self.rendezvous.close_group(group)
                )
            finally:
                del self.under_way[group]
                self.rendezvous.close_group(group)
            return self._merge(group, partitions, answers)

    def _payloads(
        self,
        group: str,
        job: Mapping[str, Any],
        partitions: Sequence[Sequence[Question]],
        deadline_s: float,
        careful: bool,
    ) -> list[bytes]:
        size = len(partitions)
        plain = {"careful": True} if careful else {}
        if size == 1:
            return [_json({**plain, "job": job, "partition": _items(partitions[0])})]
        meeting = {
            "id": group,
            "size": size,
            "rendezvous": self.reached_at or self.rendezvous.address,
            "token": self.rendezvous.admit(group, size, ttl_s=deadline_s),
            "deadline_s": deadline_s / 2,  # so that a survivor has time to go on alone
        }
        return [
            _json(
                {
                    **plain,
                    "group": {**meeting, "rank": rank},
                    "partition": _items(partition),
                    # The others learn it from the root. One that never meets it takes the weights
                    # that it carries, so where those are sent each is told which.
                    **({"job": job} if rank == 0 or "weights_at" in job else {}),
                }
            )
            for rank, partition in enumerate(partitions)
        ]

    def _merge(
        self, group: str, partitions: Sequence[Sequence[Question]], answers: Sequence[Answer]
    ) -> Replies:
        verdicts: dict[str, Verdict] = {}
        parts: list[Part] = []
        for partition, answer in zip(partitions, answers, strict=True):
            lost = answer.result if isinstance(answer.result, InvocationError) else None
            ms: Mapping[str, float] = {}
            if isinstance(lost, FunctionError) and lost.kind == WrongWeights.__name__:
                lost = Refused(str(lost))
            if not isinstance(answer.result, InvocationError):
                try:
                    said, ms = self._read(answer.result)
                except Refused as error:
                    lost = error
                else:
                    verdicts.update((each.id, each) for each in said)
                    if any(each.key not in verdicts for each in partition):
                        lost = InvocationError("the worker left items out of its answer")
            if lost is not None:
                self._tell_of_loss(lost, len(parts), len(partitions))
            parts.append(Part(partition, answer.bill, lost, ms))
        return Replies(verdicts, parts, group)

    def _tell_of_loss(self, lost: InvocationError, rank: int, ranks: int) -> None:
        if not lost.ran:
            return  # nobody has begun: whoever counts refusals tells of it
        self.lost += 1
        _log.warning(
            "a worker is lost, its items are sent again",
            incident="rank_lost",
            rank=rank,
            ranks=ranks,
            error=str(lost),
        )

    def _read(self, raw: bytes) -> tuple[list[Verdict], Mapping[str, float]]:
        """Verdicts, and the worker's own time by phase (ms)."""
        try:
            answer: dict[str, Any] = orjson.loads(raw)
            weights = answer["model"]["weights_sha256"]
            verdicts = decode_verdicts([*answer["verdicts"], *answer["gathered"]])
        except (orjson.JSONDecodeError, KeyError, TypeError, WireError) as error:
            raise Refused(
                f"a worker's answer cannot be read ({error!r}): "
                "the function runs another release than this dispatcher, deploy both together"
            ) from error
        if weights != self.model.weights_sha256:
            raise Refused(
                f"a worker answered with weights {weights[:12]}, this run is for "
                f"{self.model.weights_sha256[:12]}: deploy the same weights to both"
            )
        self._warn_of_drift(answer.get("drift", ()))
        ms = answer.get("ms")
        return verdicts, ms if isinstance(ms, dict) else {}

    def _warn_of_drift(self, names: Iterable[str]) -> None:
        """Say of each quantity that it is not what the model was made for; later, that it lasts."""
        found = set(names)
        if new := sorted(found - self.adrift):
            self.adrift.update(new)
            self._told[" ".join(new)] = -math.inf
        now = time.monotonic()
        for quantities, when in self._told.items():
            if now - when > _STILL_S and not found.isdisjoint(quantities.split()):
                self._told[quantities] = now
                _log.warning(
                    "the stream is not distributed as what the model was trained on",
                    incident="drift",
                    subject=quantities,
                    quantities=quantities.split(),
                    model=self.model.name,
                    advice="check magnitudes and stamps, or whether another model fits",
                )


def cut(items: Sequence[T], n: int) -> list[Sequence[T]]:
    """Cut into `n` partitions whose sizes differ by at most one."""
    small, larger = divmod(len(items), n)
    borders = list(itertools.accumulate([small + (i < larger) for i in range(n)], initial=0))
    return [items[a:b] for a, b in itertools.pairwise(borders)]


def _items(partition: Sequence[Question]) -> dict[str, Any]:
    return encode_items([each.item() for each in partition])


def _json(event: dict[str, Any]) -> bytes:
    return orjson.dumps(event)
