"""A reader's two stories, by pages and mail alone: at both widths, light, dark, right to left, and without JavaScript.

One writes a letter, changes it and takes it back. The other one confirms an address, is told by mail, and opens the
answer by the link in it. Each page on the way is held against axe; the mail goes through a real server.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from itertools import count
from typing import Literal, cast

import pytest
from ground import chromium
from ground.installation import Installation, wait_for
from ground.letterbox import Letterbox, listening
from ground.looking import shut_out
from ground.visiting import WIDTHS, Visit, visit
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.slow

ESSAY = "/essays/how-to-fold-a-letter"
LETTER = re.compile(r"/letters/")
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class How:
    """How a reader reads."""

    width: int
    scheme: Literal["light", "dark"]
    language: str
    javascript: bool = True

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme}-{self.language}{'' if self.javascript else '-no-script'}"


WAYS = [
    How(390, "light", "en"),
    How(1280, "dark", "de"),
    How(390, "dark", "ar"),
    How(1280, "light", "ar"),
    How(390, "light", "en", javascript=False),
    How(1280, "dark", "ar", javascript=False),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def letterbox() -> Iterator[Letterbox]:
    with listening(Letterbox()) as box:
        yield box


@pytest.fixture(scope="module")
def mailing(tmp_path_factory: pytest.TempPathFactory, letterbox: Letterbox) -> Iterator[Installation]:
    """Start an installation that sends its mail to the letterbox."""
    settings = {"REHEARSAL_LATENCY": "0.05", "RATE_LIMITS": "off", "SMTP_URL": letterbox.url, "GATHERING_SECONDS": "0"}
    started = Installation(tmp_path_factory.mktemp("mailing"), settings)
    started.start()
    try:
        started.admit_moderator()
        yield started
        started.stop()
    finally:
        started.destroy()


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader's browser, and how it reads."""

    visit: Visit
    how: How

    @property
    def page(self) -> Page:
        """The page that the reader looks at."""
        return self.visit.page

    def hold(self) -> None:
        """Hold the page against the width of its window, and against axe.

        Axe is a script: where none runs it looks at the same address in a browser of its own, without our modules.
        """
        page = self.page
        page.wait_for_load_state()
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, page.url
        if self.how.javascript:
            assert shut_out(page) == [], page.url
            return
        browser = self.visit.context.browser
        assert browser is not None
        twin = browser.new_context(viewport=WIDTHS[self.how.width], color_scheme=self.how.scheme)
        twin.set_extra_http_headers({"Accept-Language": self.how.language})
        twin.route("**/*.js*", lambda route: route.abort())
        other = twin.new_page()
        other.goto(page.url)
        assert shut_out(other) == [], page.url
        twin.close()

    def write(self, words: str, **more: str) -> None:
        """Fill in the form and send it; without its module it is read over first."""
        page = self.page
        page.locator("#body").fill(words)
        for name, value in {"author": "Ada", **more}.items():
            page.locator(f"#{name}").fill(value)
        if self.how.javascript:
            page.locator("[data-send]").click()
        else:
            page.locator("[data-preview]").click()
            page.locator("main form .primary").first.click()
        expect(page).to_have_url(LETTER)


@pytest.fixture(params=WAYS, ids=str)
def reader(request: pytest.FixtureRequest, browser: Browser, mailing: Installation) -> Iterator[Reader]:
    """Open a browser that reads in one of the ways; what went wrong in it fails the story."""
    how: How = request.param
    visitor = visit(browser, mailing.address, javascript=how.javascript)
    visitor.page.set_viewport_size(WIDTHS[how.width])
    visitor.page.emulate_media(color_scheme=how.scheme)
    visitor.context.set_extra_http_headers({"Accept-Language": how.language})
    yield Reader(visitor, how)
    visitor.leave()


def test_writes_a_letter_changes_it_and_takes_it_back(reader: Reader, mailing: Installation) -> None:
    mark = mailing.mark()
    page = reader.visit.go(ESSAY)
    reader.hold()
    reader.write(f"A letter to be changed. {mark}")
    expect(page.locator(".waiting .words")).to_contain_text("A letter to be changed.")
    reader.hold()
    page.locator("a[href*='/change']").click()
    reader.hold()
    page.locator("#body").fill(f"Changed, and better. {mark}")
    page.locator("main form .primary").first.click()
    expect(page.locator(".waiting .words")).to_contain_text("Changed, and better.")
    assert [each["body"] for each in mailing.waiting(mark, "comment")] == [f"Changed, and better. {mark}"]
    page.locator("summary.reject").click()
    page.locator("form[action*='/withdrawal'] button").click()
    expect(page.locator(".waiting .words")).to_have_count(0)
    reader.hold()
    assert mailing.waiting(mark, "comment") == []


def test_is_told_by_mail_and_opens_the_answer_by_the_link_in_it(
    reader: Reader, mailing: Installation, letterbox: Letterbox
) -> None:
    mark, address = mailing.mark(), f"ada{next(_numbers)}@letters.example"
    page = reader.visit.go(ESSAY)
    reader.write(f"{mark}: do you keep copies?", email=address)
    page.goto(link(mail_to(letterbox, address, 1), "/mail/confirm/"))
    reader.hold()
    page.locator("form[action*='/mail/confirm/'] button").click()
    reader.hold()
    for kind in ("comment", "reply"):
        [waits] = wait_for(lambda kind=kind: mailing.waiting(mark, kind), f"a {kind} on the desk")  # type: ignore[misc]
        assert mailing.approve(waits).status == 201
    mail_to(letterbox, address, 2)
    told = mail_to(letterbox, address, 3)
    for part in ("plain", "html"):
        assert "REHEARSAL" in text_of(told, part)
    page.goto(link(told, "/replies/"))
    expect(page.locator(".answer .label").first).to_have_text("REHEARSAL")
    expect(page.locator(".answer .words")).to_contain_text(mark)
    reader.hold()
    assert told["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def mail_to(box: Letterbox, address: str, number: int) -> EmailMessage:
    """Wait for the mail of this number to an address, and return it as its program reads it."""
    mails = wait_for(
        lambda: found if len(found := [each for each in box.mails() if each["To"] == address]) >= number else None,
        f"mail {number} to a reader",
    )
    assert mails is not None
    return cast(EmailMessage, mails[number - 1])


def text_of(mail: EmailMessage, part: str) -> str:
    """Return the plain text or the HTML of a mail."""
    body = mail.get_body((part,))
    assert body is not None
    return str(body.get_content())


def link(mail: EmailMessage, path: str) -> str:
    """Return the link in a mail's text that leads to *path*."""
    found = re.search(rf"https?://\S*{re.escape(path)}\S+", text_of(mail, "plain"))
    assert found is not None, path
    return found[0]
