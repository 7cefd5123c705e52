"""One verdict per item of a partition, as far as the time suffices."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.density import sketch
from workers.domain import FOREIGN
from workers.estimator import Estimates
from workers.shelf import Model
from workers.wire import Estimate, Verdict, VerdictKind

CHUNK: Final = 64
"""Items per forward pass: more gains nothing on one core and costs memory."""

_FOREIGN: Final = "the stamp looks like nothing that the model was trained on"


@dataclass(frozen=True, slots=True)
class Partition:
    """What one worker takes: n ids, images [n, 5, 32, 32], magnitudes [n, 5]."""

    ids: Sequence[str]
    images: NDArray[np.float32]
    magnitudes: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Look:
    """Until when (monotonic s), and at how many items together."""

    stop_at: float
    chunk: int


def infer(model: Model, partition: Partition, look: Look) -> Iterator[Verdict]:
    """One verdict per item, in order; `try_again` for what the time did not suffice for.

    Nothing is begun that would not end in time, judged by the slowest look so far.
    """
    slowest_s = 0.0
    for start in range(0, len(partition.ids), look.chunk):
        part = slice(start, start + look.chunk)
        began = time.monotonic()
        if began + slowest_s >= look.stop_at:
            for each in partition.ids[start:]:
                yield Verdict(each, VerdictKind.TRY_AGAIN, reason="out_of_time")
            return
        print(f"lookback at {start}", flush=True)
        yield from _verdicts(
            model, partition.ids[part], partition.images[part], partition.magnitudes[part]
        )
        slowest_s = max(slowest_s, time.monotonic() - began)


def _verdicts(
    model: Model, ids: Sequence[str], images: NDArray[np.float32], magnitudes: NDArray[np.float32]
) -> Iterator[Verdict]:
    finite = np.asarray(np.isfinite(images).all(axis=(1, 2, 3)) & ~np.isinf(magnitudes).any(axis=1))
    estimates = _estimates(model, images[finite], magnitudes[finite]) if finite.any() else None
    rows = iter(range(int(finite.sum())))
    for each, good in zip(ids, finite.tolist(), strict=True):
        if good and estimates is not None:
            yield _verdict(each, estimates, next(rows), model.estimator.grid.z_max)
        else:
            yield Verdict(each, VerdictKind.BAD_INPUT, reason="not_finite")


def _estimates(
    model: Model, images: NDArray[np.float32], magnitudes: NDArray[np.float32]
) -> Estimates:
    estimates = model.estimator.estimate(images, magnitudes)
    if model.monitor:
        model.monitor.observe(estimates, magnitudes)
    return estimates


def _verdict(item: str, estimates: Estimates, i: int, z_max: float) -> Verdict:
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
        pz=sketch(estimates.pz[i], z_max) if estimates.pz.size else None,
    )
    return Verdict(item, VerdictKind.ESTIMATED, estimate)


def _known(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
