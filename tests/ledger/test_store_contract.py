"""What every store promises, on each of them."""

import asyncio
from datetime import UTC, datetime

import pytest

from dispatcher.ledger.accounts import TOTAL, Purse, Refusal, Window
from dispatcher.ledger.money import DOLLAR, pico
from dispatcher.ledger.stores import Entry, Lease

NOW = datetime(2026, 11, 28, 3, 0, 30, tzinfo=UTC).timestamp()
TTL_S = 30.0


def paid(when, amount, purse=Purse.LIVE, **other):
    return Entry(
        when, purse, amount, **{"reserved": amount, "items": 1, "kind": "settled", **other}
    )


def cap(amount, window=Window.MINUTE, account=TOTAL):
    return {account: {window: amount}}


async def lease(store, want, caps=None, *, owner="a", least=None, now=NOW, purse=Purse.LIVE):
    given = want if least is None else least
    return await store.lease(owner, purse, want, given, caps or {}, now, TTL_S)


async def balance(store, caps=None, *, account=TOTAL, window=Window.MINUTE, now=NOW):
    found = await store.balances(caps or {}, now)
    return next(each for each in found if (each.account, each.window) == (account, window))


async def test_without_caps_everything_is_granted(store):
    assert await lease(store, 10**15) == Lease(Purse.LIVE, 10**15, NOW + TTL_S, 10**15)
    assert await lease(store, 5) == Lease(Purse.LIVE, 5, NOW + TTL_S, 10**15 + 5)
    held = await balance(store)
    assert (held.cap, held.spent, held.leased, held.left) == (None, 0, 10**15 + 5, None)


@pytest.mark.parametrize("window", list(Window))
@pytest.mark.parametrize("account", [TOTAL, "live"])
async def test_leases_never_pass_a_cap(store, window, account):
    caps = cap(100, window, account)
    assert (await lease(store, 60, caps)).amount == 60
    refusal = await lease(store, 60, caps, owner="b")
    assert (refusal.account, refusal.window) == (account, window)
    assert "$" in refusal.why and 0 < refusal.retry_s <= 5
    assert (await balance(store, caps, account=account, window=window)).left == 40
    assert (await lease(store, 40, caps, owner="b")).amount == 40


async def test_an_account_counts_only_its_own(store):
    caps = {"live": {Window.HOUR: 100}, TOTAL: {Window.HOUR: 150}}
    assert isinstance(await lease(store, 100, caps), Lease)
    assert isinstance(await lease(store, 51, caps, purse=Purse.REPLAY), Refusal)
    assert isinstance(await lease(store, 50, caps, purse=Purse.REPLAY), Lease)


async def test_of_the_last_money_one_dispatcher_gets_a_quarter(store):
    assert (await lease(store, 1000, cap(100), least=1)).amount == 25
    assert (await lease(store, 1000, cap(100), least=60, owner="b")).amount == 60
    assert isinstance(await lease(store, 1000, cap(100), least=16, owner="c"), Refusal)
    assert (await lease(store, 1000, cap(100), least=15, owner="c")).amount == 15


async def test_a_cap_of_nothing_refuses_also_what_costs_nothing(store):
    assert isinstance(await lease(store, 0, cap(0)), Refusal)
    assert isinstance(await lease(store, 0, cap(1)), Lease)


async def test_a_minute_and_an_hour_slide(store):
    await store.report("a", 1, [paid(NOW, 70)], {}, NOW)
    for window, length_s, coarse_s in ((Window.MINUTE, 60, 1), (Window.HOUR, 3600, 10)):
        caps = cap(100, window)
        assert isinstance(await lease(store, 31, caps, now=NOW + length_s - 0.001), Refusal)
        assert (await balance(store, caps, window=window, now=NOW + length_s - 0.001)).spent == 70
        later = NOW + length_s + coarse_s
        assert (await balance(store, caps, window=window, now=later)).spent == 0


@pytest.mark.parametrize(
    ("window", "last", "first"),
    [
        (Window.NIGHT, "2026-11-28T11:59:59", "2026-11-28T12:00:00"),
        (Window.MONTH, "2026-11-30T23:59:59", "2026-12-01T00:00:00"),
    ],
)
async def test_a_night_ends_at_noon_and_a_month_with_the_month(store, window, last, first):
    await store.report("a", 1, [paid(NOW, 70)], {}, NOW)
    at = datetime.fromisoformat(f"{last}+00:00").timestamp()
    assert (await balance(store, window=window, now=at)).spent == 70
    at = datetime.fromisoformat(f"{first}+00:00").timestamp()
    assert (await balance(store, window=window, now=at)).spent == 0
    assert (await balance(store, window=window, now=at)).began == at


