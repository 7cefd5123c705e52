"""Results all over the sky."""

import math
import random

from sinks.record import ResultRecord, Status


def place(n):
    """Somewhere on the sky, for each n elsewhere."""
    source = random.Random(n)
    return source.uniform(0, 360), math.degrees(math.asin(source.uniform(-1, 1)))


def record(n, **changed):
    ra, dec = place(n)
    fields = {
        "result_id": f"{n:032x}",
        "survey": "LSST",
        "alert_id": str(2**62 + n),
        "source_id": 2**62 + n,
        "ra": ra,
        "dec": dec,
        "status": Status.OK,
        "z_median": 0.1 + n / 1e6,
        "model_name": "m",
        "model_version": "1",
        "weights_sha256": "0" * 64,
        "run_id": "r",
        "src_topic": "t",
        "src_partition": "p",
        "src_offset": n,
        "t_broker_in": 1.5,
        "t_published": 2.5,
    }
    return ResultRecord(**{**fields, **changed})


def close(n):
    """A result in a patch of a few degrees, where four HEALPix pixels of order 0 meet."""
    ra, dec = place(n)
    return record(n, ra=45 + ra / 180, dec=dec / 90)
