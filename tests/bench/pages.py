"""What Lighthouse would say of the speed of readers' pages, measured as it does: a slow phone on a slow network.

Lighthouse is no Python package, so its five measures are taken here with Chromium's own instruments, throttled as its
mobile preset is, and weighted by its published curves (https://developer.chrome.com/docs/lighthouse/performance/
performance-scoring). The paint of the largest element stands for its speed index, which needs film.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from ground import chromium
from playwright.sync_api import Browser, sync_playwright

from bench.reading import SURFACES, furnished, slug_of, started, web

RUNS, SIZE, AIM, MOST_BYTES = 5, 200, 95, 60 * 1024
PHONE = {"viewport": {"width": 412, "height": 823}, "device_scale_factor": 1.75, "is_mobile": True, "has_touch": True}
NETWORK = {"offline": False, "latency": 150, "downloadThroughput": 1_638_400 / 8, "uploadThroughput": 750_000 / 8}
"""Lighthouse's "slow 4G", in milliseconds and bytes a second."""
SLOWER = 4
CURVES = {"FCP": (1800, 3000), "SI": (3387, 5800), "LCP": (2500, 4000), "TBT": (200, 600), "CLS": (0.1, 0.25)}
"""For each measure what is worth 0.9, and what is worth 0.5."""
WEIGHTS = {"FCP": 0.10, "SI": 0.10, "LCP": 0.25, "TBT": 0.30, "CLS": 0.25}
WATCH = """
  window.told = { FCP: 0, LCP: 0, TBT: 0, CLS: 0 };
  const watch = (type, act) =>
    new PerformanceObserver((list) => list.getEntries().forEach(act)).observe({ type, buffered: true });
  watch("paint", (each) => { if (each.name === "first-contentful-paint") told.FCP = each.startTime; });
  watch("largest-contentful-paint", (each) => { told.LCP = each.startTime; });
  watch("layout-shift", (each) => { if (!each.hadRecentInput) told.CLS += each.value; });
  watch("longtask", (each) => { told.TBT += Math.max(0, each.duration - 50); });
"""


def main() -> None:
    """Measure the page and the frame, print a table, and exit with 1 if one is under the aim."""
    low = 0
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="emeritus-bench-"))
        stack.callback(shutil.rmtree, folder)
        furnished(folder, sizes=(SIZE,))
        server = started(stack, web(folder), "/healthz")
        playwright = stack.enter_context(sync_playwright())
        browser = chromium.launch(playwright)
        stack.callback(browser.close)
        print(f"A slow phone on slow 4G, {SIZE} letters, medians of {RUNS}; to be at least {AIM}, in 60 KB, unmoved.\n")
        print(f"{'':8}{'FCP ms':>9}{'LCP ms':>9}{'TBT ms':>9}{'CLS':>8}{'KB':>8}{'score':>8}")
        for name in ("page", "embed"):
            address = f"http://127.0.0.1:{server.port}{SURFACES[name].format(slug_of(SIZE))}"
            runs = [measured(browser, address) for _ in range(RUNS)]
            took = {what: median(run[what] for run in runs) for what in runs[0]}
            took["SI"] = took["LCP"]
            reached = round(100 * sum(WEIGHTS[what] * score(what, took[what]) for what in WEIGHTS))
            low += reached < AIM or took["bytes"] > MOST_BYTES or took["CLS"] > 0
            print(
                f"{name:8}{took['FCP']:9.0f}{took['LCP']:9.0f}{took['TBT']:9.0f}{took['CLS']:8.3f}"
                f"{took['bytes'] / 1024:8.1f}{reached:8}"
            )
    if low:
        sys.exit(1)


def measured(browser: Browser, address: str) -> dict[str, float]:
    """Load a page once, with nothing kept from before, and return its measures and the bytes that came for it."""
    context = browser.new_context(**PHONE)  # type: ignore[arg-type]
    page = context.new_page()
    page.add_init_script(WATCH)
    instruments = context.new_cdp_session(page)
    came = {"bytes": 0.0}

    def count(event: dict[str, float]) -> None:
        came["bytes"] += event["encodedDataLength"]

    instruments.on("Network.loadingFinished", count)
    instruments.send("Network.enable")
    instruments.send("Network.emulateNetworkConditions", NETWORK)
    instruments.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.goto(address, wait_until="networkidle")
    page.wait_for_timeout(500)
    told: dict[str, float] = page.evaluate("window.told")
    context.close()
    return {**told, **came}


def score(what: str, value: float) -> float:
    """Return what a measure is worth, from 0 to 1: a log-normal curve through its two points."""
    good, middling = CURVES[what]
    if value <= 0:
        return 1.0
    # The argument at which the complementary error function is a fifth: there the curve is worth 0.9.
    spread = math.log(middling / good) / 0.9061938024368232
    return 0.5 * math.erfc(math.log(value / middling) / spread)


if __name__ == "__main__":
    main()
