"""What Lighthouse would say of readers' pages: of their speed on a slow phone and network, and of best practices.

Lighthouse is no Python package, so its five measures are taken here with Chromium's own instruments, throttled as its
mobile preset is, and weighted by its published curves (https://developer.chrome.com/docs/lighthouse/performance/
performance-scoring). The paint of the largest element stands for its speed index, which needs film.

The practices are those of its category "best-practices" (13.5, core/config/default-config.js) with their weights there.
Left out is what speaks of HTTPS, which the operator's proxy brings, of source maps, which there are none of, and what
it only informs of; kept of that is what an answer's own headers show. The width and the legible text of a phone were
audits of their own until its twelfth version.
"""

from __future__ import annotations

import math
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from ground import chromium
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

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

PRACTICES = {
    "paste-preventing-inputs": 3,
    "image-aspect-ratio": 1,
    "image-size-responsive": 1,
    "doctype": 1,
    "charset": 1,
    "geolocation-on-start": 1,
    "notification-on-start": 1,
    "deprecations": 5,
    "third-party-cookies": 5,
    "errors-in-console": 1,
    "inspector-issues": 1,
    "csp-xss": 0,
    "trusted-types-xss": 0,
    "clickjacking-mitigation": 0,
    "viewport": 0,
    "font-size": 0,
}
"""What each is worth of a page's figure for best practices."""
ISSUES = {"MixedContentIssue", "CookieIssue", "BlockedByResponseIssue", "HeavyAdIssue", "ContentSecurityPolicyIssue"}
"""What of Chromium's issues Lighthouse counts; deprecations it counts apart."""
LOOSE = re.compile(r"'unsafe-(inline|eval)'|(^| )(\*|https?:|data:|blob:)($| )")
"""Sources of scripts that make a policy worth nothing."""
ASKED = """
  window.askedFor = [];
  const noting = (what) => () => { askedFor.push(`${what}-on-start`); };
  Geolocation.prototype.getCurrentPosition = Geolocation.prototype.watchPosition = noting("geolocation");
  Notification.requestPermission = noting("notification");
"""
LOOK = """() => {
  const { doctype, compatMode } = document;
  const html = doctype?.name === "html" && doctype.publicId === "" && doctype.systemId === "";
  const found = askedFor.map((each) => [each, "asked"]);
  const name = (each) => each.outerHTML.slice(0, 120);
  if (!html || compatMode !== "CSS1Compat") found.push(["doctype", compatMode]);
  for (const each of document.querySelectorAll("input, select, textarea")) {
    const paste = new ClipboardEvent("paste", { cancelable: true });
    if (!each.readOnly && !each.dispatchEvent(paste)) found.push(["paste-preventing-inputs", name(each)]);
  }
  const sharp = Math.min(devicePixelRatio, 2);
  for (const each of document.images) {
    const { width, height, naturalWidth: wide, naturalHeight: high } = each;
    if (!wide || !high || width <= 1 || height <= 1 || getComputedStyle(each).objectFit !== "fill") continue;
    const off = Math.min(Math.abs((width * high) / wide - height), Math.abs((height * wide) / high - width));
    if (off >= 2) found.push(["image-aspect-ratio", name(each)]);
    const least = sharp * (Math.max(width, height) > 64 ? 0.75 : 1);
    if (!/[.]svg$/.test(each.currentSrc) && (wide < Math.ceil(least * width) || high < Math.ceil(least * height))) {
      found.push(["image-size-responsive", name(each)]);
    }
  }
  const viewport = document.querySelector("meta[name=viewport]")?.content ?? "";
  if (!/width=device-width|initial-scale=/.test(viewport)) found.push(["viewport", viewport]);
  let all = 0, small = 0;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const length = text.data.trim().length;
    if (length === 0 || !text.parentElement.checkVisibility()) continue;
    all += length;
    if (parseFloat(getComputedStyle(text.parentElement).fontSize) < 12) small += length;
  }
  if (small > 0.4 * all) found.push(["font-size", `${small} of ${all} characters are under 12 px`]);
  return found;
}"""


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
        print(f"{'':8}{'FCP ms':>9}{'LCP ms':>9}{'TBT ms':>9}{'CLS':>8}{'KB':>8}{'score':>8}{'practices':>11}")
        for name, path in {**SURFACES, "page 2": SURFACES["page"] + "?page=2"}.items():
            if name == "json":
                continue
            address = f"http://127.0.0.1:{server.port}{path.format(slug_of(SIZE))}"
            runs = [measured(browser, address) for _ in range(RUNS)]
            took = {what: median(run[what] for run in runs) for what in runs[0]}
            took["SI"] = took["LCP"]
            reached = round(100 * sum(WEIGHTS[what] * score(what, took[what]) for what in WEIGHTS))
            page = browser.new_page(**PHONE)  # type: ignore[arg-type]
            bad = practices(page, address)
            page.close()
            kept = round(100 - 100 * sum(PRACTICES[what] for what in bad) / sum(PRACTICES.values()))
            low += min(reached, kept) < AIM or took["bytes"] > MOST_BYTES or took["CLS"] > 0
            print(
                f"{name:8}{took['FCP']:9.0f}{took['LCP']:9.0f}{took['TBT']:9.0f}{took['CLS']:8.3f}"
                f"{took['bytes'] / 1024:8.1f}{reached:8}{kept:11}"
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


def practices(page: Page, address: str, *sizes: ViewportSize) -> dict[str, list[str]]:
    """Open an address and return which of the best practices it fails, each with what was seen; look in *sizes* too."""
    bad: dict[str, list[str]] = {}

    def fails(practice: str, seen: object) -> None:
        bad.setdefault(practice, []).append(f"{seen}")

    def issue(event: dict[str, Any]) -> None:
        code, told = event["issue"]["code"], str(event["issue"]["details"])
        if code == "DeprecationIssue":
            fails("deprecations", told)
        elif code == "CookieIssue" and "ThirdParty" in told:
            fails("third-party-cookies", told)
        elif code in ISSUES:
            fails("inspector-issues", told)

    def entry(event: dict[str, Any]) -> None:
        if event["entry"]["level"] == "error":
            fails("errors-in-console", event["entry"]["text"])

    def said(event: dict[str, Any]) -> None:
        if event["type"] == "error":
            fails("errors-in-console", event["args"])

    instruments = page.context.new_cdp_session(page)
    instruments.on("Audits.issueAdded", issue)
    instruments.on("Log.entryAdded", entry)
    instruments.on("Runtime.consoleAPICalled", said)
    instruments.on("Runtime.exceptionThrown", lambda event: fails("errors-in-console", event["exceptionDetails"]))
    for domain in ("Audits", "Log", "Runtime", "Page"):
        instruments.send(f"{domain}.enable")
    instruments.send("Page.addScriptToEvaluateOnNewDocument", {"source": ASKED})
    answer = page.goto(address)
    assert answer is not None
    found = page.evaluate(LOOK)
    for size in sizes:
        page.set_viewport_size(size)
        found += page.evaluate(LOOK)
    for practice, seen in found:
        fails(practice, seen)
    if "charset=" not in answer.headers["content-type"] and b"<meta charset=" not in answer.body()[:1024]:
        fails("charset", answer.headers["content-type"])
    policy = answer.headers.get("content-security-policy", "")
    for practice in unguarded(policy):
        fails(practice, policy)
    # What was said while the page was opened comes before the answer to this.
    instruments.send("Runtime.evaluate", {"expression": "0"})
    instruments.detach()
    return bad


def unguarded(policy: str) -> Iterator[str]:
    """Yield the practices that a content security policy does not keep."""
    rules = {rule: sources for rule, _, sources in (each.strip().partition(" ") for each in policy.split(";"))}
    otherwise = rules.get("default-src", "*")
    loose = LOOSE.search(rules.get("script-src", otherwise)) is not None
    if loose or rules.get("object-src", otherwise) != "'none'" or "base-uri" not in rules:
        yield "csp-xss"
    if rules.get("require-trusted-types-for") != "'script'":
        yield "trusted-types-xss"
    if "frame-ancestors" not in rules:
        yield "clickjacking-mitigation"


if __name__ == "__main__":
    main()
