"""A real Chromium without a window, for the pages that the tools write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def opened(page: Path) -> Iterator[Any]:
    """A driver that has loaded a file; skips where there is no browser."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the [test] extra")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1250,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


def console_of(driver: Any) -> list[str]:
    """What the page wrote to the console, errors of loading and of its policy among it."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requests_of(driver: Any) -> list[str]:
    """Addresses that were asked for, data URIs left out."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]
