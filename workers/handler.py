"""The function: one invocation takes one partition and says one verdict for each item.

The same code runs in a local worker process and in a Lambda image. Several invocations can
form a group; its ranks meet through `fmi`, take the job header from the root, and gather
their verdicts there. Every rank also returns its own verdicts: whichever rank or answer is
lost, what the others found still arrives.

Event in (or the address of one, see `workers.payload`):

    {"job": {"weights_sha256": "...", "weights_at": address (absent: those of the image)},
     (job: root only) "partition": {ids, images, magnitudes},
     "careful": true (one item after the other; absent: several together),
     "group": {"id", "rank", "size", "rendezvous", "token", "deadline_s"} (absent when alone)}

Answer:

    {"rank", "model": {name, version, weights_sha256, calibration_id}, "verdicts": [...],
     "gathered": [...] (root: verdicts of the other ranks), "lost": [ranks],
     "drift": [what is not distributed as in training, see workers.drift],
     "ms": {"init" (first invocation of a process), "decode", "meet", "weights", "infer", "gather",
            "total" (without init)} (phases as far as there were such),
     "memory_mb": the most that the process ever had}

While it works it prints "lookback at 128": the place in its partition of the first item that it
looks at now. When it dies, that is the last such line of its log, and tells whom to suspect. It
prints nothing else, so that the platform's bill stays in the end of the log that is sent back.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import fmi
from workers import payload
from workers.inference import CHUNK, Look, Partition, infer
from workers.shelf import Model, shelf
from workers.wire import Verdict, decode_items, encode_verdicts

_RETURN_MARGIN_S = 0.5  # kept free at the end of an invocation to send the answer
_GATHER_SHARE = 0.8  # of the time left: a root that gathers for longer cannot tell who is lost
_LOADED = time.perf_counter()


class LambdaContext(Protocol):
    """What the platform passes beside the event, as far as it is used here."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the platform stops this invocation."""


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one invocation. See the module's docstring for both forms.

    Raises:
        PayloadError: what the event points at cannot be read.
        WireError: the partition cannot be read.
        WrongWeights: the job asks for other weights, and nobody has them.
    """
    watch = _Watch()
    stop_at = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - _RETURN_MARGIN_S
    event = payload.resolved(event, _left(stop_at))
    partition = Partition(*decode_items(event["partition"]))
    watch.note("decode")
    look = Look(stop_at, 1 if event.get("careful") else CHUNK)
    group = event.get("group")
    if group is None:
        return _answer_alone(event["job"], partition, look, watch)
    return _answer_in_group(group, event.get("job"), partition, look, watch)


class _Watch:
    """Milliseconds by phase. The first of a process also tells what its start took."""

    first = True

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self._ms: dict[str, float] = {}
        if _Watch.first:
            _Watch.first = False
            self._ms["init"] = round(1000 * (_READY - _LOADED), 3)

    def note(self, phase: str) -> None:
        """What was done since the last note."""
        now = time.perf_counter()
        self._ms[phase] = round(self._ms.get(phase, 0.0) + 1000 * (now - self._last), 3)
        self._last = now

    def read(self) -> dict[str, float]:
        """All phases, and the total until now."""
        return {**self._ms, "total": round(1000 * (time.perf_counter() - self._started), 3)}


def _answer_alone(
    job: Mapping[str, Any], partition: Partition, look: Look, watch: _Watch
) -> dict[str, Any]:
    model = _fetched(job, look.stop_at)
    watch.note("weights")
    verdicts = list(infer(model, partition, look))
    watch.note("infer")
    return _answer(0, model, verdicts, watch)


def _answer_in_group(
    group: Mapping[str, Any],
    job: Mapping[str, Any] | None,
    partition: Partition,
    look: Look,
    watch: _Watch,
) -> dict[str, Any]:
    rank = int(group["rank"])
    deadline_s = float(group["deadline_s"])
    model: Model | None = None
    verdicts: list[Verdict] = []
    try:
        # A dispatcher that went away has taken its groups with it.
        meeting = fmi.Direct(group["rendezvous"], group["token"], restart_s=0.0)
        with fmi.connect_blocking(
            group["id"], rank, int(group["size"]), meeting, deadline_s=deadline_s
        ) as ranks:
            job = ranks.bcast(job)
            watch.note("meet")
            model = _shared(ranks, job, look.stop_at)
            watch.note("weights")
            verdicts = list(infer(model, partition, look))
            watch.note("infer")
            # Ranks finish seconds apart, but their invocations end together: a slow one is waited
            # for as long as that allows, and nobody waits for a hung one until it is stopped.
            gathered, lost = ranks.gather_survivors(
                encode_verdicts(verdicts),
                wait_s=min(deadline_s, _GATHER_SHARE * _left(look.stop_at)),
            )
            lost = ranks.agree_on_lost(lost, wait_s=min(2 * deadline_s, _left(look.stop_at)))
            others = [each for r, part in (gathered or {}).items() if r != rank for each in part]
            watch.note("gather")
            return _answer(rank, model, verdicts, watch, others, lost)
    except fmi.FmiError as error:
        # The group broke up. This rank's own partition does not need the others.
        watch.note("gather" if verdicts else "meet")
        if model is None:
            model = _fetched(job or {}, look.stop_at)
            watch.note("weights")
        if not verdicts:
            verdicts = list(infer(model, partition, look))
            watch.note("infer")
        lost = error.ranks if isinstance(error, fmi.PeerLost) else ()
        return _answer(rank, model, verdicts, watch, [], lost)


def _shared(ranks: fmi.Communicator, job: Mapping[str, Any], stop_at: float) -> Model:
    """The job's model; if only some ranks have it, the first of them gives it to the others."""
    wanted, known = job["weights_sha256"], shelf()
    if "weights_at" not in job:
        return known.get(wanted)
    have = ranks.allgather(wanted in known)
    if all(have):
        return known.get(wanted)
    giver = have.index(True) if any(have) else 0
    raw: Any = None
    if ranks.rank == giver:
        # Given on before it is loaded, which takes longest: all do that at the same time.
        raw = _bytes(job, stop_at)
    raw = ranks.bcast(raw, root=giver)
    return known.get(wanted) if wanted in known else known.learn(memoryview(raw), wanted)


