"""A flag says what it says, and each only that."""

import numpy as np
import pytest

from workers.quality import Quality, flags

GOOD = {
    "low68": 0.95,
    "high68": 1.05,
    "high95": 1.1,
    "mode": 1.0,
    "median": 1.0,
    "magnitudes": (20.0, 20.0, 19.0, 18.5, 18.0),
    "measured": (False,) * 5,
    "out_of_domain": 0.95,
}


def flagged(config, *estimates):
    columns = {name: np.array([each[name] for each in estimates]) for name in GOOD}
    return [Quality(each) for each in flags(**columns, config=config).tolist()]


def magnitude(band, value):
    changed = list(GOOD["magnitudes"])
    changed[band] = value
    return {"magnitudes": tuple(changed)}


NOTHING, BROAD, PEAKS, UNUSUAL, EDGE, MEASURED, FOREIGN, POINT = Quality(0), *Quality

CASES = {
    "nothing to remark": ({}, NOTHING),
    "half the 68 % interval is 0.099 (1 + z)": ({"low68": 0.802, "high68": 1.198}, NOTHING),
    "half the 68 % interval is 0.101 (1 + z)": ({"low68": 0.798, "high68": 1.202}, BROAD),
    "wide, but not for its redshift": (
        {"low68": 3.7, "mode": 4.0, "median": 4.0, "high68": 4.6, "high95": 5.0},
        NOTHING,
    ),
    "the mode is at the end of the 68 % interval": ({"mode": 1.05}, NOTHING),
    "the mode is below the 68 % interval": ({"mode": 0.94}, PEAKS),
    "the mode is above the 68 % interval": ({"mode": 1.06}, PEAKS),
    "the 95 % interval ends just before the grid": ({"high95": 5.87}, NOTHING),
    "the 95 % interval ends with the grid": ({"high95": 5.89}, EDGE),
    **{f"{'ugriz'[band]} is bright": (magnitude(band, 14.9 - band), UNUSUAL) for band in range(5)},
    **{f"{'ugriz'[band]} is faint": (magnitude(band, 27.1 - band), UNUSUAL) for band in range(5)},
    **{
        f"{'ugriz'[band]} is as bright as any": (magnitude(band, 15.0 - band), NOTHING)
        for band in range(5)
    },
    **{
        f"{'ugriz'[band]} was measured": (
            {"measured": tuple(each == band for each in range(5))},
            MEASURED,
        )
        for band in range(5)
    },
    "the stamp is unusual": ({"out_of_domain": 0.951}, FOREIGN),
    "nobody knows whether the stamp is unusual": ({"out_of_domain": np.nan}, NOTHING),
    "everything": (
        {
            "out_of_domain": 1.0,
            "high68": 3.0,
            "mode": 4.0,
            "high95": 6.0,
            **magnitude(2, 40.0),
            "measured": (True,) * 5,
        },
        BROAD | PEAKS | UNUSUAL | EDGE | MEASURED | FOREIGN,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_flag_is_set_by_what_it_says_and_by_nothing_else(config, case):
    changed, expected = CASES[case]
    assert flagged(config, {**GOOD, **changed}) == [expected]


def test_every_estimate_has_its_own_flags(config):
    estimates = [{**GOOD, **changed} for changed, _ in CASES.values()]
    assert flagged(config, *estimates) == [expected for _, expected in CASES.values()]


def test_a_model_that_gives_a_redshift_alone_says_so(config):
    unknown = {"low68": np.nan, "high68": np.nan, "high95": np.nan, "out_of_domain": np.nan}
    published = config.model_copy(update={"bins": 1, "magnitude_range": ()})
    assert flagged(published, {**GOOD, **unknown, **magnitude(2, 40.0)}) == [POINT]


def test_the_bits_in_stored_results_keep_their_meaning():
    assert {each.name: each.value for each in Quality} == {
        "BROAD": 1,
        "SEVERAL_PEAKS": 2,
        "UNUSUAL_MAGNITUDES": 4,
        "EDGE_OF_GRID": 8,
        "MEASURED_MAGNITUDES": 16,
        "OUT_OF_DOMAIN": 32,
        "NO_UNCERTAINTY": 64,
    }
