"""Fixtures that every package's tests share, and where the real survey packets are looked for."""

import os
from pathlib import Path

import pytest
from nat import missing as missing_for_networks

from fmi.meeting.rendezvous import Rendezvous

SURVEY_DATA = Path(
    os.environ.get("LOOKBACK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
)


NO_NETWORKS = missing_for_networks()


def pytest_report_header():
    survey_data = (
        f"survey data: {SURVEY_DATA}"
        if SURVEY_DATA.is_dir()
        else f"survey data: none at {SURVEY_DATA}; tests on real survey packets are not collected "
        "(set LOOKBACK_TEST_DATA to a folder that holds them)"
    )
    networks = (
        f"networks of their own: not possible here, {NO_NETWORKS}; tests behind NATs are not "
        "collected"
        if NO_NETWORKS
        else "networks of their own: made by the tests behind NATs"
    )
    return [survey_data, networks]


def pytest_collection_modifyitems(config, items):
    absent = [
        item
        for item in items
        if (item.get_closest_marker("survey_data") and not SURVEY_DATA.is_dir())
        or ("internet" in item.fixturenames and NO_NETWORKS)
    ]
    config.hook.pytest_deselected(items=absent)
    items[:] = [item for item in items if item not in absent]


@pytest.fixture(scope="session")
def survey_data() -> Path:
    """Folder with real ZTF, LSST and SDSS data (layout: alerts/, sdss/)."""
    return SURVEY_DATA


@pytest.fixture
async def rendezvous():
    """A rendezvous that runs."""
    made = Rendezvous()
    await made.start()
    yield made
    await made.close()