def _bytes(job: Mapping[str, Any], stop_at: float) -> NDArray[np.uint8]:
    wanted, known = job["weights_sha256"], shelf()
    if wanted in known:
        return np.fromfile(known.get(wanted).path, np.uint8)
    return np.frombuffer(payload.read(job["weights_at"], _left(stop_at)), np.uint8)


def _fetched(job: Mapping[str, Any], stop_at: float) -> Model:
    """The job's model, read from its address if this process does not carry it.

    A rank that never met its group knows no job: it takes what it carries, and the answer says
    which that is.
    """
    known = shelf()
    wanted = job.get("weights_sha256") or known.any()
    if wanted not in known and "weights_at" in job:
        return known.learn(payload.read(job["weights_at"], _left(stop_at)), wanted)
    return known.get(wanted)


def _left(stop_at: float) -> float:
    """Seconds to wait for other ranks; who is out of time takes half of its margin."""
    return max(_RETURN_MARGIN_S / 2, stop_at - time.monotonic())


def _answer(
    rank: int,
    model: Model,
    verdicts: Sequence[Verdict],
    watch: _Watch,
    gathered: Sequence[Mapping[str, Any]] = (),
    lost: Sequence[int] = (),
) -> dict[str, Any]:
    known = model.estimator
    return {
        "rank": rank,
        "model": {
            "name": known.name,
            "version": known.version,
            "weights_sha256": known.sha256,
            "calibration_id": known.calibration_id,
        },
        "verdicts": encode_verdicts(verdicts),
        "gathered": list(gathered),
        "lost": list(lost),
        "drift": list(model.monitor.alarm) if model.monitor else [],
        "ms": watch.read(),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    # Inside a function: load during its start-up, before the first invocation is waiting.
    shelf()
_READY = time.perf_counter()
