"""Stores that several processes share, that are killed, that are away, or that are no stores."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from parts.postgres import postgres as postgres_cluster
from parts.process import free_port
from parts.redis import valkey
from structlog.testing import capture_logs

from dispatcher.errors import LedgerUnavailable, SettingsError
from dispatcher.ledger.accounts import TOTAL, Purse, Window
from dispatcher.ledger.stores import Entry, open_store
from dispatcher.ledger.stores.redis import RedisStore

ROOT = Path(__file__).parents[2]
NOW = 1.8e9


def spender(folder, owner, cap):
    command = [sys.executable, str(Path(__file__).with_name("spender.py")), str(folder)]
    return subprocess.Popen(
        [*command, "ledger.sqlite", owner, str(cap)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


async def total_of(store, now=None):
    found = await store.balances({}, now or time.time())
    return next(each for each in found if (each.account, each.window) == (TOTAL, Window.MONTH))


async def pay(store, number, amount=5):
    entry = Entry(NOW, Purse.LIVE, amount, amount, 1, "settled")
    return await store.report("a", number, [entry], {}, NOW)


async def test_two_processes_on_one_file_spend_no_more_than_there_is(tmp_path):
    spenders = [spender(tmp_path, f"s{n}", 2100) for n in range(2)]
    spent = sum(int(each.communicate(timeout=60)[0].split()[-1]) for each in spenders)
    store = open_store("ledger.sqlite", tmp_path, "shared")
    await store.open()
    assert spent == (await total_of(store)).spent == 2100
    await store.close()


async def test_a_process_that_is_killed_leaves_books_that_are_right(tmp_path):
    victim = spender(tmp_path, "victim", 10**9)
    assert victim.stdout.readline() == "open\n"
    await asyncio.sleep(0.3)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    store = open_store("ledger.sqlite", tmp_path, "shared")
    await store.open()
    found = await total_of(store)
    lines = await store.journal(0, 10**6)
    assert found.spent == 7 * len(lines) > 0
    assert found.leased in (0, 7)
    later = await total_of(store, time.time() + 31)
    assert (later.spent, later.leased) == (found.spent + found.leased, 0)
    await store.close()


async def test_several_budgets_share_a_file(tmp_path):
    stores = [open_store("ledger.sqlite", tmp_path, name) for name in ("one", "two")]
    for each in stores:
        await each.open()
    await pay(stores[0], 1)
    await stores[0].freeze(TOTAL, frozen=True)
    assert (await total_of(stores[1], NOW)).spent == 0
    assert not (await stores[1].controls()).frozen
    for each in stores:
        await each.close()


async def test_a_file_that_is_locked_is_away_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("dispatcher.ledger.stores.sqlite._BUSY_MS", 20)
    store = open_store("ledger.sqlite", tmp_path, "b")
    await store.open()
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match=r"no other program locks"):
        await pay(store, 1)
    other.execute("ROLLBACK")
    other.close()
    await pay(store, 1)
    assert (await total_of(store, NOW)).spent == 5
    await store.close()


async def test_a_redis_that_is_killed_is_away_and_comes_back_with_its_books(tmp_path):
    with valkey(tmp_path) as server:
        store = open_store(f"redis://{server.address}", tmp_path, "b")
        with capture_logs() as logs:
            await store.open()
        assert not logs
        await pay(store, 1)
        server.kill()
        with pytest.raises(LedgerUnavailable, match="does not answer"):
            await pay(store, 2)
        server.start()
        await pay(store, 2)
        assert (await total_of(store, NOW)).spent == 10
        await store.close()


async def test_a_redis_that_forgets_is_named_in_the_log(tmp_path):
    with valkey(tmp_path, "--appendonly", "no") as server:
        store = open_store(f"redis://{server.address}", tmp_path, "b")
        with capture_logs() as logs:
            await store.open()
        await store.close()
    assert [each["event"] for each in logs] == ["ledger_not_durable"]


async def test_a_wrong_password_is_a_wrong_setting(tmp_path):
    with valkey(tmp_path, "--requirepass", "right") as server:
        store = open_store(f"redis://:wrong@{server.address}", tmp_path, "b")
        with pytest.raises(SettingsError, match="password") as raised:
            await store.open()
        assert "wrong" not in str(raised.value).replace("WRONGPASS", "")
        store = open_store(f"redis://:right@{server.address}", tmp_path, "b")
        await store.open()
        await pay(store, 1)
        await store.close()


async def test_many_dispatchers_on_one_redis_all_get_their_turn(redis):
    stores = [RedisStore(redis, "crowd") for _ in range(20)]

    async def report(n, store):
        for number in range(5):
            entry = Entry(NOW, Purse.LIVE, 1, 1, 1, "settled")
            await store.report(f"o{n}", number + 1, [entry], {}, NOW)

    await asyncio.gather(*(report(n, each) for n, each in enumerate(stores)))
    assert (await total_of(stores[0], NOW)).spent == 100
    for each in stores:
        await each.close()


async def test_a_postgres_that_stops_is_away_and_comes_back_with_its_books():
    with postgres_cluster() as server:
        store = open_store(server.dsn, Path(), "b")
        await store.open()
        await pay(store, 1)
        server.stop("immediate")
        with pytest.raises(LedgerUnavailable, match="does not answer"):
            await pay(store, 2)
        server.start()
        await pay(store, 2)
        assert (await total_of(store, NOW)).spent == 10
        await store.close()


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
async def test_where_nobody_listens_the_ledger_is_away(scheme, tmp_path):
    store = open_store(f"{scheme}://127.0.0.1:{free_port()}/0", tmp_path, "b")
    with pytest.raises(LedgerUnavailable) as raised:
        await store.open()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ftp://somewhere", "ftp://"),
        ("", "spend.ledger is a file name"),
        ("postgresql://a@b@c/d", "cannot be read"),
        ("redis://host:port", "cannot be read"),
    ],
)
def test_what_is_no_address_is_a_wrong_setting(address, says, tmp_path):
    with pytest.raises(SettingsError, match=says) as raised:
        open_store(address, tmp_path, "b")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("budget", ["", "two words", "{x}"])
def test_a_budget_has_a_name(budget, tmp_path):
    with pytest.raises(SettingsError, match="is no name"):
        open_store("ledger.sqlite", tmp_path, budget)


@pytest.mark.parametrize("content", [b"no database " * 99, None])
async def test_what_cannot_be_a_ledger_file_is_a_wrong_setting(content, tmp_path):
    at = tmp_path / "ledger.sqlite"
    at.write_bytes(content) if content else at.mkdir()
    with pytest.raises(SettingsError, match="cannot be used as a ledger"):
        await open_store("ledger.sqlite", tmp_path, "b").open()
