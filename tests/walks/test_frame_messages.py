"""What a frame and the page around it hear of each other, that neither hears anybody else, and where keys lead there.

The page around is on another host than the site (127.0.0.1 against localhost, which are two sites to a browser). Beside
the frame it shows one of a stranger, who has a window open as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ground import chromium
from ground.house import SLUG, furnish, site_over
from ground.visiting import NOTED, WIDTHS, served, wait_until
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Frame, Page, expect, sync_playwright

from bridge import db
from bridge.app import create_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = [
    pytest.mark.slow,
    # Werkzeug's server drops a file half sent when a browser goes away.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FORGED = [
    "{ emeritus: { v: 1, height: 999 } }",
    "{ emeritus: { v: 1, height: 99999, top: 0 } }",
    "{ emeritus: { v: 1, top: 500 } }",
    "{ emeritus: { v: 1, dark: 1 } }",
    "{ emeritus: { v: 1, url: 'https://evil.invalid/', src: 'https://evil.invalid/' } }",
]
MEANINGLESS = [
    "{ emeritus: { v: 1, height: '999px', top: '500', dark: '1' } }",
    "{ emeritus: { v: 1, height: NaN, top: NaN, dark: NaN } }",
    "{ emeritus: { v: 1, height: Infinity, top: -Infinity, dark: 2 } }",
    "{ emeritus: { v: 1, height: 10n ** 30n, top: 10n ** 30n, dark: 1n } }",
    "{ emeritus: { v: 1, height: [999], top: { at: 500 }, dark: true } }",
    "{ emeritus: { v: 1, html: '<img src=x onerror=alert(1)>', url: 'https://evil.invalid/', href: 'javascript:0' } }",
]
"""Of the right version, and with nothing in it that could be meant."""
GARBAGE = [
    "null",
    "undefined",
    "1",
    "'emeritus'",
    "'x'.repeat(5e6)",
    "[]",
    "new Map([['emeritus', { v: 1, height: 999 }]])",
    "new Error('emeritus')",
    "{}",
    "{ emeritus: null }",
    "{ emeritus: 'x'.repeat(1e6) }",
    "{ emeritus: [1] }",
    "{ emeritus: { v: '1', height: 999, dark: 1 } }",
    "{ emeritus: { v: 2, height: 999, dark: 1 } }",
    "{ emeritus: { height: 999, dark: 1 } }",
    # What a getter says is a value by the time that it is heard.
    "{ get emeritus() { return { get v() { return 0 }, get height() { return 999 } } } }",
    *MEANINGLESS,
]
LISTEN = "addEventListener('message', ({ data }) => { if (/^all [0-9]+$/.test(data)) window.heardAll = data })"
numbers = count(1)


@dataclass
class Web:
    """Where everybody is."""

    site: str
    around: str
    stranger: str


@pytest.fixture(scope="module")
def web(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Serve the site, a page that may show its frame, and a stranger, each at an origin of its own."""
    folder = tmp_path_factory.mktemp("messages")
    database = db.connect(f"sqlite:///{shutil.copy(sqlite_template, folder / 'emeritus.db')}")
    pages: dict[str, str] = {"/stranger": "<p>Nobody you know.</p>"}

    def somewhere(environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        body = pages.get(environ["PATH_INFO"], "")
        return [f'<!doctype html><html lang="en"><title>A page</title><body>{body}</body></html>'.encode()]

    with ExitStack() as stack:
        around, stranger = (stack.enter_context(served(somewhere, "127.0.0.1")) for _ in range(2))
        site = site_over(database, folder, embed_parents=around)
        furnish(site)
        ours = stack.enter_context(served(create_app(site)))
        pages["/"] = (
            # Not "async" as elsewhere: its frame is the first of the page.
            f'<script src="{ours}/embed.js" data-essay="{SLUG}"></script>'
            f'<iframe id="stranger" src="{stranger}/stranger"></iframe>'
            f'<iframe id="boxed" sandbox="allow-scripts" src="{stranger}/stranger"></iframe>'
            f'<iframe id="sibling" src="{ours}/essays/{SLUG}/embed"></iframe>'
            '<p style="height: 250000px">Long.</p>'
        )
        pages["/outer"] = '<iframe id="inner" src="/" width="900" height="800"></iframe>'
        yield Web(ours, around, stranger)
    database.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@dataclass
class Scene:
    """A page with the tag on it, and everybody who may say something to it or to the frame."""

    context: BrowserContext
    web: Web
    wrongs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(1000 * chromium.PATIENCE)
        self.context.add_init_script(LISTEN)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda error: self.wrongs.append(f"error: {error.error}"))
        self.context.on("dialog", lambda dialog: self.wrongs.append(f"dialog: {dialog.message}"))
        self.page = self.context.new_page()
        self.page.goto(f"{self.web.around}/")
        with self.page.expect_popup() as opened:
            self.page.evaluate("address => { window.theirs = open(address) }", f"{self.web.stranger}/stranger")
        self.window = opened.value
        # With its modules at work and as high as its page, it says nothing more by itself.
        expect(self.page.frame_locator("#emeritus iframe").locator("[data-count][data-first]")).to_be_visible()
        high = self.ours.evaluate("Math.ceil(document.documentElement.getBoundingClientRect().height)")
        wait_until(self.page, f"document.querySelector('#emeritus iframe').offsetHeight === {high}")

    def frame(self, which: str) -> Frame:
        """Return the frame that this selector finds."""
        handle = self.page.query_selector(which)
        assert handle is not None
        found = handle.content_frame()
        assert found is not None
        return found

    @property
    def ours(self) -> Frame:
        """The frame that the tag made: the first of the page."""
        return self.frame("#emeritus iframe")

    def around(self) -> dict[str, object]:
        """Return whatever of the page around a message could change."""
        told: dict[str, object] = self.page.evaluate(
            """() => ({ body: document.body.outerHTML, scrolled: scrollY, address: location.href })"""
        )
        return told

    def within(self) -> dict[str, object]:
        """Return whatever of the frame's page a message could change."""
        told: dict[str, object] = self.ours.evaluate(
            """() => ({ page: document.documentElement.outerHTML, name: window.name, address: location.href })"""
        )
        return told

    def _console(self, message: ConsoleMessage) -> None:
        if message.text != NOTED:
            self.wrongs.append(f"{message.type}: {message.text}")


