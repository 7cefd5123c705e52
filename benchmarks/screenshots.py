"""Pictures of the status page for the documents: a demo night, seen by day and by night.

python -m benchmarks.screenshots [FOLDER]
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

EVENTS: Final = 3000
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
SIZE: Final[ViewportSize] = {"width": 1360, "height": 1180}
_START_S: Final = 60.0
_WATCHED_S: Final = 3.0  # so that there is a rate to draw


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as output, _demo(output, port) as demo:
        try:
            _wait_for(f"http://127.0.0.1:{port}/live", demo)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
                )
                pages = [_open(browser, f"http://127.0.0.1:{port}/", each) for each in SCHEMES]
                time.sleep(_WATCHED_S)
                for page in pages:  # a demo night has one: what to do is worth a picture
                    page.wait_for_selector("#open-incidents li")
                for page, scheme in zip(pages, SCHEMES, strict=True):
                    _take(page, scheme, folder)
                browser.close()
        finally:
            demo.terminate()


def _demo(output: str, port: int) -> subprocess.Popen[bytes]:
    environment = {"LOOKBACK_STATUS__PORT": str(port), "LOOKBACK_STATUS__TOKEN": "secret"}
    command = ["lookback", "demo", "--events", str(EVENTS), "--to", output, "--stay"]
    return subprocess.Popen(
        ["env", *(f"{name}={value}" for name, value in environment.items()), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(address: str, demo: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and demo.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=1).close()  # noqa: S310 - on loopback
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    sys.exit("the demo did not start: run `lookback demo --stay` to see why")


def _open(browser: Browser, address: str, scheme: Literal["light", "dark"]) -> Page:
    page = browser.new_page(viewport=SIZE, color_scheme=scheme)
    page.goto(address)
    page.wait_for_selector("#window .badge.ok")
    return page


def _take(page: Page, scheme: str, folder: Path) -> None:
    """The first sight of the page, and its browser of objects."""
    page.screenshot(path=folder / f"status-{scheme}.png")
    page.locator("#window tr", has=page.locator(".badge.ok")).nth(2).click()
    page.wait_for_selector("#stamp canvas")
    page.evaluate("document.querySelector('header').style.position = 'static'")
    page.set_viewport_size({"width": SIZE["width"], "height": 1600})
    page.locator("#objects").screenshot(path=folder / f"status-objects-{scheme}.png")


if __name__ == "__main__":
    main()
