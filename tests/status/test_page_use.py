"""The status page in the hands of a person: everybody can read and use it, and its actions act."""

from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import structlog
from browsing import opened, shown, table, text, until
from staged import TOKEN, Stage, night_of

AUDIT = (Path(__file__).parent / "audit.js").read_text()

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory, board):
    """A small night: here it is about what a person does."""
    async with Stage.of(tmp_path_factory.mktemp("stage"), night_of(12), token=TOKEN) as made:
        await made.settled()
        yield made


async def test_incidents_come_to_the_top_and_are_read_out_once(page):
    log = structlog.get_logger()
    log.warning("sink unavailable, its events wait", incident="sink_down", subject="<b>far</b>")
    card = page.locator("#open-incidents li", has_text="A sink takes no rows: <b>far</b>")
    await card.wait_for(timeout=3000)
    assert "see whether the destination is up" in await card.inner_text()
    assert "docs/playbook.md#sink-down" in await card.inner_text()
    assert await text(page, "alarm") == "A sink takes no rows <b>far</b>."
    assert "incident" in await text(page, "announce")
    assert await page.get_attribute("body", "data-kind") == "attention"
    log.info("sink takes rows again", ended="sink_down", subject="<b>far</b>")
    await card.wait_for(state="detached", timeout=3000)
    assert await page.locator("#over-list li", has_text="far").count() == 1


async def test_old_figures_do_not_look_fresh(page):
    await page.context.set_offline(True)
    await page.wait_for_selector("body[data-stale]", timeout=3000)
    assert "has not answered since" in await text(page, "away")
    assert "no answer" in await page.title()
    assert (
        float(await page.evaluate("getComputedStyle(document.querySelector('main')).opacity")) < 1
    )
    await page.context.set_offline(False)
    await page.wait_for_selector("body:not([data-stale])", timeout=3000)
    assert await page.is_hidden("#away")
    page.complaints.clear()  # the browser says itself that it could not ask


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def glance(browser, stage):
    """A page for tests that do nothing to it."""
    async with opened(browser, stage.address) as made:
        yield made


HEADLINE = """changes => Promise.all([import("/assets/headline.js"), fetch("/api/status")])
  .then(async ([{ headline }, answer]) => {
    const { kind, text } = headline({ ...(await answer.json()), incidents: [], ...changes });
    return [kind, text];
  })"""
STILL = {"rates": {"estimates_per_s": 0}}
BUSY = [{"at_workers": 32}]


@pytest.mark.parametrize(
    ("changes", "kind", "begins"),
    [
        ({}, "ok", "Running. Books balance. "),
        (
            {"held": {"by": "money", "why": "the night has spent its $4.00"}, **STILL},
            "attention",
            "Standing still: money. the night has spent its $4.00. Books balance.",
        ),
        ({"held": {"by": "workers"}, "lanes": BUSY, **STILL}, "ok", "Running. Books balance. "),
        (
            {"held": {"by": "workers"}, "lanes": [], **STILL},
            "attention",
            "Standing still: workers.",
        ),
        ({"books": {"balanced": False}}, "bad", "Running. The books do not balance."),
        (
            {"health": {"live": False}},
            "bad",
            "Running. Books balance. The consume loop does not answer.",
        ),
    ],
)
async def test_the_headline_says_how_it_stands(glance, changes, kind, begins):
    found, sentence = await glance.evaluate(HEADLINE, changes)
    assert (found, sentence[: len(begins)]) == (kind, begins)


async def test_the_end_of_a_run_is_not_an_incident(page, stage):
    stage.snapshots.ended = True
    await shown(page)
    said = await text(page, "sentence")
    assert said.startswith("Ended. 12 redshifts written. Books balance.")
    stage.snapshots.ended = False


async def test_a_new_snapshot_leaves_focus_and_nodes_alone(page):
    await page.focus("#filter-search")
    await page.evaluate("kept = document.querySelector('#partitions-table tbody tr')")
    await shown(page)
    await shown(page)
    assert await page.evaluate("document.activeElement.id") == "filter-search"
    assert await page.evaluate("kept === document.querySelector('#partitions-table tbody tr')")


async def test_everything_is_in_reach_of_the_keyboard(page):
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the panels"
    await page.keyboard.press("Enter")
    stops = []
    while "list-table" not in stops and len(stops) < 60:
        await page.keyboard.press("Tab")
        stops.append(await page.evaluate("document.activeElement.id"))
    assert {"pause", "freeze", "replay", "redrive", "filter-status", "filter-search"} <= set(stops)
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown"):
        await page.keyboard.press(key)
    await page.wait_for_selector("#list-table[aria-activedescendant=row-1]")
    await page.keyboard.press("End")
    last = page.locator("#window tr").last
    await until(page, "document.querySelector('#window tr:last-of-type').ariaSelected === 'true'")
    name = await last.locator("th").text_content()
    await until(page, f"document.querySelector('#object-title').textContent === '{name}'")
    await page.keyboard.press("Home")
    await page.wait_for_selector("#list-table[aria-activedescendant=row-0]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_read_it(browser, stage, scheme):
    async with opened(browser, stage.address, color_scheme=scheme) as page:
        await page.click("#row-0")
        await until(page, "!document.querySelector('#object-body').hidden")
        assert await page.evaluate(AUDIT) == []


@pytest.mark.parametrize("wide", [400, 700, 1920])
async def test_it_fits_every_screen(browser, stage, wide):
    async with opened(browser, stage.address, viewport={"width": wide, "height": 800}) as page:
        assert await page.evaluate("document.documentElement.scrollWidth") <= wide


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
    await page.wait_for_selector("#resume", timeout=3000)
    assert (await text(page, "sentence")).startswith("Paused by a person.")
    await page.click("#resume")
    assert await page.is_hidden("#dialog-token")  # typed once
    assert "asked again" in await confirm(page)
    assert not stage.run.lane.credit.paused
    await page.wait_for_selector("#pause", timeout=3000)


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
    await page.wait_for_selector("#frozen", timeout=4000)
    assert await text(page, "frozen") == "▲ Spending is frozen: total. No call leaves."
    await page.click("#thaw")
    assert "may be spent again" in await confirm(page)
    assert not (await store.controls()).frozen
    await page.wait_for_selector("#thaw", state="hidden", timeout=4000)


async def test_redrive_of_one_reason(page):
    (reason, *_) = (await table(page, "letters-table"))[0]
    await page.click(f'[aria-label="Redrive: {reason}"]')
    assert reason in await text(page, "dialog-text")
    assert "sent again" in await confirm(page, TOKEN)
    errand = page.locator("#errands li").first
    await errand.locator(".badge.ok").wait_for(timeout=5000)
    assert "dead letters sent again" in await errand.inner_text()


async def test_what_cannot_be_done_is_said(page):
    await page.click("#replay")
    await page.fill("#field-on", "2026-11-20")
    await page.fill("#field-purse", "0.50")
    said = await confirm(page, TOKEN)
    assert said == "this run has no source that could be read again"
    page.complaints.clear()  # the browser tells of every 409
