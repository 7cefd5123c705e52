"""What the redshifts of a night look like beside those that the model was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.groups import GroupRunner
from dispatcher.night import Night
from workers.quality import Quality
from workers.weights import find, read_config

_PLAIN_BINS: Final = 20


@dataclass(frozen=True, slots=True)
class Reference:
    """The redshifts of a model's held-out rows, as its weights file has them.

    `edges`: redshifts between which a night is counted. Equally many of the rows lie between any
    two, so they are close where redshifts are many. `counts`: rows in each bin, the open ones at
    both ends included; None where the file has none, and the edges are equidistant.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...] | None
    z_max: float

    @classmethod
    def of(cls, weights: str) -> Reference:
        """That of a weights file or a shipped model, without loading it.

        Raises:
            WeightsError: there is no such file, or it is not one of ours.
        """
        config = read_config(find(weights))
        known = config.reference.get("quantities", {}).get("z_median")
        if known and len(known["edges"]) > 1:
            edges = tuple(map(float, known["edges"]))
            return cls(edges, tuple(known["counts"][: len(edges) + 1]), config.z_max)
        step = config.z_max / _PLAIN_BINS
        return cls(tuple(step * n for n in range(1, _PLAIN_BINS)), None, config.z_max)


def redshifts(night: Night, reference: Reference) -> dict[str, Any]:
    """Histogram of the night, and what the reference would have given of as many."""
    expected = None
    if reference.counts:
        share = sum(night.in_bins) / sum(reference.counts)
        expected = [round(each * share, 2) for each in reference.counts]
    inner = reference.edges
    return {
        "edges": [_first(inner), *inner, _last(inner, reference.z_max)],
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
