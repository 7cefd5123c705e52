"""Results to write: any number of different ones, each the same whenever it is asked for."""

from sinks.record import ResultRecord, Status


def record(n, **changed):
    """The result of the event at offset `n`."""
    fields = {
        "result_id": f"{n:032x}",
        "survey": "LSST",
        "alert_id": str(2**62 + n),
        "source_id": 2**62 + n,
        "ra": 10.0 + n / 1000,
        "dec": -30.5,
        "status": Status.OK,
        "z_median": 0.1 + n / 1e6,
        "quality_flag": 0,
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
