"""The status page in a browser: its figures are the run's."""

import base64
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from decimal import Decimal

import pytest
import pytest_asyncio
from browsing import figure, opened, shown, table, text, until
from staged import PRICE

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser, stage):
    """One page for all: they only look."""
    async with opened(browser, stage.address) as made:
        await shown(made)
        yield made
        assert made.complaints == []


async def test_books_are_those_of_the_run_and_of_its_sinks(page, stage):
    snapshot = await stage.ask("api/status")
    written = await page.locator("#books li").evaluate_all(
        "terms => terms.map(each => [each.querySelector('span').textContent,"
        " each.querySelector('strong').textContent])"
    )
    books = {name.replace(" ", "_"): figure(n) for name, n in written}
    totals = stage.run.totals()
    assert books == {k: v for k, v in snapshot["books"].items() if k != "balanced"}
    assert books["received"] == totals.received == sum(books.values()) - books["received"]
    with closing(sqlite3.connect(stage.run.output / "results.sqlite")) as sink:
        statuses = Counter(row[0] for row in sink.execute("SELECT status FROM results"))
    assert books["written"] == statuses["ok"]
    assert books["not_applicable"] == statuses.total() - statuses["ok"]
    letters = (stage.run.output / "deadletters.jsonl").read_text().splitlines()
    assert books["dead"] == len(letters) > 0
    assert "The books balance" in await text(page, "balance")


async def test_flow_is_that_of_the_run(page):
    snapshot = await shown(page)
    stages = await page.locator("#stages li").evaluate_all(
        "stages => stages.map(each => [each.querySelector('span').textContent,"
        " each.querySelector('strong').textContent])"
    )
    assert [(name, figure(n)) for name, n in stages] == [
        (each["stage"], each["items"]) for each in snapshot["stages"]
    ]
    assert (await text(page, "held")).startswith("Nothing holds the stream back.")
    rows = await table(page, "partitions-table")
    assert [[row[0], *map(figure, row[1:8])] for row in rows] == [
        [
            each["partition"],
            pytest.approx(each["rate_per_s"], abs=0.5),
            each["waiting"],
            each["behind_s"],
            pytest.approx(each["oldest_s"], abs=0.05),
            each["in_flight"],
            each["received"],
            each["settled"],
        ]
        for each in snapshot["partitions"]
    ]
    latency = snapshot["latency"]
    half, most = await table(page, "latency-table")
    assert figure(half[1]) == pytest.approx(latency["p50_s"], abs=0.051)
    assert figure(most[1]) == pytest.approx(latency["p98_s"], abs=0.051)
    assert figure(most[2]) == pytest.approx(latency["p98_s"] / latency["objective_s"], abs=6e-4)


async def test_rates_are_drawn_second_by_second(page):
    snapshot = await shown(page)
    rates = snapshot["rates"]
    assert figure(await text(page, "rate-now")) == pytest.approx(rates["estimates_per_s"], abs=0.5)
    drawn = await page.get_attribute("#rate-chart .line", "d")
    points = [tuple(map(float, each.split())) for each in drawn[1:].split("L")]
    top = figure((await text(page, "rate-top")).removesuffix("/s"))
    assert [round((100 - y) * top / 94) for _, y in points] == [
        each["written"] for each in rates["per_second"]
    ]
    most = max(each["written"] for each in rates["per_second"])
    assert f"{most} at most" in await text(page, "rate-chart-desc")


async def test_lanes_sinks_and_money_are_those_of_the_run(page, stage):
    snapshot = await stage.ask("api/status")
    (lane,) = snapshot["lanes"]
    (row,) = await table(page, "lanes-table")
    assert row[0] == lane["lane"]
    assert [figure(row[n]) for n in (1, 2, 4, 5)] == [
        lane[each] for each in ("waiting", "at_workers", "calls", "batch_items")
    ]
    workers = snapshot["workers"]
    said = await text(page, "workers")
    assert said.startswith(f"{workers['in_use']} of {workers['limit']} workers in use")
    assert len(await table(page, "groups-table")) == len(snapshot["groups"])
    sinks = await table(page, "sinks-table")
    assert [[row[0], *map(figure, row[2:5])] for row in sinks] == [
        [each["name"], each["written"], each["waiting"], each["dropped"]]
        for each in snapshot["sinks"]
    ]
    assert {row[1] for row in sinks} == {"takes rows"}


