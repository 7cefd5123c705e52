"""`lookback ledger` on a ledger that dispatchers use."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from dispatcher.clock import SystemClock
from dispatcher.commands.ledger import app
from dispatcher.errors import SettingsError
from dispatcher.ledger.accounts import TOTAL, Purse, Quote, Refusal, Window
from dispatcher.ledger.forecast import forecast
from dispatcher.ledger.ledger import Ledger
from dispatcher.ledger.money import DOLLAR
from dispatcher.ledger.stores import Entry, open_store
from dispatcher.ledger.stores.memory import MemoryStore
from dispatcher.ledger.windows import Calendar

SETTINGS = "[spend]\nhour_usd = 10\nnight_usd = 50\n\n[replay]\nnight_usd = 5\n"


@pytest.fixture
def folder(tmp_path):
    """A folder of a run that has spent $4, a dollar of it on a replay."""
    (tmp_path / "settings.toml").write_text(SETTINGS)

    async def spend():
        store = open_store("ledger.sqlite", tmp_path, "lookback")
        await store.open()
        now = SystemClock().now()
        entries = [
            Entry(now, Purse.LIVE, 3 * DOLLAR, 4 * DOLLAR, 200, "settled"),
            Entry(now, Purse.REPLAY, DOLLAR, DOLLAR, 50, "assumed"),
        ]
        await store.lease("night-1 [bold]x", Purse.LIVE, 6 * DOLLAR, 0, {}, now, 60.0)
        await store.report("night-1 [bold]x", 1, entries, {}, now)
        await store.close()

    asyncio.run(spend())
    return tmp_path


def call(folder, *arguments):
    where = ["--to", str(folder), "--settings", str(folder / "settings.toml")]
    return CliRunner().invoke(app, [*arguments, *where], env={"COLUMNS": "200"})


def answer(folder, *arguments):
    result = call(folder, *arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def balance(folder, account, window):
    found = json.loads(answer(folder, "show", "--json"))["balances"]
    return next(b for b in found if (b["account"], b["window"]) == (account, window))


def test_it_shows_what_is_spent_and_what_may_be(folder):
    found = balance(folder, "total", "hour")
    assert found["cap_usd"] == "10" and found["spent_usd"] == "4"
    assert found["leased_usd"] == "3" and found["left_usd"] == "3"
    assert balance(folder, "replay", "night")["spent_usd"] == "1"
    shown = answer(folder, "show")
    assert "40.0%" in shown and "$50.00" in shown and "night-1 [bold]x" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["replay", "night", "$5.00", "$1.00", "20.0%", "$0.00", "$4.00"] in lines
    assert not any(line[:1] == ["poison"] for line in lines)


def test_the_last_calls_are_listed(folder):
    calls = json.loads(answer(folder, "show", "--json", "--calls", "1"))["calls"]
    (only,) = calls
    assert (only["purse"], only["cost_usd"], only["kind"]) == ("replay", "1", "assumed")


def test_it_foretells_where_a_night_ends(folder):
    found = json.loads(answer(folder, "forecast", "--json"))
    assert found["last_hour_usd"] == "4"
    assert sum(float(each["spent_usd"]) for each in found["hours"]) == 4
    night = next(o for o in found["outlook"] if (o["account"], o["window"]) == ("total", "night"))
    assert night["per_hour_usd"] == "4"
    assert "$4.00" in answer(folder, "forecast")


async def test_a_forecast_says_when_the_money_ends():
    now = datetime(2026, 11, 28, 3, 30, tzinfo=UTC).timestamp()
    store = MemoryStore()
    paid = [Entry(now - 600, Purse.LIVE, 2 * DOLLAR, 0, 1, "settled")]
    await store.report("a", 1, paid, {}, now)
    caps = {TOTAL: {Window.NIGHT: 10 * DOLLAR, Window.MONTH: 100 * DOLLAR}}
    found = await forecast(store, caps, now, Calendar())
    night, month = found.outlooks
    assert night.runs_out == now + 4 * 3600  # $8 at $2 an hour
    assert night.by_end == 2 * DOLLAR + 17 * DOLLAR
    assert month.runs_out is None and month.by_end < 10 * DOLLAR
    assert found.hours == [(now - 1800, 2 * DOLLAR)]


def test_a_cap_is_set_and_taken_back(folder):
    assert "$20.00" in answer(folder, "set", "total", "night", "20")
    found = balance(folder, "total", "night")
    assert (found["cap_usd"], found["cap_by_hand"]) == ("20", True)
    assert "$20.00*" in answer(folder, "show")
    answer(folder, "set", "total", "night", "none")
    assert balance(folder, "total", "night")["cap_usd"] == "50"


def test_an_account_is_frozen_and_let_go(folder):
    answer(folder, "freeze", "live")
    assert "live is frozen" in answer(folder, "show")
    assert json.loads(answer(folder, "show", "--json"))["frozen"] == ["live"]
    answer(folder, "freeze", "live", "--off")
    assert json.loads(answer(folder, "show", "--json"))["frozen"] == []


async def test_a_dispatcher_that_runs_obeys(folder):
    store = open_store("ledger.sqlite", folder, "lookback")
    ledger = Ledger(store, {}, SystemClock(), "a", report_s=0.1)
    quote = Quote(1, 1, 1)
    async with ledger.running(), asyncio.timeout(20):
        while isinstance(ledger.try_reserve(Purse.LIVE, quote), Refusal):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(answer, folder, "freeze", "total")
        while True:
            found = ledger.try_reserve(Purse.LIVE, quote)
            if isinstance(found, Refusal) and found.account == TOTAL:
                break
            await asyncio.sleep(0.01)
        await asyncio.to_thread(answer, folder, "freeze", "total", "--off")
        while isinstance(ledger.try_reserve(Purse.LIVE, quote), Refusal):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("set", "life", "night", "1"), "'life' is no account: it is one of total, live"),
        (("set", "live", "day", "1"), "'day' is no window: it is one of minute, hour"),
        (("set", "live", "night", "much"), "'much' is no amount of dollars"),
        (("set", "live", "night", "nan"), "no amount"),
        (("set", "live", "night", "1e9"), "cannot be"),
        (("freeze", "lives"), "is no account"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, arguments, says):
    result = call(folder, *arguments)
    assert isinstance(result.exception, SettingsError)
    assert says in str(result.exception) and "\n" not in str(result.exception)


@pytest.mark.parametrize("command", ["show", "forecast"])
def test_looking_makes_no_ledger(tmp_path, command):
    (tmp_path / "settings.toml").write_text(SETTINGS)
    result = call(tmp_path, command)
    assert isinstance(result.exception, SettingsError)
    assert "there is no ledger" in str(result.exception)
    assert not (tmp_path / "ledger.sqlite").exists()
