"""Every store of the ledger in turn, with what it needs running."""

import os
from itertools import count

import pytest
from parts.redis import valkey

from dispatcher.ledger.stores import open_store
from dispatcher.ledger.stores.memory import MemoryStore

_number = count()


@pytest.fixture(scope="session")
def redis(tmp_path_factory) -> str:
    """URL of a server that speaks Redis's protocol."""
    if given := os.environ.get("LOOKBACK_TEST_REDIS"):
        yield given
        return
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield f"redis://{server.address}"


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
def opened(request, tmp_path):
    """Opens the same empty books as often as it is called: each time as another dispatcher."""
    kind = request.param
    budget = f"budget-{os.getpid()}-{next(_number)}"
    memory = MemoryStore()

    def another(noon_utc_h=12.0):
        if kind == "memory":
            return memory if noon_utc_h == 12.0 else MemoryStore(noon_utc_h)
        address = "ledger.sqlite" if kind == "sqlite" else request.getfixturevalue(kind)
        return open_store(address, tmp_path, budget, noon_utc_h)

    return another


@pytest.fixture
async def store(opened):
    """One store, open."""
    made = opened()
    await made.open()
    yield made
    await made.close()
