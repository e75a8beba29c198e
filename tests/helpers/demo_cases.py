"""A clip to show without a model, and a headless Chromium to show a page in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from video_ats.demo.show import Shown

_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


def alone(kept: np.ndarray) -> np.ndarray:
    """Tokens that stand for their own patch: ``stands`` of ``kept`` (bool [..., T, h, w]) without merging."""
    own = np.arange(kept.size).reshape(kept.shape)
    return np.where(kept, own, -1)


def make_shown(
    *, frames: int = 3, title: str = "t", seed: int = 0, blocks: tuple[int, ...] = (1, 2), merges: bool = False
) -> Shown:
    """Frames of 4 x 5 patches of 6 x 6 pixels in a model of three blocks; each sampled block keeps half.

    If it ``merges``, the token before a dropped patch in raster order of the clip stands for it, and there are no
    scores.
    """
    random = np.random.default_rng(seed)
    kept, scores, here = [], {}, np.ones((frames, 4, 5), dtype=bool)
    for block in range(3):
        if block in blocks:
            scores[block] = np.where(here, random.random(here.shape), np.nan)
            here = here & (random.random(here.shape) < 0.5)
        kept.append(here)
    tokens = alone(np.stack(kept))
    if merges:
        tokens[:, 0, 0, 0] = np.maximum(tokens[:, 0, 0, 0], 0)
        tokens = np.maximum.accumulate(tokens.reshape(3, -1), axis=1).reshape(tokens.shape)
    return Shown(
        title=title,
        note=f"{title} says something.",
        pictures=random.integers(0, 255, (frames, 24, 30, 3), dtype=np.uint8),
        times=tuple(f"frame {t}" for t in range(frames)),
        merges=merges,
        blocks=blocks,
        kept=np.stack(kept),
        stands=tokens,
        scores={} if merges else scores,
    )


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A Selenium driver that keeps the browser's console and network log; skips where there is no browser."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium, in the [test] extra")
    options = selenium.ChromeOptions()
    options.binary_location = browser
    for flag in (*_QUIET, f"--user-data-dir={profile}", "--window-size=1200,1600"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driven = selenium.Chrome(options=options, service=selenium.ChromeService(executable_path=driver))
    try:
        yield driven
    finally:
        driven.quit()


def requests_of(driven: Any) -> list[str]:
    """Addresses that were asked for so far, except inside the page (``data:``) and the browser (``chrome...:``)."""
    events = [json.loads(entry["message"])["message"] for entry in driven.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [address for address in asked if not address.startswith(("data:", "chrome"))]


def check_fits(driven: Any, width: int, scheme: str) -> None:
    """Assert that a page of this width does not scroll sideways, and that its text stands out from its ground.

    ``scheme`` is ``light`` or ``dark``. The window has its former size afterwards.
    """
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driven.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driven.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    widths = driven.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1] == width
    colours = driven.execute_script(
        "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor].map("
        "(text) => text.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))"
    )
    assert (colours[0] > colours[1]) == (scheme == "dark")
    assert abs(colours[0] - colours[1]) > 450
    driven.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
