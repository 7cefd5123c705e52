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
from typing import Final

from playwright.sync_api import Browser, sync_playwright

EVENTS: Final = 1500
SCHEMES: Final = ("light", "dark")
SIZE: Final = {"width": 1360, "height": 1180}
_START_S: Final = 60.0


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
                for scheme in SCHEMES:
                    _take(browser, f"http://127.0.0.1:{port}/", scheme, folder)
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


def _take(browser: Browser, address: str, scheme: str, folder: Path) -> None:
    """The first sight of the page, and its browser of objects."""
    page = browser.new_page(viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    page.wait_for_selector("#window .badge.ok")
    page.wait_for_timeout(1500)  # a few more figures
    page.screenshot(path=folder / f"status-{scheme}.png")
    page.locator("#window tr", has=page.locator(".badge.ok")).nth(2).click()
    page.wait_for_selector("#stamp canvas")
    page.evaluate("document.querySelector('header').style.position = 'static'")
    page.locator("#objects").screenshot(path=folder / f"status-objects-{scheme}.png")
    page.close()


if __name__ == "__main__":
    main()
