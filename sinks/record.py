"""The result record: one row for every event that was answered.

One model, from which every schema is made (SQLite columns, Arrow and Parquet, JSON), so
that no two destinations can disagree. Evolution is add-only: a new field is nullable and
`SCHEMA_VERSION` grows.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Final = 2


class Status(StrEnum):
    """Why a row has a redshift, or why it has none. Null is not zero."""

    OK = "ok"
    OUT_OF_DOMAIN = "out_of_domain"
    NO_HOST = "no_host"
    NO_STAMP = "no_stamp"
    MISSING_BAND = "missing_band"
    BAD_CUTOUT = "bad_cutout"
    EDGE = "edge"
    SOLAR_SYSTEM = "solar_system"


Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class ResultRecord(BaseModel):
    """One answered event. Ids are 64-bit integers in memory and strings in JSON.

    Redshift fields are null unless `status` is `ok`. Times are unix
    seconds (UTC). `src_*` is the event's position: with it the books can be proved from
    the sinks alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=True)

    result_id: str = Field(description="result key: the same event and model, always the same")
    survey: str = Field(description="who sent the event, as ZTF, LSST or a notice's own name")
    alert_id: str = Field(description="the survey's id of the alert, as text")
    source_id: Id | None = Field(None, description="candid, diaSourceId, or a notice's integer id")
    object_id: str | None = Field(None, description="the survey's object, as text")
    ra: float = Field(description="degrees, ICRS")
    dec: float = Field(description="degrees, ICRS")
    midpoint_mjd_tai: float | None = Field(
        None, description="days; ZTF sends the start of the exposure (15 s earlier)"
    )

    status: Status = Field(description="ok, or why there is no redshift")
    reason: str | None = Field(None, description="a sentence, where there is no redshift")
    z_median: float | None = Field(None, description="0.5 quantile of p(z)")
    z_mean: float | None = Field(None, description="mean of p(z)")
    z_mode: float | None = Field(None, description="most probable bin of p(z)")
    z_err68_low: float | None = Field(None, description="0.16 quantile of p(z)")
    z_err68_high: float | None = Field(None, description="0.84 quantile of p(z)")
    z_err95_low: float | None = Field(None, description="0.025 quantile of p(z)")
    z_err95_high: float | None = Field(None, description="0.975 quantile of p(z)")
    z_measure: str = Field("photometric", description="how the redshift was found")
    z_target: str = Field("source", description="what the redshift is of: source or host")
    quality_flag: int | None = Field(None, description="bit field, 0 = nothing to remark")
    out_of_domain: float | None = Field(
        None, description="0 to 1: share of good stamps that look more ordinary than this one"
    )

    host_id: str | None = Field(None, description="the host that the sender associated")
    host_sep_arcsec: float | None = Field(None, description="its distance from the source, arcsec")
    host_prob: float | None = Field(None, description="probability that it is the host, 0 to 1")
    bands_used: str | None = Field(None, description="bands that were really observed, as 'ugriz'")
    input_ref: str | None = Field(None, description="where the pixels came from")

    model_name: str = Field(description="see the model card")
    model_version: str = Field(description="of the model")
    weights_sha256: str = Field(description="of the weights file: which numbers were used")
    calibration_id: str | None = Field(None, description="how p(z) was recalibrated")
    run_id: str = Field(description="the run that wrote the row")
    tense: str = Field("current", description="current, archival or test")
    schema_version: int = Field(SCHEMA_VERSION, description="of this record")
    src_topic: str = Field(description="source of the event")
    src_partition: str = Field(description="partition of the source: a file, of an archive")
    src_offset: Id = Field(description="place in the partition, from 0")
    src_schema_id: str | None = Field(None, description="schema that the packet was written with")
    t_broker_in: float = Field(description="when the source handed the event over, unix seconds")
    t_inferred: float | None = Field(None, description="when the answer arrived, unix seconds")
    t_published: float = Field(description="when the row was handed to the sinks, unix seconds")
    cost_usd_micro: int | None = Field(None, description="null where no price is known")

    def to_json(self) -> dict[str, Any]:
        """The record for JSON: 64-bit ids as strings, so that no reader rounds them."""
        fields = self.model_dump()
        for name in ("source_id", "src_offset"):
            if fields[name] is not None:
                fields[name] = str(fields[name])
        return fields
