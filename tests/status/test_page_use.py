"""The status page in the hands of a person: all can read it, by day, at night, by keyboard."""

from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from browsing import opened, shown, text, until

AUDIT = (Path(__file__).parent / "audit.js").read_text()

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_incidents_come_to_the_top_and_are_read_out_once(page):
    log = structlog.get_logger()
    log.warning("sink unavailable, its events wait", incident="sink_down", subject="<b>far</b>")
    card = page.locator("#open-incidents li", has_text="A sink takes no rows: <b>far</b>")
    await card.wait_for()
    assert "see whether the destination is up" in await card.inner_text()
    assert "docs/playbook.md#sink-down" in await card.inner_text()
    assert await text(page, "alarm") == "A sink takes no rows <b>far</b>."
    assert "incident" in await text(page, "announce")
    assert await page.get_attribute("body", "data-kind") == "attention"
    log.info("sink takes rows again", ended="sink_down", subject="<b>far</b>")
    await card.wait_for(state="detached")
    assert await page.locator("#over-list li", has_text="far").count() == 1


async def test_old_figures_do_not_look_fresh(page):
    await page.context.set_offline(True)
    await page.wait_for_selector("body[data-stale]")
    assert "has not answered since" in await text(page, "away")
    assert "no answer" in await page.title()
    assert (
        float(await page.evaluate("getComputedStyle(document.querySelector('main')).opacity")) < 1
    )
    await page.context.set_offline(False)
    await page.wait_for_selector("body:not([data-stale])")
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
    assert said.startswith("Ended. 60 redshifts written. Books balance.")
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