async def test_money_is_that_of_the_ledger(page, stage):
    snapshot = await shown(page)
    money = snapshot["money"]
    spent = stage.run.pipeline.scheduler.ledger.spent.total()
    assert Decimal(money["spent_run_usd"]) == Decimal(spent).scaleb(-12) > 0
    assert await page.get_attribute("#spent", "title") == f"{money['spent_run_usd']} US dollars"
    assert await text(page, "price") == f"in this run, at {PRICE}"
    rows = page.locator("#windows-table tbody tr")
    exact = await rows.evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.title))"
    )
    assert [[row[n] for n in (1, 2, 4)] for row in exact] == [
        [
            f"{each[name]} US dollars" if each[name] is not None else ""
            for name in ("spent_usd", "cap_usd", "set_aside_usd")
        ]
        for each in money["windows"]
    ]
    written = await table(page, "windows-table")
    assert [row[0] for row in written] == [
        f"{each['account']}, {each['window']}" for each in money["windows"]
    ]
    (night,) = (row for row in written if row[0] == "total, night")
    (window,) = (
        each for each in money["windows"] if (each["account"], each["window"]) == ("total", "night")
    )
    assert night[2] == "$0.01"
    assert figure(night[3]) == pytest.approx(window["used"], abs=6e-4)
    clock = time.strftime("%H:%M", time.gmtime(window["ends"]))
    assert clock in night[5]


async def test_science_is_that_of_the_run(page, stage):
    snapshot = await stage.ask("api/status")
    rows = await table(page, "z-table")
    assert [figure(row[1]) for row in rows] == snapshot["redshifts"]["night"]
    assert sum(figure(row[1]) for row in rows) == stage.run.totals().outcomes["written"]
    assert [figure(row[2]) for row in rows] == [
        pytest.approx(each, abs=0.051) for each in snapshot["redshifts"]["reference"]
    ]
    refused, *flags = await table(page, "flags-table")
    assert figure(refused[1]) == pytest.approx(snapshot["drift"]["out_of_domain_share"], abs=6e-4)
    assert {row[0].replace(" ", "_"): figure(row[1]) for row in flags} == {
        each["flag"]: pytest.approx(each["share"], abs=6e-4)
        for each in snapshot["drift"]["flags"]
        if each["share"]
    }
    assert snapshot["run"]["model"]["weights_sha256"][:12] in await text(page, "model")


async def test_dead_letters_and_log_are_those_of_the_run(page, stage):
    snapshot = await stage.ask("api/status")
    rows = await table(page, "letters-table")
    reasons = Counter(
        json.loads(line)["reason"]
        for line in (stage.run.output / "deadletters.jsonl").read_text().splitlines()
    )
    assert {row[0]: figure(row[2]) for row in rows} == reasons
    assert figure(await text(page, "letters-held")) == reasons.total()
    advice = snapshot["dead_letters"]["advice"]
    assert [row[3] for row in rows] == [advice[row[1].replace(" ", "_")] for row in rows]
    lines = await table(page, "log-table")
    assert [(row[1], row[2]) for row in lines] == [
        (each["level"], each["event"]) for each in snapshot["log"]
    ]


async def test_one_object_with_all_that_is_known_of_it(page, stage):
    await page.select_option("#filter-status", "ok")
    await until(page, "!document.querySelector('#window .badge:not(.ok)')")
    await page.click("#row-1")
    found = (await stage.ask("api/results?status=ok&offset=1&limit=1"))["results"][0]
    whole = await stage.ask(f"api/results/{found['result_id']}")
    record = whole["record"]
    await page.wait_for_selector("#stamp canvas")
    assert await text(page, "object-title") == record["object_id"]
    assert await page.get_attribute("#row-1", "aria-selected") == "true"
    half = (record["z_err68_high"] - record["z_err68_low"]) / 2
    assert await text(page, "object-verdict") == (
        f"z = {record['z_median']:.4f} ± {half:.4f} (68 %)"
    )
    everything = dict(
        await page.locator("#object-all").evaluate(
            "list => [...list.querySelectorAll('dt')].map(each =>"
            " [each.textContent, each.nextElementSibling.textContent])"
        )
    )
    assert everything.keys() == record.keys()
    assert everything["alert_id"] == record["alert_id"]
    assert everything["weights_sha256"] == record["weights_sha256"]

    pixels = await page.locator("#stamp canvas").evaluate_all(
        "all => all.map(each => [...each.getContext('2d')"
        ".getImageData(0, 0, each.width, each.height).data])"
    )
    bands = [base64.b64decode(each) for each in whole["stamp"]["pixels"]]
    assert [bytes(each[::4]) for each in pixels[1:]] == bands
    assert [bytes(pixels[0][n::4]) for n in range(3)] == [bands[3], bands[2], bands[1]]
    assert len(await page.get_attribute("#pz-chart .line", "d")) > 100
    assert f"Median {record['z_median']:.4f}" in await text(page, "pz-chart-desc")


async def test_what_was_not_estimated_says_why(page, stage):
    await page.select_option("#filter-status", "")
    await page.fill("#filter-search", "3000000000015")
    await until(page, "document.querySelectorAll('#window tr').length === 6")
    await page.click("#row-0")
    said = "document.querySelector('#object-verdict').textContent"
    await until(page, f"{said}.startsWith('No redshift: ')")
    verdict = await text(page, "object-verdict")
    found = (await stage.ask("api/results?search=3000000000015&limit=1"))["results"][0]
    assert found["status"].replace("_", " ") in verdict.lower()
    assert await page.is_hidden("#pz")
