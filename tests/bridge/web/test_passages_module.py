"""What the module shows in an essay of the letters about it, in a real browser: those of later pages too."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask
from ground import chromium
from ground.house import House
from ground.visiting import Visit, visit
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from bridge.text.passages import Passage

pytestmark = pytest.mark.slow

ADDRESS = "http://localhost"
ESSAY = "/essays/two-blocks"
SHOWN = "[...(CSS.highlights.get('passage') ?? [])].map(String)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture
def visitor(browser: Browser, app: Flask) -> Iterator[Visit]:
    """A reader whose browser is answered by the application itself."""
    began = visit(browser, ADDRESS)
    began.context.route(f"{ADDRESS}/**", lambda route: answer(app, route))
    yield began
    began.leave()


def answer(app: Flask, route: Route) -> None:
    """Answer a browser's request as a server would."""
    request = route.request
    told = app.test_client(use_cookies=False).get(request.url.removeprefix(ADDRESS))
    kept = {name: value for name, value in told.headers if name != "Content-Encoding"}
    route.fulfill(status=told.status_code, headers=kept, body=told.get_data())
    told.close()


@pytest.fixture
def page(visitor: Visit, house: House, monkeypatch: pytest.MonkeyPatch) -> Page:
    """An essay, and a letter about it on each page of its correspondence but the first."""
    monkeypatch.setattr("bridge.essay.thread.LETTERS_A_PAGE", 1)
    house.essay("two-blocks", "# Two\n\n- One 😀 *is*\n- first.\n\nThe second one is.")
    house.post("About the whole.", slug="two-blocks")
    for block, words in ((0, "is first"), (0, "One 😀"), (1, "second")):
        house.post(f"On {words}.", slug="two-blocks", passage=Passage(block, words))
    return visitor.go(ESSAY)


def test_shows_which_words_letters_on_later_pages_quote(page: Page) -> None:
    first, second = page.get_by_role("link", name="Letters: 2"), page.get_by_role("link", name="Letters: 1")
    first.focus()
    assert page.evaluate(SHOWN) == ["One 😀", "is\nfirst"]
    second.focus()
    assert page.evaluate(SHOWN) == ["second"]
    page.get_by_label("Name").focus()
    assert page.evaluate(SHOWN) == []
    first.hover()
    assert page.evaluate(SHOWN) == ["One 😀", "is\nfirst"]


def test_leads_to_the_first_of_them_on_its_page(page: Page) -> None:
    page.get_by_role("link", name="Letters: 2").click()
    page.wait_for_url("**page=2**")
    letter = page.locator(f"#{urlsplit(page.url).fragment}")
    expect(letter).to_contain_text("On is first.")
    letter.get_by_role("link", name="is first").click()
    page.wait_for_url(f"**{ESSAY}#b0")
