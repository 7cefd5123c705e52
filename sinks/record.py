"""The result record: one row for every event that was answered.

One model, from which every schema is made (SQL columns, Arrow and Parquet, Avro, JSON), so
that no two destinations can disagree. Evolution is add-only: a new field is nullable and
`SCHEMA_VERSION` grows.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

SCHEMA_VERSION: Final = 4


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
    REJECTED = "rejected"
    """There was an estimate, and a person has rejected it."""


class Review(StrEnum):
    """What became of an estimate that a rule has picked for a person to look at."""

    WAITING = "waiting"
    """Held back until somebody decides. No sink is given such a row."""
    MARKED = "marked"
    """Published without a decision: who uses it may want to look."""
    APPROVED = "approved"
    REJECTED = "rejected"


Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
IDS: Final = ("source_id", "src_offset")  # the fields of this type: strings in JSON


def _vo(ucd: str, unit: str = "") -> dict[str, JsonValue]:
    """What a field is to the Virtual Observatory: UCD1+ words and a VOUnit ("" where none)."""
    return {"ucd": ucd, "unit": unit}


class ResultRecord(BaseModel):
    """One answered event. Ids are 64-bit integers in memory and strings in JSON.

    Redshift fields are null unless `status` is `ok`. Times are unix
    seconds (UTC). `src_*` is the event's position: with it the books can be proved from
    the sinks alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=True)

    result_id: str = Field(
        description="result key: the same event and model, always the same",
        json_schema_extra=_vo("meta.id;meta.main"),
    )
    survey: str = Field(
        description="who sent the event, as ZTF, LSST or a notice's own name",
        json_schema_extra=_vo("meta.curation"),
    )
    alert_id: str = Field(
        description="the survey's id of the alert, as text", json_schema_extra=_vo("meta.id")
    )
    source_id: Id | None = Field(
        None,
        description="candid, diaSourceId, or a notice's integer id",
        json_schema_extra=_vo("meta.id;src"),
    )
    object_id: str | None = Field(
        None,
        description="the survey's object, as text",
        json_schema_extra=_vo("meta.id.parent;src"),
    )
    ra: float = Field(
        description="degrees, ICRS", json_schema_extra=_vo("pos.eq.ra;meta.main", "deg")
    )
    dec: float = Field(
        description="degrees, ICRS", json_schema_extra=_vo("pos.eq.dec;meta.main", "deg")
    )
    midpoint_mjd_tai: float | None = Field(
        None,
        description="days; ZTF sends the start of the exposure (15 s earlier)",
        json_schema_extra=_vo("time.epoch;obs.exposure", "d"),
    )

    status: Status = Field(
        description="ok, or why there is no redshift", json_schema_extra=_vo("meta.code.status")
    )
    reason: str | None = Field(
        None,
        description="a sentence, where there is no redshift",
        json_schema_extra=_vo("meta.note"),
    )
    z_median: float | None = Field(
        None,
        description="0.5 quantile of p(z)",
        json_schema_extra=_vo("src.redshift.phot;stat.median;meta.main"),
    )
    z_mean: float | None = Field(
        None, description="mean of p(z)", json_schema_extra=_vo("src.redshift.phot;stat.mean")
    )
    z_mode: float | None = Field(
        None, description="most probable bin of p(z)", json_schema_extra=_vo("src.redshift.phot")
    )
    z_err68_low: float | None = Field(
        None,
        description="0.16 quantile of p(z)",
        json_schema_extra=_vo("src.redshift.phot;stat.min"),
    )
    z_err68_high: float | None = Field(
        None,
        description="0.84 quantile of p(z)",
        json_schema_extra=_vo("src.redshift.phot;stat.max"),
    )
    z_err95_low: float | None = Field(
        None,
        description="0.025 quantile of p(z)",
        json_schema_extra=_vo("src.redshift.phot;stat.min"),
    )
    z_err95_high: float | None = Field(
        None,
        description="0.975 quantile of p(z)",
        json_schema_extra=_vo("src.redshift.phot;stat.max"),
    )
    z_measure: str = Field(
        "photometric",
        description="how the redshift was found",
        json_schema_extra=_vo("meta.code;src.redshift.phot"),
    )
    z_target: str = Field(
        "source",
        description="what the redshift is of: source or host",
        json_schema_extra=_vo("meta.code;src.redshift.phot"),
    )
    quality_flag: int | None = Field(
        None,
        description="bit field, 0 = nothing to remark",
        json_schema_extra=_vo("meta.code.qual;src.redshift.phot"),
    )
    out_of_domain: float | None = Field(
        None,
        description="0 to 1: share of good stamps that look more ordinary than this one",
        json_schema_extra=_vo("stat.probability"),
    )

    host_id: str | None = Field(
        None,
        description="the host that the sender associated",
        json_schema_extra=_vo("meta.id.assoc"),
    )
    host_sep_arcsec: float | None = Field(
        None,
        description="its distance from the source, arcsec",
        json_schema_extra=_vo("pos.angDistance", "arcsec"),
    )
    host_prob: float | None = Field(
        None,
        description="probability that it is the host, 0 to 1",
        json_schema_extra=_vo("stat.probability"),
    )
    bands_used: str | None = Field(
        None,
        description="bands that were really observed, as 'ugriz'",
        json_schema_extra=_vo("instr.bandpass"),
    )
    input_ref: str | None = Field(
        None, description="where the pixels came from", json_schema_extra=_vo("meta.ref")
    )

    model_name: str = Field(
        description="see the model card", json_schema_extra=_vo("meta.id;meta.software")
    )
    model_version: str = Field(
        description="of the model", json_schema_extra=_vo("meta.version;meta.software")
    )
    weights_sha256: str = Field(
        description="of the weights file: which numbers were used",
        json_schema_extra=_vo("meta.checksum;meta.software"),
    )
    calibration_id: str | None = Field(
        None, description="how p(z) was recalibrated", json_schema_extra=_vo("meta.id;obs.calib")
    )
    run_id: str = Field(
        description="the run that wrote the row", json_schema_extra=_vo("meta.id;meta.software")
    )
    tense: str = Field(
        "current", description="current, archival or test", json_schema_extra=_vo("meta.code")
    )
    schema_version: int = Field(
        SCHEMA_VERSION,
        description="of this record",
        json_schema_extra=_vo("meta.version;meta.dataset"),
    )
    src_topic: str = Field(description="source of the event", json_schema_extra=_vo("meta.dataset"))
    src_partition: str = Field(
        description="partition of the source: a file, of an archive",
        json_schema_extra=_vo("meta.id.part;meta.dataset"),
    )
    src_offset: Id = Field(
        description="place in the partition, from 0",
        json_schema_extra=_vo("meta.record;meta.dataset"),
    )
    src_schema_id: str | None = Field(
        None,
        description="schema that the packet was written with",
        json_schema_extra=_vo("meta.version;meta.dataset"),
    )
    t_broker_in: float = Field(
        description="when the source handed the event over, unix seconds",
        json_schema_extra=_vo("time.processing", "s"),
    )
    t_inferred: float | None = Field(
        None,
        description="when the answer arrived, unix seconds",
        json_schema_extra=_vo("time.processing", "s"),
    )
    t_published: float = Field(
        description="when the row was handed to the sinks, unix seconds",
        json_schema_extra=_vo("time.release", "s"),
    )
    cost_usd_micro: int | None = Field(
        None,
        description="`cost_usd_pico` in 1e-6 US dollars, rounded: most often 0",
        json_schema_extra=_vo("meta.number", "'uUSD'"),
    )
    cost_usd_pico: int | None = Field(
        None,
        description="its share of what the calls cost that it was part of, in 1e-12 US dollars; "
        "null where none was made",
        json_schema_extra=_vo("meta.number", "'pUSD'"),
    )
    review: Review | None = Field(
        None,
        description="null where no rule picked it for review; marked: published without a "
        "decision; approved or rejected by a person",
        json_schema_extra=_vo("meta.code.status"),
    )
    review_rules: str | None = Field(
        None,
        description="the rules that picked it, a space between them",
        json_schema_extra=_vo("meta.code.qual"),
    )
    review_by: str | None = Field(
        None, description="who decided", json_schema_extra=_vo("meta.curation")
    )
    review_note: str | None = Field(
        None, description="what that person noted", json_schema_extra=_vo("meta.note")
    )
    t_reviewed: float | None = Field(
        None,
        description="when it was decided, unix seconds",
        json_schema_extra=_vo("time.processing", "s"),
    )

    def to_json(self) -> dict[str, Any]:
        """The record for JSON: 64-bit ids as strings, so that no reader rounds them."""
        fields = dict(self.__dict__)  # all values are plain: much faster than `model_dump`
        for name in IDS:
            if fields[name] is not None:
                fields[name] = str(fields[name])
        return fields
