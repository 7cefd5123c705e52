"""The function: one invocation takes one partition and says one verdict for each item.

The same code runs in a local worker process and in a Lambda image. Several invocations can
form a group; its ranks meet through `fmi`, take the job header from the root, and gather
their verdicts there. Every rank also returns its own verdicts: whichever rank or answer is
lost, what the others found still arrives.

Event in:

    {"job": {"weights_sha256": "..."} (root only), "partition": {ids, images, magnitudes},
     "careful": true (one item after the other; absent: several together),
     "group": {"id", "rank", "size", "rendezvous", "token", "deadline_s"} (absent when alone)}

Answer:

    {"rank", "model": {name, version, weights_sha256, calibration_id}, "verdicts": [...],
     "gathered": [...] (root: verdicts of the other ranks), "lost": [ranks],
     "drift": [what is not distributed as in training, see workers.drift],
     "ms": {"decode", "meet", "infer", "gather", "total"} (phases as far as there were such)}

While it works it prints "lookback at 128": the place in its partition of the first item that it
looks at now. When it dies, that is the last such line of its log, and tells whom to suspect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import fmi
from workers.domain import FOREIGN
from workers.drift import DriftMonitor
from workers.errors import WrongWeights
from workers.estimator import Estimates, Estimator
from workers.wire import Estimate, Verdict, VerdictKind, decode_items, encode_verdicts

CHUNK = 64
"""Items per forward pass: more gains nothing on one core and costs memory."""

_RETURN_MARGIN_S = 0.5  # kept free at the end of an invocation to send the answer
_FOREIGN = "the stamp looks like nothing that the model was trained on"
_GATHER_SHARE = 0.8  # of the time left: a root that gathers for longer cannot tell who is lost


class LambdaContext(Protocol):
    """What the platform passes beside the event, as far as it is used here."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the platform stops this invocation."""


@cache
def estimator() -> Estimator:
    """The model, loaded once per process.

    LOOKBACK_WEIGHTS names it (see `workers.weights.find`), LOOKBACK_PRECISION may be "bfloat16".
    """
    return Estimator.load(
        os.environ.get("LOOKBACK_WEIGHTS"),
        precision="bfloat16" if os.environ.get("LOOKBACK_PRECISION") == "bfloat16" else "float32",
    )


@cache
def monitor() -> DriftMonitor | None:
    """Watches the estimates of this process; None if the weights do not say what is usual."""
    return DriftMonitor(estimator().reference) if estimator().reference else None


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one invocation. See the module's docstring for both forms.

    Raises:
        WireError: the partition cannot be read.
        WrongWeights: the job asks for other weights.
    """
    watch = _Watch()
    stop_at = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - _RETURN_MARGIN_S
    partition = _Partition(*decode_items(event["partition"]))
    watch.note("decode")
    look = _Look(stop_at, 1 if event.get("careful") else CHUNK)
    group = event.get("group")
    if group is None:
        _check(event["job"])
        verdicts = list(_infer(partition, look))
        watch.note("infer")
        return _answer(0, verdicts, watch)
    return _answer_in_group(group, event.get("job"), partition, look, watch)


@dataclass(frozen=True, slots=True)
class _Partition:
    ids: Sequence[str]
    images: NDArray[np.float32]
    magnitudes: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Look:
    """Until when (monotonic s), and at how many items together."""

    stop_at: float
    chunk: int


class _Watch:
    """Milliseconds by phase."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self._ms: dict[str, float] = {}

    def note(self, phase: str) -> None:
        """What was done since the last note."""
        now = time.perf_counter()
        self._ms[phase] = round(self._ms.get(phase, 0.0) + 1000 * (now - self._last), 3)
        self._last = now

    def read(self) -> dict[str, float]:
        """All phases, and the total until now."""
        return {**self._ms, "total": round(1000 * (time.perf_counter() - self._started), 3)}


