"""The section about review: which estimates a person looks at, and what happens until then."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dispatcher.settings.sections import Section

Flag = Literal[
    "broad",
    "several_peaks",
    "unusual_magnitudes",
    "edge_of_grid",
    "measured_magnitudes",
    "out_of_domain",
    "no_uncertainty",
]


class Review(Section):
    """Estimates that a person looks at. Each of these rules can pick one."""

    policy: Literal["off", "mark", "hold"] = Field(
        "off",
        description="what happens to an estimate that a rule below picks: off (nothing), mark "
        "(published at once, and marked), hold (published when a person has decided, see "
        "`lookback review`)",
    )
    flags: tuple[Flag, ...] = Field(
        ("out_of_domain", "edge_of_grid"),
        description="quality flags, each of which picks an estimate: broad, several_peaks, "
        "unusual_magnitudes, edge_of_grid, measured_magnitudes, out_of_domain, no_uncertainty",
    )
    out_of_domain: float | None = Field(
        None, ge=0, le=1, description="score out_of_domain above which one is picked (unset: none)"
    )
    width: float | None = Field(
        None,
        gt=0,
        description="half width of the 68 % interval over 1 + z above which one is picked "
        "(unset: none)",
    )
    z_above: float | None = Field(
        None, ge=0, description="redshift above which one is picked (unset: none)"
    )
    host_prob: float | None = Field(
        None,
        ge=0,
        le=1,
        description="probability of the host below which one is picked (unset: none)",
    )
    drift: bool = Field(
        False, description="whether all are picked while the alarm of drift is on: they are many"
    )
    share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of all estimates that is picked at random; the key of the result "
        "decides, so that one that comes again is picked again",
    )

    @model_validator(mode="after")
    def _picks_something(self) -> Review:
        thresholds = (self.out_of_domain, self.width, self.z_above, self.host_prob)
        some = (
            self.flags or self.drift or self.share or any(each is not None for each in thresholds)
        )
        if self.policy != "off" and not some:
            raise ValueError(
                f"policy is {self.policy}, and no rule picks anything: set flags, or another rule"
            )
        return self
