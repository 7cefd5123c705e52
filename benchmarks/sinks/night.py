"""Result records as a real night makes them."""

from __future__ import annotations

import hashlib

import numpy as np

from sinks.record import ResultRecord, Status

_REDSHIFTS = (
    "z_median",
    "z_mean",
    "z_mode",
    "z_err68_low",
    "z_err68_high",
    "z_err95_low",
    "z_err95_high",
)
_FIELD_DEG = 3.5  # the field of view of LSST
_EVERY = 20  # one event in as many has no redshift
_WEIGHTS = hashlib.sha256(b"weights").hexdigest()


def records(first: int, count: int, *, all_sky: bool = False) -> list[ResultRecord]:
    """`count` results from the number `first` on; the same numbers give the same results."""
    drawn = np.random.default_rng(first).random((count, 14)).tolist()
    return [_record(n, row, all_sky=all_sky) for n, row in enumerate(drawn, start=first)]


def _record(n: int, drawn: list[float], *, all_sky: bool) -> ResultRecord:
    across, up, *rest = drawn
    if all_sky:
        ra, dec = 360 * across, float(np.degrees(np.arcsin(2 * up - 1)))
    else:
        ra, dec = 36 + _FIELD_DEG * across, -5 + _FIELD_DEG * up
    t = 1.9e9 + n / 300
    return ResultRecord(
        result_id=hashlib.blake2b(b"%d" % n, digest_size=16).hexdigest(),
        survey="LSST",
        alert_id=str(2**62 + n),
        source_id=2**62 + n,
        object_id=str(2**61 + n // 3),
        ra=ra,
        dec=dec,
        midpoint_mjd_tai=61000 + n / 1e6,
        **_answer(n, rest),
        host_id=str(2**60 + n // 3),
        host_sep_arcsec=rest[8],
        host_prob=rest[9],
        bands_used="ugriz",
        input_ref=f"s3://lookback-stamps/{2**62 + n}.fits",
        model_name="galaxies",
        model_version="1.2.0",
        weights_sha256=_WEIGHTS,
        calibration_id="pit-2029-11",
        run_id="20291128T030000Z-1f0c",
        src_topic="alerts",
        src_partition=str(n % 8),
        src_offset=n // 8,
        src_schema_id="1001",
        t_broker_in=t,
        t_inferred=t + rest[10],
        t_published=t + rest[10] + rest[11] / 10,
        cost_usd_pico=12,
    )


def _answer(n: int, drawn: list[float]) -> dict[str, object]:
    if n % _EVERY == 0:
        return {"status": Status.NO_STAMP, "reason": "the alert has no stamp in the bands g, r, i"}
    redshifts = dict(zip(_REDSHIFTS, drawn, strict=False))
    return {"status": Status.OK, **redshifts, "quality_flag": n % 4, "out_of_domain": drawn[7]}
