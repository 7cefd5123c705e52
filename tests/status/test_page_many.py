"""A night of many results in the browser, and a page that only shows."""

import pytest
import pytest_asyncio
from answering import Answering
from browsing import opened, text, until
from staged import Stage

from dispatcher import service
from dispatcher.books import Outcome
from dispatcher.conclusions import Conclusion
from sinks.record import ResultRecord, Status

MANY = 50_000
HOSTILE = '<img src=x onerror="document.title=1">'

pytestmark = pytest.mark.asyncio(loop_scope="session")


NO_ESTIMATE = ResultRecord(
    result_id="",
    survey="S",
    alert_id="",
    ra=1.0,
    dec=2.0,
    status=Status.NO_STAMP,
    model_name="m",
    model_version="1",
    weights_sha256="0" * 64,
    run_id="r",
    src_topic="t",
    src_partition="p",
    src_offset=0,
    t_broker_in=1.0,
    t_published=1e9,
)


def result(n):
    z = n / MANY
    estimate = {"status": "ok", "z_median": z, "z_err68_low": 0.9 * z, "z_err68_high": 1.1 * z}
    return NO_ESTIMATE.model_copy(
        update={
            "result_id": f"{n:032x}",
            "alert_id": str(2**62 + n),
            "object_id": HOSTILE if n == MANY - 1 else f"object-{n}",
            "src_offset": n,
            **(estimate if n % 10 else {}),
        }
    )


def fill(recent, numbers):
    for n in numbers:
        recent.note(Conclusion(None, Outcome.WRITTEN, result(n)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def long_night(tmp_path_factory, board):
    """A page without a token, over 50,000 results."""
    answering = Answering(service.identify_model("galaxies").weights_sha256)
    folder = tmp_path_factory.mktemp("long")
    async with Stage.of(folder, lambda _: {"p": []}, recent=MANY, answering=answering) as made:
        fill(made.run.recent, range(MANY))
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser, long_night):
    """Its page."""
    async with opened(browser, long_night.address) as made:
        await made.wait_for_selector("#row-0")
        yield made
        assert made.complaints == []


THROUGH_ALL = """async () => {
  const list = document.querySelector("#list");
  const next = () => new Promise(requestAnimationFrame);
  const gaps = [];
  let most = 0;
  let before = await next();
  for (let n = 0; n <= 120; n += 1) {
    list.scrollTop = (list.scrollHeight * n) / 120;
    const now = await next();
    gaps.push(now - before);
    before = now;
    most = Math.max(most, document.querySelectorAll("#list tr").length);
  }
  gaps.sort((a, b) => a - b);
  return { rows: most, median: gaps[60], p95: gaps[114], most: gaps.at(-1) };
}"""


async def test_scrolling_through_50_000_results_stays_smooth(page, record_property):
    assert await text(page, "objects-count") == "50,000 results kept"
    assert await page.get_attribute("#list-table", "aria-rowcount") == str(MANY + 1)
    found = await page.evaluate(THROUGH_ALL)
    for name, figure in found.items():
        record_property(name, figure)
    print(found)
    assert found["rows"] < 200
    assert found["median"] < 50
    await page.wait_for_selector(f"#row-{MANY - 1} th:has-text('object-0')")
    last = page.locator(f"#row-{MANY - 1}")
    assert await last.get_attribute("aria-rowindex") == str(MANY + 1)
    assert (await last.locator("td").first.text_content()) == "no stamp"


async def test_rows_stand_still_under_the_reader(page, long_night):
    await page.click("#row-3")
    chosen = await page.text_content("#row-3 th")
    fill(long_night.run.recent, range(MANY, MANY + 250))
    await page.evaluate("document.querySelector('#list').scrollTop = 28 * 20000")
    await page.wait_for_selector("#row-20000 th:has-text('object-')")
    assert await page.text_content("#row-20000 th") == f"object-{MANY - 1 - 20000}"
    await page.evaluate("document.querySelector('#list').scrollTop = 0")
    await page.wait_for_selector(f"#row-3 th:has-text('{chosen}')")
    await page.click("#follow")
    await page.wait_for_selector(f"#row-0 th:has-text('object-{MANY + 249}')")


async def test_text_from_outside_is_only_text(page, long_night):
    await page.fill("#filter-search", f"{2**62 + MANY - 1}")
    await until(page, "document.querySelectorAll('#window tr').length === 1")
    await page.click("#row-0")
    await until(page, "!document.querySelector('#object-body').hidden")
    assert await text(page, "object-title") == HOSTILE
    assert await page.locator("img").count() == 0


async def test_a_page_without_a_token_only_shows(page, long_night):
    assert await page.locator("[data-action]:enabled").count() == 0
    assert "status.token" in await text(page, "no-actions")
    assert await page.is_visible("#no-actions")
    answer = await page.request.post(f"{long_night.address}api/pause", data={})
    assert answer.status == 403
    assert "status.token" in (await answer.json())["error"]
    assert not long_night.run.lane.credit.paused
