"""What rides in a commit besides the offset: outcomes and gaps, in one short text.

Form: `L1:written=360,duplicate=12:GAPS`. L1 is the version; the gaps are the keeper's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ingest.progress import Progress

MAX_BYTES: Final = 4096
"""What a broker keeps per partition, unless it is set otherwise (`offset.metadata.max.bytes`)."""

_FORM: Final = re.compile(r"L1:((?:\w+=\d{1,19}(?:,\w+=\d{1,19})*)?):(.*)", re.ASCII | re.DOTALL)


def encode(progress: Progress, limit: int = MAX_BYTES) -> str:
    """The text of `progress`, in at most `limit` bytes.

    Gaps are left out where they are too long: what lies above the watermark is then redone.
    Outcomes are never left out for them; "" is what is left where not even they fit.
    """
    counts = ",".join(f"{name}={count}" for name, count in progress.outcomes.items())
    without_gaps = f"L1:{counts}:"
    texts = (without_gaps + progress.gaps, without_gaps, "")
    return next(text for text in texts if len(text.encode()) <= limit)


def decode(watermark: int, text: str) -> Progress:
    """The progress of a commit. What another tool wrote is not ours: only the offset counts."""
    match = _FORM.fullmatch(text or "")
    if not match:
        return Progress(watermark)
    return Progress(watermark, gaps=match[2], outcomes=_counts(match[1]))


def _counts(text: str) -> Mapping[str, int]:
    pairs = (each.split("=") for each in text.split(",") if each)
    return {name: int(count) for name, count in pairs}
