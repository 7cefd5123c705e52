"""What stands on the page, as a person reads it."""

import asyncio
import re
from contextlib import asynccontextmanager

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "%": 0.01, "/s": 1, "": 1}
AMOUNT = re.compile(r"(-?[\d,]+(?:\.\d+)?)\s*(s|min|h|d|%|/s|)(?=\s|$)")


def figure(text):
    """A number, a time in seconds, a share; None where the page says that it does not know."""
    if text == "–":
        return None
    found = AMOUNT.findall(text)
    assert found, f"no figure in {text!r}"
    return sum(float(number.replace(",", "")) * UNITS[unit] for number, unit in found)


async def table(page, name):
    """Rows of a table, each cell as text."""
    rows = await page.locator(f"#{name} tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    return rows


async def text(page, name):
    """What an element says."""
    return " ".join((await page.text_content(f"#{name}")).split())


async def shown(page):
    """The snapshot that the page shows at this moment."""
    async with page.expect_response("**/api/status") as answer:
        pass
    snapshot = await (await answer.value).json()
    await page.evaluate("() => new Promise(done => setTimeout(done, 50))")
    return snapshot


async def until(page, holds):
    """Returns when an expression of JavaScript is true (the page's policy allows no polling)."""
    async with asyncio.timeout(10):
        while not await page.evaluate(holds):
            await asyncio.sleep(0.02)


@asynccontextmanager
async def opened(browser, address, **options):
    """The page, with what its console complained of."""
    page = await browser.new_page(**{"viewport": {"width": 1400, "height": 900}, **options})
    page.set_default_timeout(10000)
    page.complaints = []
    page.on("console", lambda each: each.type == "error" and page.complaints.append(each.text))
    page.on("pageerror", lambda each: page.complaints.append(str(each)))
    await page.goto(address)
    await page.wait_for_selector("body:not([data-kind=waiting])")
    try:
        yield page
    finally:
        await page.close()
