"""A Dask cluster of two worker processes on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import LocalCluster

TESTS = Path(__file__).parents[1]


@contextmanager
def cluster() -> Iterator[LocalCluster]:
    """Its workers find the handlers of the tests."""
    path = os.pathsep.join([str(TESTS / "dispatcher"), str(TESTS.parent)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        with LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as made:
            yield made