async def test_noon_is_where_the_observatory_is(opened):
    store = opened(noon_utc_h=16.75)
    noon = datetime(2026, 11, 27, 16, 45, tzinfo=UTC).timestamp()
    await store.open()
    assert (await balance(store, window=Window.NIGHT)).began == noon
    await store.close()


async def test_a_report_turns_what_is_leased_into_what_is_spent(store):
    await lease(store, 100)
    assert await store.report("a", 1, [paid(NOW, 30), paid(NOW + 1, 20)], {}, NOW + 1) == {
        Purse.LIVE: 50
    }
    assert await store.report("a", 2, [], {Purse.LIVE: 40}, NOW + 1) == {Purse.LIVE: 10}
    found = await balance(store, now=NOW + 1)
    assert (found.spent, found.leased) == (50, 10)


async def test_a_report_counts_once_however_often_it_is_sent(store):
    await lease(store, 100)
    for _ in range(3):
        held = await store.report("a", 1, [paid(NOW, 30)], {Purse.LIVE: 5}, NOW)
        assert held == {Purse.LIVE: 65}
    assert (await balance(store)).spent == 30
    assert len(await store.journal(0, 10)) == 1


async def test_what_cost_more_than_was_leased_counts_whole(store):
    await lease(store, 10)
    assert await store.report("a", 1, [paid(NOW, 35)], {}, NOW) == {Purse.LIVE: 0}
    found = await balance(store)
    assert (found.spent, found.leased) == (35, 0)


async def test_reports_keep_leases_and_silence_spends_them(store):
    await lease(store, 100)
    await store.report("a", 1, [paid(NOW, 30)], {}, NOW + 20)
    assert (await balance(store, now=NOW + 49)).leased == 70
    found = await balance(store, now=NOW + 50)
    assert (found.spent, found.leased) == (100, 0)
    # It counts from the moment when the lease ran out, not from when somebody looked.
    assert (await balance(store, now=NOW + 20 + TTL_S + 61)).spent == 0
    assert (await balance(store, window=Window.NIGHT, now=NOW + 999)).spent == 100


async def test_a_late_report_corrects_what_silence_spent(store):
    await lease(store, 100)
    late = NOW + 100
    assert (await balance(store, now=late, window=Window.NIGHT)).spent == 100
    assert await store.report("a", 1, [paid(NOW + 5, 30)], {}, late) == {}
    assert (await balance(store, now=late, window=Window.NIGHT)).spent == 100
    await lease(store, 7, now=late)
    assert await store.report("a", 2, [], {Purse.LIVE: 70}, late) == {Purse.LIVE: 7}
    found = await balance(store, now=late, window=Window.NIGHT)
    assert (found.spent, found.leased) == (30, 7)
    assert (await balance(store, now=late, window=Window.MINUTE)).spent == 0


async def test_the_silence_of_one_spends_nothing_of_another(store):
    await lease(store, 100, owner="a")
    await lease(store, 50, owner="b")
    await store.report("b", 1, [], {}, NOW + 20)
    found = await balance(store, now=NOW + 40)
    assert (found.spent, found.leased) == (100, 50)
    await store.report("b", 2, [paid(NOW + 40, 50)], {}, NOW + 40)
    assert (await balance(store, now=NOW + 40)).spent == 150


async def test_caps_set_by_hand_come_first_until_they_are_taken_back(store):
    caps = cap(100)
    await store.set_cap(TOTAL, Window.MINUTE, 10)
    await store.set_cap("live", Window.NIGHT, 20)
    assert (await store.controls()).caps == {TOTAL: {Window.MINUTE: 10}, "live": {Window.NIGHT: 20}}
    assert isinstance(await lease(store, 11, caps), Refusal)
    assert (await balance(store, caps)).cap == 10
    await store.set_cap(TOTAL, Window.MINUTE, None)
    await store.set_cap("live", Window.NIGHT, 0)
    assert (await lease(store, 11, caps)).window is Window.NIGHT
    await store.set_cap("live", Window.NIGHT, None)
    assert isinstance(await lease(store, 11, caps), Lease)
    assert not (await store.controls()).caps


