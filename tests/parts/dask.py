"""A Dask cluster of two worker processes on this machine, in a process of its own.

In that of the tests, its sockets and threads would be there until Dask likes to close them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parents[1]

_CLUSTER = """
import sys
import dask
from distributed import LocalCluster

# Else a worker that happens to be restarted fifteen seconds after it died once is closed for good.
dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"})
if __name__ == "__main__":
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        for line in sys.stdin:
            cluster.wait_for_workers(2, timeout=60)
            print("all are there", flush=True)
"""


class Cluster:
    """A cluster that runs; `address`: of its scheduler."""

    def __init__(self, process: subprocess.Popen, address: str) -> None:
        self._process, self.address = process, address

    def wait(self) -> None:
        """Until both workers are there, also after a kill."""
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "all are there\n"


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Its workers find the handlers of the tests. `folder`: for its script."""
    script = folder / "cluster.py"
    script.write_text(_CLUSTER)
    path = os.pathsep.join([str(TESTS / "dispatcher"), str(TESTS.parent)])
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        try:
            yield Cluster(process, process.stdout.readline().strip())
        finally:
            process.stdin.close()
            process.wait(30)
