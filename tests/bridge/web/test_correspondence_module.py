"""What modules add to a correspondence, in a real browser: passages, own letters, order, times."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask
from ground import chromium
from ground.house import SLUG, House
from ground.looking import shut_out
from ground.visiting import Visit, visit, wait_until
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from bridge.letter.comments import Receipt
from bridge.text.passages import Passage
from bridge.web.writing import author_cookie

pytestmark = pytest.mark.slow

ADDRESS = "http://localhost"
ESSAY = f"/essays/{SLUG}"
SELECT = """([from, to]) => {
  const words = document.querySelector('#b0 > p');
  const find = (text, end) => {
    const walker = document.createTreeWalker(words, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const at = node.data.indexOf(text);
      if (at >= 0) return [node, end ? at + text.length : at];
    }
  };
  getSelection().setBaseAndExtent(...find(from, false), ...find(to, true));
}"""


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
    headers = {name: value for name, value in request.all_headers().items() if not name.startswith(":")}
    path = request.url.removeprefix(ADDRESS)
    told = app.test_client(use_cookies=False).open(
        path, method=request.method, headers=headers, data=request.post_data_buffer
    )
    kept = {name: value for name, value in told.headers if name != "Content-Encoding"}
    route.fulfill(status=told.status_code, headers=kept, body=told.get_data())
    told.close()


def is_author_of(visitor: Visit, house: House, sent: Receipt) -> None:
    """Let a reader's browser be as it is after this letter was sent from it."""
    visitor.context.add_cookies(
        [{"name": author_cookie(house.site), "value": sent.author_secret, "url": "https://localhost/", "secure": True}]
    )
    visitor.go("/static/favicon.svg")
    visitor.page.evaluate("slug => localStorage.setItem('emeritus mine ' + slug, '[]')", SLUG)


def order(page: Page) -> list[str]:
    """Return the ids of the letters, as they stand on the page."""
    ids: list[str] = page.evaluate("[...document.querySelectorAll('[data-thread] > .letter')].map(each => each.id)")
    return ids


def test_lets_a_reader_write_about_selected_words(visitor: Visit) -> None:
    page = visitor.go(ESSAY)
    page.evaluate(SELECT, ["rest", "well"])
    page.get_by_role("button", name="Write about this passage").click()
    expect(page.locator("[data-quoted]")).to_have_text("rest well")
    expect(page.get_by_label("Your letter", exact=True)).to_be_focused()
    page.keyboard.type("Why well?")
    page.get_by_label("Name").fill("Reader")
    page.get_by_role("button", name="Read it over").click()
    expect(page.locator("[data-quoted]")).to_have_text("rest well")
    assert page.locator("[name=passage]").input_value() == "rest well"
    assert page.locator("[name=passage_block]").input_value() == "0"


def test_offers_what_is_selected_of_the_first_of_several_paragraphs(visitor: Visit, house: House) -> None:
    house.essay("three", "# Three\n\nThe first one.\n\nThe second one.\n\nThe third one.")
    page = visitor.go("/essays/three")
    page.evaluate(
        "getSelection().setBaseAndExtent(document.querySelector('#b2 > p').firstChild, 9,"
        " document.querySelector('#b0 > p').firstChild, 4)"
    )
    button = page.locator("#b0").get_by_role("button", name="Write about this passage")
    button.click()
    expect(page.locator("[data-quoted]")).to_have_text("first one.")
    assert page.locator("[name=passage_block]").input_value() == "0"


def test_reaches_the_offer_with_the_keyboard(visitor: Visit) -> None:
    page = visitor.go(ESSAY)
    page.locator("#b0 em").dblclick()
    button = page.get_by_role("button", name="Write about this passage")
    expect(button).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Write about this paragraph")).to_be_focused()
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("[data-quoted]")).to_have_text("well")


def test_goes_on_from_the_same_place_when_the_offer_is_dismissed(visitor: Visit) -> None:
    page = visitor.go(ESSAY)
    page.locator("#b0 em").dblclick()
    button = page.get_by_role("button", name="Write about this passage")
    button.focus()
    page.keyboard.press("Escape")
    expect(button).to_have_count(0)
    expect(page.get_by_role("link", name="Write about this paragraph").first).to_be_focused()


def test_takes_back_what_was_chosen(visitor: Visit) -> None:
    page = visitor.go(ESSAY)
    page.evaluate(SELECT, ["rest", "well"])
    page.get_by_role("button", name="Write about this passage").click()
    page.get_by_role("button", name="About the whole essay instead").click()
    expect(page.locator("[data-quoting]")).to_be_hidden()
    assert page.locator("[name=passage]").input_value() == ""


def test_offers_nothing_for_words_outside_the_essay(visitor: Visit) -> None:
    page = visitor.go(ESSAY)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.disclaimer'))")
    page.wait_for_timeout(300)  # As long as a selection takes to settle, and as much again.
    assert page.locator(".choose").count() == 0


def test_shows_a_quoted_passage_in_the_essay(visitor: Visit, house: House) -> None:
    sent = house.post("Why well?", passage=Passage(0, "rest well"))
    page = visitor.go(ESSAY)
    shown = "[...(CSS.highlights.get('passage') ?? [])].map(String)"
    page.locator(f"#letter-{sent.public_id} .passage a").focus()
    assert page.evaluate(shown) == ["rest well"]
    page.get_by_label("Name").focus()
    assert page.evaluate(shown) == []


