"""A batch goes to a group: cut into partitions, one rank each, verdicts back.

`GroupRunner.ask` is one attempt. It never raises for a lost worker: what came back is
returned, what did not is named with its cause, and `triage` decides what happens next.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import structlog

from dispatcher.errors import InvocationError, LaneStopped
from dispatcher.invokers import Answer, Invoker
from fmi.meeting.rendezvous import Rendezvous
from workers.errors import WireError
from workers.wire import Item, Verdict, decode_verdicts, encode_items

T = TypeVar("T")
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
class Replies:
    """What one attempt gave: verdicts by item id, and the cause for each item without one."""

    verdicts: dict[str, Verdict]
    unanswered: dict[str, InvocationError]


@dataclass(slots=True)
class GroupRunner:
    """Sends items to groups of up to `ranks` workers."""

    invoker: Invoker
    rendezvous: Rendezvous
    model: ModelIdentity
    run_id: str
    ranks: int
    deadline_s: float
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _adrift: set[str] = field(default_factory=set)

    async def ask(self, items: Sequence[Item]) -> Replies:
        """Send `items` to one group and collect the verdicts of whoever answered."""
        partitions = cut(items, min(self.ranks, len(items)))
        group = f"{self.run_id}-{next(self._numbers)}"
        payloads = self._payloads(group, partitions)
        try:
            answers = await self.invoker.invoke(payloads, self.deadline_s)
        finally:
            self.rendezvous.close_group(group)
        return self._merge(partitions, answers)

    def _payloads(self, group: str, partitions: Sequence[Sequence[Item]]) -> list[bytes]:
        job = {"run_id": self.run_id, "weights_sha256": self.model.weights_sha256}
        size = len(partitions)
        if size == 1:
            return [orjson.dumps({"job": job, "partition": encode_items(partitions[0])})]
        meeting = {
            "id": group,
            "size": size,
            "rendezvous": self.rendezvous.address,
            "token": self.rendezvous.admit(group, size, ttl_s=self.deadline_s),
            "deadline_s": self.deadline_s / 2,  # so that a survivor has time to go on alone
        }
        return [
            orjson.dumps(
                {
                    "group": {**meeting, "rank": rank},
                    "partition": encode_items(partition),
                    # Only the root is told the job: the others learn it from the root.
                    **({"job": job} if rank == 0 else {}),
                }
            )
            for rank, partition in enumerate(partitions)
        ]

    def _merge(self, partitions: Sequence[Sequence[Item]], answers: Sequence[Answer]) -> Replies:
        verdicts: dict[str, Verdict] = {}
        causes: list[InvocationError] = []
        for answer in answers:
            if isinstance(answer, InvocationError):
                causes.append(answer)
                continue
            causes.append(InvocationError("the worker left this item out of its answer"))
            verdicts.update((each.id, each) for each in self._read(answer))
        unanswered = {
            item.id: cause
            for partition, cause in zip(partitions, causes, strict=True)
            for item in partition
            if item.id not in verdicts
        }
        return Replies(verdicts, unanswered)

    def _read(self, raw: bytes) -> list[Verdict]:
        try:
            answer: dict[str, Any] = orjson.loads(raw)
            weights = answer["model"]["weights_sha256"]
            verdicts = decode_verdicts([*answer["verdicts"], *answer["gathered"]])
        except (orjson.JSONDecodeError, KeyError, TypeError, WireError) as error:
            raise LaneStopped(
                f"a worker's answer cannot be read ({error!r}): "
                "the function runs another release than this dispatcher, deploy both together"
            ) from error
        if weights != self.model.weights_sha256:
            raise LaneStopped(
                f"a worker answered with weights {weights[:12]}, this run is for "
                f"{self.model.weights_sha256[:12]}: deploy the same weights to both"
            )
        self._warn_of_drift(answer.get("drift", ()))
        return verdicts

    def _warn_of_drift(self, names: Iterable[str]) -> None:
        """Say once a run of each quantity that it is not what the model was made for."""
        if new := sorted(set(names) - self._adrift):
            self._adrift.update(new)
            _log.warning(
                "the stream is not distributed as what the model was trained on",
                quantities=new,
                model=self.model.name,
                advice="check magnitudes and stamps, or whether another model fits",
            )


def cut(items: Sequence[T], n: int) -> list[Sequence[T]]:
    """Cut into `n` partitions whose sizes differ by at most one."""
    small, larger = divmod(len(items), n)
    borders = list(itertools.accumulate([small + (i < larger) for i in range(n)], initial=0))
    return [items[a:b] for a, b in itertools.pairwise(borders)]
