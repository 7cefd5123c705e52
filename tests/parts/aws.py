"""SQS, SNS and S3 on this machine: ministack."""

import os
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parts.process import Server, running

ACCESS = {
    "region_name": os.environ.get("AWS_REGION", "us-east-1"),
    "aws_access_key_id": os.environ.get("AWS_ACCESS_KEY_ID", "test"),
    "aws_secret_access_key": os.environ.get("AWS_SECRET_ACCESS_KEY", "test"),
}
"""What a client of it needs besides `endpoint_url`."""


@contextmanager
def ministack(folder: Path, *, persistent: bool = False) -> Iterator[Server]:
    """An empty account. `persistent`: S3 objects survive a kill, queues a SIGTERM."""
    environment = {
        "BIND_HOST": "127.0.0.1",
        "LOG_LEVEL": "ERROR",
        "TMPDIR": str(folder),
        **({"PERSIST_STATE": "1", "S3_PERSIST": "1"} if persistent else {}),
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
    }
    binary = Path(sysconfig.get_path("scripts")) / "ministack"

    def command(port: int) -> list[str]:
        # The port goes by the environment, and only the shell knows it by then.
        return ["/bin/sh", "-c", f'GATEWAY_PORT={port} exec "{binary}"']

    with running(Server(command, environment)) as server:
        yield server