@pytest.fixture
def scene(browser: Browser, web: Web) -> Iterator[Scene]:
    """Set one; whatever the console says in it fails the test."""
    one = Scene(browser.new_context(viewport=WIDTHS[1280]), web)
    yield one
    one.context.close()
    assert one.wrongs == []


def say(speaker: Page | Frame, to: str, hearer: Page | Frame, messages: Sequence[str]) -> None:
    """Have a window say all of this to another one, which it calls *to*, and wait until that has heard it."""
    end = f"all {next(numbers)}"
    for message in [*messages, f"'{end}'"]:
        speaker.evaluate(f"{to}.postMessage({message}, '*')")
    wait_until(hearer, f"window.heardAll === '{end}'")


def test_has_the_page_around_hear_its_frame_alone(scene: Scene) -> None:
    before = scene.around()
    for which in ("#stranger", "#boxed", "#sibling"):
        say(scene.frame(which), "parent", scene.page, FORGED + GARBAGE)
        assert scene.around() == before, which
    say(scene.window, "opener", scene.page, FORGED + GARBAGE)
    say(scene.page, "window", scene.page, FORGED + GARBAGE)
    assert scene.around() == before


def test_has_the_page_around_hear_nobody_who_took_the_frames_place(scene: Scene) -> None:
    before = scene.around()
    scene.ours.evaluate("address => { location.href = address }", f"{scene.web.stranger}/stranger")
    scene.ours.wait_for_url(f"{scene.web.stranger}/**")
    say(scene.ours, "parent", scene.page, FORGED + GARBAGE)
    assert scene.around() == before
    # What the page around tells its frame is for the site, and the browser gives it to nobody else.
    assert all(f"provided ('{scene.web.site}') does not match" in wrong for wrong in scene.wrongs)
    scene.wrongs.clear()


