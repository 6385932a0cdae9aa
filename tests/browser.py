"""A headless Chromium to drive pages with, where this machine has one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 800), (390, 844)


@contextmanager
def opened_browser(window: tuple[int, int], downloads: Path) -> Iterator[Any]:
    """Start Chromium, as a phone with a touch screen if ``window`` is PHONE; skip the test if there is none.

    Args:
        window: Width and height of the page's window in CSS pixels.
        downloads: Folder for what pages save.

    Yields:
        Selenium's driver.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium, to drive a browser")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with its chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")  # no network
    options.add_argument("--window-size={},{}".format(*window))
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if window == PHONE:
        metrics = {"width": window[0], "height": window[1], "pixelRatio": 2.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


def complaints(browser: Any) -> list[str]:
    """What the page's scripts and files have complained of."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def until(browser: Any, script: str) -> None:
    """Wait until a JavaScript expression is true, for 20 seconds at most."""
    end = time.monotonic() + 20
    while not browser.execute_script(f"return {script}"):
        assert time.monotonic() < end, script
        time.sleep(0.05)
