"""The original FMI, measured earlier on a machine of the same kind, and not in this run.

Its code has no licence and cannot be here. Release: `spcl/fmi` at cd63588, built with its Direct
and Redis channels and its Python module; configuration as shipped but for `max_timeout` (60 s,
since 1 s fails where ranks start at different times). Two cores of an AMD EPYC, Linux 6.18, Redis
7.0.15 without persistence; the method is the one used here. Its allreduce sums 32-bit floats in
C++ and doubles in Python, the same number of bytes. Set-up is the constructor and the first
barrier, since it connects when first used.
"""

from __future__ import annotations

from typing import Final

from benchmarks.fmi.cases import ALLREDUCE, BARRIER, KIB, MIB, PING, SET_UP, STREAM, Case

CPP_DIRECT: Final = "FMI C++ Direct"
PYTHON_DIRECT: Final = "FMI Python Direct"
PYTHON_REDIS: Final = "FMI Python Redis"
SYSTEMS: Final = (CPP_DIRECT, PYTHON_DIRECT, PYTHON_REDIS)

_COLUMNS: Final = (
    PING,
    Case("ping", MIB),
    STREAM,
    Case("bcast", KIB),
    Case("bcast", MIB),
    Case("allreduce", KIB),
    ALLREDUCE,
    BARRIER,
    SET_UP,
)
# Medians: microseconds, and GB/s of the stream.
_ROWS: Final = {
    (CPP_DIRECT, 2): (14.1, 838, 1.25, 11.3, 751, 25.3, 8180, 24.9, 102135),
    (CPP_DIRECT, 4): (12.3, 813, 1.65, 48.9, 1560, 122, 33974, 93.8, 206616),
    (CPP_DIRECT, 8): (20.8, 1497, 0.84, 123, 3803, 287, 100778, 256, 313556),
    (PYTHON_DIRECT, 2): (19.9, 16481, 0.05, 44.1, 18775, 71.3, 24885, 40.7, 101553),
    (PYTHON_DIRECT, 4): (17.8, 18212, 0.06, 90.2, 26783, 182, 61142, 95.6, 206543),
    (PYTHON_DIRECT, 8): (29.9, 35046, 0.03, 191, 42895, 546, 144374, 310, 327923),
    (PYTHON_REDIS, 2): (638, 17635, 0.04, 1235, 22328, 2592, 33443, 613, 1904),
}


def median_s(ranks: int, case: Case, system: str) -> float | None:
    """Seconds, or None where this was not measured."""
    row = _ROWS.get((system, ranks))
    if row is None or case not in _COLUMNS:
        return None
    value = row[_COLUMNS.index(case)]
    return case.nbytes / (value * 1e9) if case == STREAM else value / 1e6