@pytest.mark.parametrize(("words", "direction"), [("فراغ يفتح", "rtl"), ("It rests.", "ltr")])
def test_lets_no_label_settle_the_direction_of_a_passage(
    visitor: Visit, house: House, words: str, direction: str
) -> None:
    house.essay("another", f"# Another\n\n{words}")
    house.post("Why?", slug="another", passage=Passage(0, words))
    quote = visitor.go("/essays/another").locator(".thread .passage")
    expect(quote).to_have_text(f"AI {words}")
    assert quote.evaluate("(quote) => getComputedStyle(quote).direction") == direction


def test_counts_the_letters_beside_what_they_are_about(visitor: Visit, house: House) -> None:
    first = house.post("Why well?", passage=Passage(0, "rest well"))
    house.post("Do you?", passage=Passage(0, "rest"))
    page = visitor.go(ESSAY)
    link = page.get_by_role("link", name="Letters: 2")
    link.click()
    assert urlsplit(page.url).fragment == f"letter-{first.public_id}"


def test_turns_the_letters_round_and_keeps_it_so(visitor: Visit, house: House) -> None:
    sent = [f"letter-{house.post(f'Letter number {n}').public_id}" for n in range(3)]
    page = visitor.go(ESSAY)
    assert order(page) == sent
    button = page.get_by_role("button", name="Show the newest first")
    button.focus()
    page.keyboard.press("Enter")
    assert order(page) == sent[::-1]
    expect(page.get_by_role("button", name="Show the oldest first")).to_be_focused()
    page.reload()
    expect(page.get_by_role("button", name="Show the oldest first")).to_be_visible()
    assert order(page) == sent[::-1]


def test_says_how_long_ago_in_the_same_room(visitor: Visit, house: House) -> None:
    house.post()
    page = visitor.go(ESSAY)
    time = page.locator(".letter time").first
    expect(time).to_have_text("now")
    assert time.get_attribute("title")
    now = time.bounding_box()
    time.evaluate("each => { each.textContent = each.dataset.day; }")
    assert now == time.bounding_box()


def test_shows_an_author_their_letter_in_its_place(visitor: Visit, house: House) -> None:
    _, reply = house.exchange()
    below = house.send("And at night?", parent=reply, author="Reader")
    is_author_of(visitor, house, below)
    page = visitor.go(ESSAY)
    own = page.locator("[data-thread] > .letter").filter(has=page.locator(f"#answer-{reply}")).locator("[data-own]")
    expect(own).to_contain_text("And at night?")
    expect(own).to_contain_text("Only you can see this.")
    assert own.get_by_role("link", name="Change it").get_attribute("href") == f"/letters/{below.token}/change"
    assert shut_out(page) == []


def test_asks_for_no_letters_where_none_was_sent(visitor: Visit, house: House) -> None:
    house.send("Not yours.")
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    visitor.go(ESSAY).wait_for_load_state("networkidle")
    assert f"{ESSAY}/mine" not in asked


def test_stops_asking_once_nothing_waits(visitor: Visit, house: House) -> None:
    sent = house.post()
    is_author_of(visitor, house, sent)
    page = visitor.go(ESSAY)
    wait_until(page, f"localStorage.getItem('emeritus mine {SLUG}') === null")


def test_shows_letters_in_a_frame_by_their_keys(visitor: Visit, house: House) -> None:
    sent = house.send("From a frame.")
    visitor.go("/static/favicon.svg")
    visitor.page.evaluate(
        "([slug, key]) => localStorage.setItem('emeritus mine ' + slug, JSON.stringify([key]))", [SLUG, sent.token]
    )
    page = visitor.go(f"{ESSAY}/embed")
    expect(page.locator("[data-own]")).to_contain_text("From a frame.")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_shuts_nobody_out(visitor: Visit, house: House, width: int) -> None:
    house.exchange("Why well? " + "o" * 300, passage=Passage(0, "rest well"))
    waiting = house.send("This one waits.")
    is_author_of(visitor, house, waiting)
    visitor.page.set_viewport_size({"width": width, "height": 800})
    page = visitor.go(ESSAY)
    expect(page.locator("[data-own]")).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert shut_out(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.dir = 'rtl'")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_prints_who_wrote_it_and_where_links_lead(visitor: Visit, house: House) -> None:
    house.exchange("See [this](https://a.example/b).")
    page = visitor.go(ESSAY)
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator(".answer .label")).to_be_visible()
    expect(page.locator("form.write")).to_be_hidden()
    day = page.locator(".letter time").first.get_attribute("data-day")
    style = "([of, what]) => getComputedStyle(document.querySelector(of), what[1])[what[0]]"
    assert "https://a.example/b" in page.evaluate(style, [".letter .words a", ["content", "::after"]])
    assert page.evaluate(style, [".letter time", ["content", "::before"]]) == f'"{day}"'
    assert page.evaluate(style, [".answer .label", ["color", None]]) == "rgb(0, 0, 0)"
    assert page.evaluate(style, ["html", ["backgroundColor", None]]) == "rgb(255, 255, 255)"
