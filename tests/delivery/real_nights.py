"""Real nights from seeds.

PYTHONPATH=tests:tests/dispatcher python -m delivery.real_nights --on tansu --seeds 0:10
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

from parts.aws import ministack
from parts.kafka import noida, tansu

from delivery.servers import durable_broker, kafka_night, restarts_of, sqs_night


@asynccontextmanager
async def _tansu(folder):
    with tansu() as server:
        yield lambda seed, into: kafka_night(server.address, seed, into, dispatchers=2 + seed % 2)


@asynccontextmanager
async def _noida(folder):
    with noida(folder) as server:
        yield lambda seed, into: kafka_night(server.address, seed, into, dispatchers=1)


@asynccontextmanager
async def _durable(folder):
    with ministack(folder) as aws:
        async with durable_broker(f"http://{aws.address}") as broker:
            more = [restarts_of(broker)] * 3
            yield lambda seed, into: kafka_night(
                broker.address, seed, into, dispatchers=2, more=more
            )


@asynccontextmanager
async def _sqs(folder):
    with ministack(folder) as aws:
        url = f"http://{aws.address}"
        yield lambda seed, into: sqs_night(url, seed, into, dispatchers=1 + seed % 3)


_SERVERS = {"tansu": _tansu, "noida": _noida, "durable": _durable, "sqs": _sqs}


async def pass_all(server, seeds):
    """Let the nights of `seeds` pass; what happened in them, counted, and those that failed."""
    seen, failed, started = Counter(), [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with server(Path(folder)) as night:
            for seed in seeds:
                into = Path(folder) / f"seed {seed}"
                into.mkdir()
                try:
                    seen.update((await night(seed, into)).seen)
                except Exception:  # noqa: BLE001  one failed, others go on
                    failed.append(seed)
                    traceback.print_exc()
                seen["nights"] += 1
    seen["seconds"] = round(time.monotonic() - started)
    return seen, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=_SERVERS, required=True)
    parser.add_argument("--seeds", default="0:4", help="first:end")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    seeds = range(int(first), int(end or int(first) + 1))
    seen, failed = asyncio.run(pass_all(_SERVERS[arguments.on], seeds))
    print(json.dumps({**dict(sorted(seen.items())), "failed": failed}, indent=1))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
