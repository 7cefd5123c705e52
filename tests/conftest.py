"""Fixtures that every package's tests share, and where the real survey packets are looked for."""

import os
from pathlib import Path

import pytest

from fmi.rendezvous import Rendezvous

SURVEY_DATA = Path(
    os.environ.get("LOOKBACK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
)


def pytest_report_header():
    if SURVEY_DATA.is_dir():
        return f"survey data: {SURVEY_DATA}"
    return (
        f"survey data: none at {SURVEY_DATA}; tests on real survey packets are not collected "
        "(set LOOKBACK_TEST_DATA to a folder that holds them)"
    )


def pytest_collection_modifyitems(config, items):
    if SURVEY_DATA.is_dir():
        return
    absent = [item for item in items if item.get_closest_marker("survey_data")]
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