@pytest.mark.parametrize("account", [TOTAL, "live"])
async def test_a_frozen_account_refuses(store, account):
    await store.freeze(account, frozen=True)
    await store.freeze(account, frozen=True)
    assert (await store.controls()).frozen == {account}
    refusal = await lease(store, 0)
    assert refusal.account == account and "frozen" in refusal.why
    assert isinstance(await lease(store, 1, purse=Purse.REPLAY), Lease) == (account == "live")
    await store.freeze(account, frozen=False)
    assert isinstance(await lease(store, 1), Lease)


async def test_large_sums_are_exact(store):
    """2**53 pico-dollars are $9,007: what counts in doubles goes wrong there."""
    cap_, call = 20_000 * DOLLAR + 1, pico("3000.000000000001")
    caps = cap(cap_, Window.NIGHT)
    for n in range(6):
        assert isinstance(await lease(store, call, caps), Lease)
        await store.report("a", n + 1, [paid(NOW + n, call)], {}, NOW + n)
    left = cap_ - 6 * call
    found = await balance(store, caps, window=Window.NIGHT)
    assert (found.spent, found.left) == (6 * call, left)
    assert isinstance(await lease(store, left + 1, caps), Refusal)
    assert (await lease(store, left, caps)).amount == left
    assert isinstance(await lease(store, 1, caps), Refusal)


async def test_every_hour_that_something_was_spent_is_known(store):
    hour = datetime(2026, 11, 28, 3, tzinfo=UTC).timestamp()
    entries = [paid(hour, 1), paid(hour + 3599.9, 2), paid(hour + 3600, 4, Purse.REPLAY)]
    await store.report("a", 1, entries, {}, hour + 3601)
    hours = await store.spent_per_hour(hour - 7200, hour + 7200)
    assert [row for row in hours if row[2]] == [(hour, "live", 3), (hour + 3600, "replay", 4)]
    assert await store.spent_per_hour(hour + 3600, hour + 3601) == [(hour + 3600, "replay", 4)]
    assert await store.spent_per_hour(hour - 7200, hour) == []


async def test_the_journal_has_every_call(store):
    entries = [paid(NOW + n, n, items=n, reserved=2 * n, kind="assumed") for n in range(5)]
    await store.report("a", 1, entries[:3], {}, NOW + 5)
    await store.report("b and c", 1, entries[3:], {}, NOW + 5)
    assert await store.journal(NOW + 2, 10) == [
        ("a", entries[2]),
        ("b and c", entries[3]),
        ("b and c", entries[4]),
    ]
    assert await store.journal(NOW, 1) == [("b and c", entries[4])]
    assert await store.journal(NOW, 0) == []


async def test_who_needs_workers_says_so(store):
    assert await store.needed_until(NOW, "a") == 0
    await store.need("a", NOW + 2)
    assert await store.needed_until(NOW, "a") == 0
    assert await store.needed_until(NOW, "b") == NOW + 2
    assert await store.needed_until(NOW + 2, "b") == 0
    await store.report("a", 1, [], {}, NOW)
    assert await store.needed_until(NOW, "b") == NOW + 2


async def test_the_books_are_there_when_they_are_opened_again(opened):
    first, second = opened(), opened()
    await first.open()
    await lease(first, 100)
    await first.report("a", 1, [paid(NOW, 30)], {}, NOW)
    await first.set_cap("live", Window.HOUR, 5)
    await first.close()
    await second.open()
    found = await balance(second)
    assert (found.spent, found.leased) == (30, 70)
    assert (await second.controls()).caps == {"live": {Window.HOUR: 5}}
    await second.close()


async def test_two_dispatchers_at_once_get_no_more_than_there_is(opened):
    stores = [opened() for _ in range(4)]
    for each in stores:
        await each.open()

    async def take(store, owner):
        got = 0
        for n in range(10):
            found = await lease(store, 7, cap(200), owner=owner, least=7)
            got += found.amount if isinstance(found, Lease) else 0
            await store.report(owner, n + 1, [paid(NOW, 3)], {}, NOW)
        return got

    got = sum(await asyncio.gather(*(take(each, f"o{n}") for n, each in enumerate(stores))))
    found = await balance(stores[0])
    assert found.spent == 4 * 10 * 3
    assert got <= 200 and 200 - got < 7
    for each in stores:
        await each.close()


async def test_rows_of_seconds_are_not_kept_for_ever(store):
    for n in range(5):
        await store.report("a", n + 1, [paid(NOW + n * 10_000, 1)], {}, NOW + n * 10_000)
    assert (await balance(store, window=Window.MONTH, now=NOW + 40_000)).spent == 5
    assert (await balance(store, window=Window.HOUR, now=NOW)).spent <= 2
