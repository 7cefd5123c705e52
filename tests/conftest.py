"""Fixtures that every package's tests share, and where the real survey packets are looked for."""

import logging
import os
import shutil
import socket
import subprocess
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import structlog
from nat import missing as missing_for_networks
from parts.aws import ministack
from parts.dask import cluster
from parts.kafka import noida
from parts.kafka import tansu as tansu_broker
from parts.postgres import postgres as postgres_cluster

from dispatcher.logs import FromLibraries
from fmi.meeting.rendezvous import Rendezvous

SURVEY_DATA = Path(
    os.environ.get("LOOKBACK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
)

IPV6 = "::1"


def missing_for_ipv6():
    """Why nothing can listen there; None if it can."""
    try:
        socket.create_server((IPV6, 0), family=socket.AF_INET6).close()
    except OSError as error:
        return str(error)
    return None


def missing_for_browser():
    """Why no page can be looked at; None if one can."""
    return None if shutil.which("chromium") else "no chromium is on the PATH"


def missing_for_tmpfs():
    """Why no small disk can be made; None if one can."""
    if os.geteuid() != 0:
        return "only root may mount one"
    return None if shutil.which("mount") else "there is no mount"


# What a machine may lack, by the fixture that tests ask for, with the reason.
LACKING = {
    fixture: why
    for fixture, why in {
        "internet": missing_for_networks(),
        "ipv6": missing_for_ipv6(),
        "browser": missing_for_browser(),
        "tmpfs": missing_for_tmpfs(),
    }.items()
    if why
}


# What takes longest, for its few tests. It is begun early, else workers would wait for it at the
# end; and among others, because at once it would be too much for the machine.
LONG = (
    "end_to_end/test_kill.py",
    "status/test_faults.py",
    "end_to_end/test_functions.py",
    "delivery/test_real_nights.py",
    "fmi/test_random_kills.py",
    "test_worked_examples.py",
    "delivery/test_random_nights.py",
    "test_first_steps.py",
    "simulate/test_nights.py",
    "end_to_end/test_spend.py",
    "workers/test_training.py",
    "end_to_end/test_survey_data.py",
    "end_to_end/test_run.py",
    "dispatcher/test_doctor.py",
    "end_to_end/test_bad_input.py",
    "dispatcher/test_cluster.py",
    "dispatcher/test_replay.py",
)


def pytest_configure(config):
    """Workers take files in the order of `pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False


def pytest_xdist_auto_num_workers(config):
    """For `-n logical`: one more than there are processors, because tests wait a lot."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_report_header():
    survey_data = (
        f"survey data: {SURVEY_DATA}"
        if SURVEY_DATA.is_dir()
        else f"survey data: none at {SURVEY_DATA}; tests on real survey packets are not collected "
        "(set LOOKBACK_TEST_DATA to a folder that holds them)"
    )
    return [
        survey_data,
        *(f"{fixture}: {why}; its tests are not collected" for fixture, why in LACKING.items()),
    ]


def pytest_collection_modifyitems(config, items):
    absent = [
        item
        for item in items
        if (item.get_closest_marker("survey_data") and not SURVEY_DATA.is_dir())
        or LACKING.keys() & set(item.fixturenames)
    ]
    config.hook.pytest_deselected(items=absent)
    items[:] = _in_order([item for item in items if item not in absent])


def _in_order(items):
    tests = Counter(item.path for item in items)
    long = [path for name in LONG if (path := Path(__file__).parent / name) in tests]
    others = sorted(tests.keys() - set(long), key=lambda path: (-tests[path], path))
    order = []
    while long or others:
        order += [*others[:2], *long[:1]]
        others, long = others[2:], long[1:]
    rank = {path: place for place, path in enumerate(order)}
    return sorted(items, key=lambda item: rank[item.path])


@pytest.fixture(autouse=True)
def _logging_as_before():
    """A command run in this process logs to a standard error that ends with its test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    for each in logging.root.handlers[:]:
        if isinstance(each, FromLibraries):
            logging.root.removeHandler(each)


@pytest.fixture
def tmpfs(tmp_path):
    """A disk of 16 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def ipv6() -> str:
    """This machine's own address."""
    return IPV6


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


@pytest.fixture(scope="session")
def kafka(tmp_path_factory) -> str:
    """Address of a broker with transactions, idempotence and times (one member a group)."""
    with _given("LOOKBACK_TEST_KAFKA") or _address(noida(tmp_path_factory.mktemp("noida"))) as at:
        yield at


@pytest.fixture(scope="session")
def tansu() -> str:
    """Address of a broker with right groups and rebalances; joins take five seconds."""
    with _given("LOOKBACK_TEST_KAFKA") or _address(tansu_broker()) as at:
        yield at


@pytest.fixture(scope="session")
def aws(tmp_path_factory) -> str:
    """URL of a server that speaks SQS, SNS and S3; its credentials are `parts.aws.ACCESS`."""
    server = ministack(tmp_path_factory.mktemp("aws"))
    with _given("LOOKBACK_TEST_AWS") or _address(server, "http://") as at:
        yield at


@pytest.fixture(scope="session")
def _dask(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("dask")) as made:
        yield made


@pytest.fixture
def dask(_dask) -> str:
    """Address of the scheduler of a cluster with two worker processes, also after a kill."""
    _dask.wait()
    return _dask.address


@pytest.fixture(scope="session")
def postgres() -> str:
    """DSN of a PostgreSQL cluster."""
    if given := os.environ.get("LOOKBACK_TEST_POSTGRES"):
        yield given
        return
    with postgres_cluster() as server:
        yield server.dsn


def _given(variable):
    """A server that runs elsewhere (see deploy/check-brokers.sh); None if none is named."""
    address = os.environ.get(variable)
    return nullcontext(address) if address else None


@contextmanager
def _address(starting, scheme=""):
    with starting as server:
        yield f"{scheme}{server.address}"