def _answer_in_group(
    group: Mapping[str, Any],
    job: Mapping[str, Any] | None,
    partition: _Partition,
    look: _Look,
    watch: _Watch,
) -> dict[str, Any]:
    rank = int(group["rank"])
    deadline_s = float(group["deadline_s"])
    verdicts: list[Verdict] = []
    try:
        # A dispatcher that went away has taken its groups with it.
        meeting = fmi.Direct(group["rendezvous"], group["token"], restart_s=0.0)
        with fmi.connect_blocking(
            group["id"], rank, int(group["size"]), meeting, deadline_s=deadline_s
        ) as ranks:
            _check(ranks.bcast(job))
            watch.note("meet")
            verdicts = list(_infer(partition, look))
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
            return _answer(rank, verdicts, watch, others, lost)
    except fmi.FmiError as error:
        # The group broke up. This rank's own partition does not need the others.
        watch.note("gather" if verdicts else "meet")
        if not verdicts:
            verdicts = list(_infer(partition, look))
            watch.note("infer")
        lost = error.ranks if isinstance(error, fmi.PeerLost) else ()
        return _answer(rank, verdicts, watch, [], lost)


def _left(stop_at: float) -> float:
    """Seconds to wait for other ranks; who is out of time takes half of its margin."""
    return max(_RETURN_MARGIN_S / 2, stop_at - time.monotonic())


def _check(job: Mapping[str, Any]) -> None:
    wanted = job["weights_sha256"]
    if wanted != estimator().sha256:
        raise WrongWeights(
            f"the job wants weights {wanted[:12]}, this function carries "
            f"{estimator().sha256[:12]}: deploy the same weights to both"
        )


def _infer(partition: _Partition, look: _Look) -> Iterator[Verdict]:
    """One verdict per item, in order; `try_again` for what the time did not suffice for."""
    for start in range(0, len(partition.ids), look.chunk):
        part = slice(start, start + look.chunk)
        if time.monotonic() >= look.stop_at:
            for each in partition.ids[start:]:
                yield Verdict(each, VerdictKind.TRY_AGAIN, reason="out_of_time")
            return
        print(f"lookback at {start}", flush=True)
        yield from _verdicts(
            partition.ids[part], partition.images[part], partition.magnitudes[part]
        )


def _verdicts(
    ids: Sequence[str], images: NDArray[np.float32], magnitudes: NDArray[np.float32]
) -> Iterator[Verdict]:
    finite = np.asarray(np.isfinite(images).all(axis=(1, 2, 3)) & ~np.isinf(magnitudes).any(axis=1))
    estimates = _estimates(images[finite], magnitudes[finite]) if finite.any() else None
    rows = iter(range(int(finite.sum())))
    for each, good in zip(ids, finite.tolist(), strict=True):
        if good and estimates is not None:
            yield _verdict(each, estimates, next(rows))
        else:
            yield Verdict(each, VerdictKind.BAD_INPUT, reason="not_finite")


def _estimates(images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> Estimates:
    estimates, watched = estimator().estimate(images, magnitudes), monitor()
    if watched:
        watched.observe(estimates, magnitudes)
    return estimates


def _verdict(item: str, estimates: Estimates, i: int) -> Verdict:
    if estimates.out_of_domain[i] > FOREIGN:
        return Verdict(item, VerdictKind.NOT_APPLICABLE, reason=_FOREIGN)
    estimate = Estimate(
        z_median=float(estimates.z_median[i]),
        z_mean=float(estimates.z_mean[i]),
        z_mode=float(estimates.z_mode[i]),
        z_err68_low=_known(estimates.z_err68_low[i]),
        z_err68_high=_known(estimates.z_err68_high[i]),
        z_err95_low=_known(estimates.z_err95_low[i]),
        z_err95_high=_known(estimates.z_err95_high[i]),
        quality_flag=int(estimates.quality_flag[i]),
        out_of_domain=_known(estimates.out_of_domain[i]),
    )
    return Verdict(item, VerdictKind.ESTIMATED, estimate)


def _known(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)


def _answer(
    rank: int,
    verdicts: Sequence[Verdict],
    watch: _Watch,
    gathered: Sequence[Mapping[str, Any]] = (),
    lost: Sequence[int] = (),
) -> dict[str, Any]:
    model = estimator()
    return {
        "rank": rank,
        "model": {
            "name": model.name,
            "version": model.version,
            "weights_sha256": model.sha256,
            "calibration_id": model.calibration_id,
        },
        "verdicts": encode_verdicts(verdicts),
        "gathered": list(gathered),
        "lost": list(lost),
        "drift": list(watched.alarm) if (watched := monitor()) else [],
        "ms": watch.read(),
    }


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    # Inside a function: load during its start-up, before the first invocation is waiting.
    estimator()
