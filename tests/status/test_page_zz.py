import pytest
from browsing import opened
from test_page_use import AUDIT
pytestmark = pytest.mark.asyncio(loop_scope="session")
async def test_page_w(browser, stage):
    async with opened(browser, stage.address) as page:
        await page.evaluate("document.querySelector('#balance').style.color='#999'; document.querySelector('#filter-search').parentElement.firstChild.remove(); document.querySelector('#money h2').outerHTML='<h4>x</h4>'; document.querySelector('#rate-chart').removeAttribute('aria-labelledby')")
        print(await page.evaluate(AUDIT))
