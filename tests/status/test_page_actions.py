"""Actions from the status page: with the token they act, without it nothing happens."""

import asyncio
import sqlite3
from contextlib import closing

import aiohttp
import pytest
import pytest_asyncio
from browsing import figure, opened, table, text, until
from staged import TOKEN, Stage, night_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def confirm(page, token=None):
    """Say yes to what the page asks; gives what came of it."""
    if token:
        await page.fill("#token", token)
    await page.click("#dialog-yes")
    await until(page, "document.querySelector('#outcome-text').textContent")
    said = await text(page, "outcome-text")
    await page.click("#outcome-close")
    return said


async def test_pause_and_resume(page, stage):
    await page.click("#pause")
    assert await page.evaluate("document.activeElement.closest('dialog') !== null")
    await page.keyboard.press("Escape")
    assert await page.evaluate("document.activeElement.id") == "pause"
    assert not stage.run.lane.credit.paused
    await page.click("#pause")
    assert "The source is paused" in await confirm(page, TOKEN)
    assert stage.run.lane.credit.paused
    await page.wait_for_selector("#resume")
    assert (await text(page, "sentence")).startswith("Paused by a person.")
    await page.click("#resume")
    assert await page.is_hidden("#dialog-token")  # typed once
    assert "asked again" in await confirm(page)
    assert not stage.run.lane.credit.paused
    await page.wait_for_selector("#pause")


async def test_a_wrong_token_does_nothing_and_is_forgotten(page, stage):
    await page.click("#pause")
    assert await confirm(page, "guess") == "the token is missing or wrong"
    assert not stage.run.lane.credit.paused
    await page.click("#pause")
    assert await page.is_visible("#token")
    await page.click("#dialog-no")
    page.complaints.clear()  # the browser tells of every 401


async def test_no_action_without_a_token(stage):
    async with aiohttp.ClientSession() as session:
        for each in ("pause", "resume", "freeze", "thaw", "redrive", "replay", "review/x"):
            async with session.post(f"{stage.address}api/{each}", json={}) as answer:
                assert (answer.status, "error" in await answer.json()) == (401, True), each
    assert not stage.run.lane.credit.paused


async def test_freeze_and_thaw(page, stage):
    store = stage.run.pipeline.scheduler.ledger.store
    await page.click("#freeze")
    assert "total is frozen" in await confirm(page, TOKEN)
    assert "total" in (await store.controls()).frozen
    await page.wait_for_selector("#frozen")
    assert await text(page, "frozen") == "▲ Spending is frozen: total. No call leaves."
    await page.click("#thaw")
    assert "may be spent again" in await confirm(page)
    assert not (await store.controls()).frozen
    await page.wait_for_selector("#thaw", state="hidden")


async def test_redrive_of_one_reason(page):
    (reason, *_) = (await table(page, "letters-table"))[0]
    await page.click(f'[aria-label="Redrive: {reason}"]')
    assert reason in await text(page, "dialog-text")
    assert "sent again" in await confirm(page, TOKEN)
    errand = page.locator("#errands li").first
    await errand.locator(".badge.ok").wait_for()
    assert "dead letters sent again" in await errand.inner_text()


async def test_what_cannot_be_done_is_said(page):
    await page.click("#replay")
    await page.fill("#field-on", "2026-11-20")
    await page.fill("#field-purse", "0.50")
    said = await confirm(page, TOKEN)
    assert said == "this run has no source that could be read again"
    page.complaints.clear()  # the browser tells of every 409


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def held(tmp_path_factory, board):
    """A night of which every estimate waits for a person."""
    folder, review = tmp_path_factory.mktemp("held"), {"policy": "hold", "share": 1.0}
    async with Stage.of(folder, night_of(12), token=TOKEN, review=review) as made:
        await made.settled()
        yield made


def published(stage):
    """Review of the estimates that the sink has: object, state, by, note, redshift."""
    with closing(sqlite3.connect(stage.run.output / "results.sqlite")) as sink:
        return sink.execute(
            "SELECT object_id, review, review_by, review_note, z_median FROM results"
            " WHERE review IS NOT NULL ORDER BY t_reviewed"
        ).fetchall()


async def decide(page, decision, name, note, token=None):
    await page.click(f'[aria-label="{decision} {name}"]')
    await page.fill("#field-by", "Vera")
    await page.fill("#field-note", note)
    return await confirm(page, token)


async def test_a_person_decides_what_is_published(browser, held):
    async with opened(browser, held.address) as page:
        await page.wait_for_selector("#review-table tbody tr")
        rows = await table(page, "review-table")
        waiting = await held.ask("api/review?state=waiting")
        assert [row[0] for row in rows] == [each["row"]["object_id"] for each in waiting["items"]]
        assert f"{len(rows)} estimates waiting" in await text(page, "review-policy")
        assert published(held) == []
        first, second, third = (row[0] for row in rows[:3])

        await page.click(f'[aria-label="Show {first}"]')
        await page.wait_for_selector("#stamp canvas")
        assert await text(page, "object-title") == first

        assert "is approved" in await decide(page, "Approve", first, "looks right", TOKEN)
        assert "is rejected" in await decide(page, "Reject", second, "a star")
        assert "goes on waiting" in await decide(page, "Note", third, "ask Henrietta")
        left = len(rows) - 2
        await until(page, f"document.querySelectorAll('#review-table tbody tr').length === {left}")
        (noted,) = (row for row in await table(page, "review-table") if row[0] == third)
        assert noted[4] == "Vera: ask Henrietta"
        await page.select_option("#review-state", "rejected")
        await until(page, "document.querySelectorAll('#review-table tbody tr').length === 1")
        assert (await table(page, "review-table"))[0][0] == second

        async with asyncio.timeout(5):
            while len(published(held)) < 2:
                await asyncio.sleep(0.05)
        approved, rejected = published(held)
        assert approved[:4] == (first, "approved", "Vera", "looks right")
        assert approved[4] == pytest.approx(figure(rows[0][1].split(" ±")[0]), abs=5e-5)
        assert rejected == (second, "rejected", "Vera", "a star", None)
        assert page.complaints == []
