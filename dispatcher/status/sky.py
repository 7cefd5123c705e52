"""What the redshifts of a night look like beside those that the model was made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dispatcher.groups import GroupRunner
from dispatcher.night import Night
from workers.quality import Quality
from workers.weights import find, read_config

_PLAIN_BINS = 20


def edges(weights: str) -> tuple[float, ...]:
    """Redshifts between which a night is counted: those of the model's reference, if it has one.

    Equally many of its held-out rows lie between any two of them, so they are close where redshifts
    are many.
    """
    config = read_config(find(weights))
    known = config.reference.get("quantities", {}).get("z_median", {}).get("edges")
    if known:
        return tuple(float(each) for each in known)
    step = config.z_max / _PLAIN_BINS
    return tuple(step * n for n in range(1, _PLAIN_BINS))


def redshifts(night: Night, weights: str) -> dict[str, Any]:
    """Histogram of the night, and what the reference would have given of as many."""
    config, inner = read_config(find(weights)), list(night.edges)
    counts = config.reference.get("quantities", {}).get("z_median", {}).get("counts")
    expected = None
    if counts:
        share = sum(night.in_bins) / sum(counts)
        expected = [round(each * share, 2) for each in counts[: len(night.in_bins)]]
    return {
        "edges": [_first(inner), *inner, _last(inner, config.z_max)],
        "night": night.in_bins,
        "reference": expected,
    }


def drift(night: Night, groups: GroupRunner) -> dict[str, Any]:
    """What is not as in the training, and how many estimates carry which flag."""
    estimates, refused = sum(night.in_bins), night.out_of_domain
    asked = estimates + refused
    return {
        "alarm": sorted(groups.adrift),
        "out_of_domain_share": refused / asked if asked else None,
        "flags": [
            {"flag": flag.name.lower(), "share": night.flagged[flag.value] / estimates}
            for flag in Quality
            if estimates and flag.name
        ],
    }


def _first(inner: Sequence[float]) -> float:
    """An end for the first bin, which has none: as wide as it is worth looking at."""
    return round(max(0.0, inner[0] - 3 * (inner[1] - inner[0])), 4)


def _last(inner: Sequence[float], z_max: float) -> float:
    return round(min(z_max, inner[-1] + 3 * (inner[-1] - inner[-2])), 4)