def test_has_the_frame_hear_the_page_around_alone(scene: Scene, web: Web) -> None:
    before, around = scene.within(), scene.around()
    for which in ("#stranger", "#boxed", "#sibling"):
        say(scene.frame(which), "parent.frames[0]", scene.ours, FORGED + GARBAGE)
        assert scene.within() == before, which
    say(scene.window, "opener.frames[0]", scene.ours, FORGED + GARBAGE)
    say(scene.ours, "window", scene.ours, FORGED + GARBAGE)
    assert (scene.within(), scene.around()) == (before, around)
    # Nor a page around the page around.
    scene.page.goto(f"{web.around}/outer")
    inner = scene.frame("#inner")
    inner.locator("#emeritus iframe").wait_for()
    within = inner.frame_locator("#emeritus iframe").locator("html")
    expect(within).to_have_attribute("data-theme", "light")
    [ours] = [each for each in inner.child_frames if each.name.startswith("emeritus-")]
    say(scene.page, "frames[0].frames[0]", ours, FORGED + GARBAGE)
    expect(within).to_have_attribute("data-theme", "light")


def test_has_both_make_nothing_of_what_means_nothing(scene: Scene) -> None:
    before, around = scene.within(), scene.around()
    say(scene.ours, "parent", scene.page, GARBAGE)
    say(scene.page, "frames[0]", scene.ours, GARBAGE)
    # The frame answers with its height, which is as before.
    say(scene.ours, "parent", scene.page, [])
    assert (scene.within(), scene.around()) == (before, around)
    # And both still listen.
    say(scene.page, "frames[0]", scene.ours, ["{ emeritus: { v: 1, dark: 1 } }"])
    assert scene.ours.evaluate("document.documentElement.dataset.theme") == "dark"
    say(scene.ours, "parent", scene.page, ["{ emeritus: { v: 1, height: 999 } }"])
    assert scene.page.evaluate("document.querySelector('#emeritus iframe').offsetHeight") == 999


def test_keeps_the_height_within_bounds(scene: Scene) -> None:
    for said, becomes in (("200001", 200_000), ("319", 320), ("1e308", 200_000), ("998.2", 999), ("-1e308", 320)):
        say(scene.ours, "parent", scene.page, [f"{{ emeritus: {{ v: 1, height: {said} }} }}"])
        assert scene.page.evaluate("document.querySelector('#emeritus iframe').offsetHeight") == becomes, said


def test_scrolls_the_page_around_no_further_than_the_frame(scene: Scene) -> None:
    height = scene.page.evaluate("document.querySelector('#emeritus iframe').offsetHeight")
    top = scene.page.evaluate("document.querySelector('#emeritus iframe').getBoundingClientRect().top + scrollY")
    for said, becomes in (("1e9", top + height - 16), ("500", top + 500 - 16), ("-1e9", max(top - 16, 0))):
        say(scene.ours, "parent", scene.page, [f"{{ emeritus: {{ v: 1, top: {said} }} }}"])
        assert scene.page.evaluate("scrollY") == pytest.approx(becomes, abs=1)


def test_hears_nobody_where_it_is_no_frame(scene: Scene, web: Web) -> None:
    with scene.page.expect_popup() as opened:
        scene.page.evaluate("address => { window.child = open(address) }", f"{web.site}/essays/{SLUG}/embed")
    alone = opened.value
    expect(alone.locator("#write")).to_be_visible()
    say(scene.page, "child", alone, FORGED + GARBAGE)
    assert alone.evaluate("document.documentElement.dataset.theme ?? null") is None


def test_leads_keys_into_the_frame_and_to_what_was_refused_there(scene: Scene) -> None:
    inside = scene.page.frame_locator("#emeritus iframe")
    for key in ("body", "author", "email"):
        for _ in range(20):
            scene.page.keyboard.press("Tab")
            if scene.ours.evaluate("document.hasFocus() && document.activeElement.id") == key:
                break
        expect(inside.locator(f"#{key}")).to_be_focused()
        scene.page.keyboard.type({"body": "By hand.", "author": "Reader", "email": "no@address"}[key])
    expect(inside.get_by_role("button", name="Send", exact=True)).to_be_visible()
    scene.page.keyboard.press("Enter")
    expect(inside.get_by_role("alert")).to_be_focused()
    assert [wrong for wrong in scene.wrongs if "422" not in wrong] == []
    scene.wrongs.clear()
