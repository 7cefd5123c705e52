"""How far a partition is: what a commit says, and what a source that keeps commits gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of one partition, as it is committed.

    `watermark`: every offset below it is settled. `gaps`: which ones above it are, in a short
    text that only `dispatcher.gapmap` reads. `outcomes`: how many were settled how, since the
    partition began. `settled`: of a partition without order, the offsets that were settled since
    the last commit; its watermark stays 0.
    """

    watermark: int = 0
    gaps: str = ""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    settled: tuple[int, ...] = ()
