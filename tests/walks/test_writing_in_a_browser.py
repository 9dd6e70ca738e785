"""Writing a letter in a real browser: what the form's modules keep, show and send, and that it shuts nobody out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ground import chromium
from ground.house import SLUG, House, furnish, site_over
from ground.looking import shut_out
from ground.visiting import WIDTHS, Visit, served, visit, wait_until
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from bridge import db
from bridge.app import create_app
from moderation.queue import awaiting_review
from moderation.types import Tray

pytestmark = [
    pytest.mark.slow,
    # Werkzeug's server drops a file half sent when a browser goes away.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ESSAY = f"/essays/{SLUG}"
LETTER = re.compile(r"/letters/")
BROKEN = "export function solve() { throw new Error('It cannot be made.'); }"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Iterator[House]:
    database = db.connect(sqlite_url)
    site = site_over(database, tmp_path)
    yield House(site, furnish(site))
    database.dispose()


@pytest.fixture
def reader(browser: Browser, house: House) -> Iterator[Visit]:
    """Open a reader's browser; what went wrong in it fails the test."""
    with served(create_app(house.site)) as address:
        visitor = visit(browser, address)
        yield visitor
        visitor.leave()


def waiting(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        return [each.body for each in awaiting_review(session)]


def write(page: Page, words: str, name: str = "Reader") -> None:
    page.locator("#body").fill(words)
    page.locator("#author").fill(name)


def send(page: Page) -> None:
    page.get_by_role("button", name="Send", exact=True).click()


def another_tab(reader: Visit, path: str = ESSAY) -> Page:
    page = reader.context.new_page()
    page.goto(reader.address + path)
    return page


# Kept until it is sent


def test_keeps_a_draft_in_the_browser_until_it_is_sent(reader: Visit, house: House) -> None:
    page = reader.go(ESSAY)
    write(page, "Not yet finished.")
    page.locator("#email").fill("ada@example.org")
    page.get_by_label("No answer needed").check()
    page.reload()
    expect(page.locator("#body")).to_have_value("Not yet finished.")
    expect(page.locator("#author")).to_have_value("Reader")
    expect(page.locator("#email")).to_have_value("ada@example.org")
    expect(page.get_by_label("No answer needed")).to_be_checked()
    page = reader.go(f"{ESSAY}/write")
    expect(page.locator("#body")).to_have_value("Not yet finished.")
    send(page)
    expect(page).to_have_url(LETTER)
    assert waiting(house) == ["Not yet finished."]
    page.wait_for_load_state()  # The page that says so has run its module by then.
    page = reader.go(ESSAY)
    expect(page.locator("[data-count][data-first]")).to_be_visible()
    expect(page.locator("#body")).to_have_value("")


def test_keeps_a_draft_that_did_not_arrive_though_an_older_letter_is_looked_at(reader: Visit, house: House) -> None:
    earlier = house.send("An earlier one.")
    page = reader.go(f"{ESSAY}/write")
    write(page, "It must not be lost.")
    reader.expected.add(503)
    page.route("**/comments", lambda route: route.fulfill(status=503, content_type="text/html", body="Not just now."))
    send(page)
    expect(page.get_by_text("Not just now.")).to_be_visible()
    page = reader.go(f"/letters/{earlier.token}")
    page.wait_for_load_state()
    page.get_by_role("link", name="Change it").click()
    page.locator("#body").fill("An earlier one, changed.")
    page.get_by_role("button", name="Change it").click()
    expect(page.get_by_text("An earlier one, changed.")).to_be_visible()
    page.wait_for_load_state()
    page = reader.go(f"{ESSAY}/write")
    expect(page.locator("#body")).to_have_value("It must not be lost.")


def test_says_that_words_are_kept_only_once_there_are_some(reader: Visit) -> None:
    page = reader.go(ESSAY)
    kept = page.locator("[data-kept]")
    expect(page.locator("[data-count][data-first]")).to_be_visible()
    expect(kept).to_be_hidden()
    page.locator("#body").fill("Words.")
    expect(kept).to_be_visible()
    page.reload()
    expect(kept).to_be_visible()
    page.locator("#body").fill(" ")
    expect(kept).to_be_hidden()


def test_keeps_a_draft_through_a_preview_and_a_refusal(reader: Visit, house: House) -> None:
    page = reader.go(f"{ESSAY}/write")
    write(page, "x" * 5001)
    reader.expected.add(422)
    send(page)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("5,001")
    expect(alert).to_be_focused()
    page.locator("#body").fill("Shorter.")
    page.get_by_role("button", name="Read it over").click()
    expect(page.locator(".waiting .words")).to_have_text("Shorter.")
    page = reader.go(ESSAY)
    expect(page.locator("#body")).to_have_value("Shorter.")


def test_keeps_two_drafts_in_two_tabs_apart(reader: Visit) -> None:
    one, other = reader.go(ESSAY), another_tab(reader)
    write(one, "One letter.")
    write(other, "Another letter.")
    for page, words in ((one, "One letter."), (other, "Another letter.")):
        page.reload()
        expect(page.locator("#body")).to_have_value(words)


def test_takes_up_the_draft_of_a_tab_that_was_closed(reader: Visit) -> None:
    closing = another_tab(reader)
    write(closing, "Left behind.")
    beside = another_tab(reader)
    expect(beside.locator("[data-count][data-first]")).to_be_visible()
    expect(beside.locator("#body")).to_have_value("")
    closing.close()
    expect(another_tab(reader).locator("#body")).to_have_value("Left behind.")


@pytest.mark.parametrize("path", [f"{ESSAY}/write", f"{ESSAY}/embed/write"])
def test_takes_the_same_words_from_two_tabs_for_one_letter(reader: Visit, house: House, path: str) -> None:
    tabs = [reader.go(path), another_tab(reader, path)]
    for page in tabs:
        write(page, "Once, please.")
    reader.context.clear_cookies()
    for page in tabs:
        send(page)
        expect(page.get_by_role("heading", level=1)).to_contain_text("Your letter")
        reader.context.clear_cookies()
    assert waiting(house) == ["Once, please."]


def test_takes_a_letter_again_that_was_taken_back(reader: Visit, house: House) -> None:
    for _ in range(2):
        page = reader.go(f"{ESSAY}/write")
        write(page, "On second thoughts.")
        send(page)
        expect(page).to_have_url(LETTER)
        assert waiting(house) == ["On second thoughts."]
        page.get_by_text("Take it back", exact=True).click()
        page.get_by_role("button", name="Yes, take it back").click()
        expect(page.locator(".stations")).to_contain_text("It was taken back")
        wait_until(page, "localStorage.getItem('emeritus on their way') === null")
    assert waiting(house) == []


def test_takes_a_letter_again_from_a_frame_that_was_taken_back_elsewhere(
    browser: Browser, reader: Visit, house: House
) -> None:
    """A frame's storage is its own: the page of the letter, in a tab, cannot tell it what became of it."""
    page = reader.go(f"{ESSAY}/embed/write")
    write(page, "On second thoughts.")
    send(page)
    leads = page.get_by_role("link", name="Open the page of your letter").get_attribute("href")
    elsewhere = visit(browser, reader.address)
    elsewhere.go(leads or "").get_by_text("Take it back", exact=True).click()
    elsewhere.page.get_by_role("button", name="Yes, take it back").click()
    expect(elsewhere.page.locator(".stations")).to_contain_text("It was taken back")
    elsewhere.leave()
    page = reader.go(f"{ESSAY}/embed/write")
    write(page, "On second thoughts.")
    send(page)
    expect(page.locator(".lead")).to_contain_text("You sent these words before")
    send(page)
    expect(page).to_have_url(re.compile("/embed/sent/"))
    assert waiting(house) == ["On second thoughts."]


def test_takes_words_again_that_were_changed_since(reader: Visit, house: House) -> None:
    page = reader.go(f"{ESSAY}/write")
    write(page, "First.")
    send(page)
    page.get_by_role("link", name="Change it").click()
    page.locator("#body").fill("Second.")
    page.get_by_role("button", name="Change it").click()
    expect(page.locator(".waiting .words")).to_have_text("Second.")
    page = reader.go(f"{ESSAY}/write")
    write(page, "First.")
    send(page)
    expect(page.locator(".lead")).to_contain_text("You sent these words before")
    send(page)
    expect(page).to_have_url(LETTER)
    assert sorted(waiting(house)) == ["First.", "Second."]


@contextmanager
def bounded(browser: Browser, house: House) -> Iterator[Visit]:
    """Open a reader's browser at a site that limits its readers."""
    limiting = replace(house.site, settings=house.site.settings.model_copy(update={"rate_limits": "on"}))
    with served(create_app(limiting)) as address:
        visitor = visit(browser, address)
        yield visitor
        visitor.leave()


def test_waits_itself_as_long_as_a_letter_takes_to_write(browser: Browser, house: House) -> None:
    with bounded(browser, house) as reader:
        page = reader.go(ESSAY)
        write(page, "Written yesterday.")
        page.reload()
        expect(page.locator("#body")).to_have_value("Written yesterday.")
        send(page)
        expect(page).to_have_url(LETTER)
    with house.site.database.reading_sessions() as session:
        assert [each.body for each in awaiting_review(session, tray=Tray.MAIN)] == ["Written yesterday."]


def test_asks_for_fewer_previews_than_a_slow_typist_has_keys(browser: Browser, house: House) -> None:
    with bounded(browser, house) as reader:
        asked: list[str] = []
        reader.context.on("request", lambda request: asked.append(request.url))
        page = reader.go(ESSAY)
        page.locator("#body").focus()
        page.keyboard.type("Slowly, key by key.", delay=450)
        expect(page.locator("[data-shown-here]")).to_have_text("Slowly, key by key.")
    previews = [each for each in asked if each.endswith("/preview")]
    # Nineteen keys in 8.5 seconds, each long enough after the last for a preview of its own.
    assert 1 < len(previews) <= 8


def test_takes_it_once_after_the_back_button_without_a_module(browser: Browser, house: House) -> None:
    limiting = replace(house.site, settings=house.site.settings.model_copy(update={"rate_limits": "on"}))
    with served(create_app(limiting)) as address:
        reader = visit(browser, address, javascript=False)
        page = reader.go(ESSAY)
        write(page, "Once, please.")
        page.get_by_role("button", name="Read it over, then send").click()
        send(page)
        expect(page).to_have_url(LETTER)
        page.go_back()
        if page.get_by_role("button", name="Read it over, then send").is_visible():
            page.get_by_role("button", name="Read it over, then send").click()
        send(page)
        expect(page).to_have_url(LETTER)
        reader.leave()
    assert waiting(house) == ["Once, please."]


# Shown while it is typed


def test_shows_how_a_letter_would_be_posted_and_asks_once_at_a_time(reader: Visit, house: House) -> None:
    asked: list[Route] = []
    reader.context.route("**/preview", lambda route: asked.append(route))
    page = reader.go(ESSAY)
    with page.expect_request("**/preview"):
        page.locator("#body").fill("Do you rest *well*?")
    page.locator("#body").fill("Do you rest *deeply*?")
    # The first is not answered yet; time passes, and no second one is asked for.
    page.evaluate("new Promise((passed) => setTimeout(passed, 900))")
    assert len(asked) == 1
    with page.expect_request("**/preview"):
        asked[0].continue_()
    expect(page.locator("[data-shown] em")).to_have_text("well")
    asked[1].continue_()
    expect(page.locator("[data-shown] em")).to_have_text("deeply")
    page.locator("#body").fill("")
    expect(page.locator("[data-shown]")).to_be_hidden()
    assert waiting(house) == []


def test_counts_what_is_left_and_says_so_only_when_it_matters(reader: Visit) -> None:
    page = reader.go(ESSAY)
    count, said = page.locator("[data-count]"), page.locator("[data-said]")
    expect(count).to_have_text("At most 5,000 characters.")
    page.locator("#body").fill("x" * 10)
    expect(count).to_have_text("Characters left: 4,990")
    expect(said).to_have_text("")
    page.locator("#body").fill("x" * 4950)
    expect(said).to_have_text("Characters left: 50")
    page.locator("#body").fill("x" * 4951)
    expect(count).to_have_text("Characters left: 49")
    expect(said).to_have_text("Characters left: 50")
    reader.expected.add(422)
    page.locator("#body").fill("x" * 5001)
    expect(said).to_have_text("Characters too many: 1")
    expect(page.locator("#body")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[data-shown]")).to_contain_text("5,001")


# Sent


def test_sends_although_the_proof_of_work_cannot_be_made(reader: Visit, house: House) -> None:
    page = reader.go(ESSAY)
    token = page.evaluate(f"fetch('{ESSAY}/form-token').then((answer) => answer.json())")["token"]
    reader.context.route("**/form-token", lambda route: route.fulfill(json={"token": token, "challenge": {}}))
    reader.context.route(
        "**/proof.js", lambda route: route.fulfill(status=200, body=BROKEN, content_type="text/javascript")
    )
    page = reader.go(ESSAY)
    write(page, "All the same.")
    send(page)
    expect(page).to_have_url(LETTER)
    assert waiting(house) == ["All the same."]


def test_sends_by_the_keyboard_alone(reader: Visit, house: House) -> None:
    page = reader.go(f"{ESSAY}/write")
    page.locator("#body").focus()
    page.keyboard.type("By hand.")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))
        if page.evaluate("document.activeElement.name") == "author":
            page.keyboard.type("Reader")
        if page.evaluate("document.activeElement.textContent.trim()") == "Send":
            break
    assert {"author", "email", "no_reply_needed", "Send"} <= reached
    assert "website" not in reached
    page.keyboard.press("Enter")
    expect(page).to_have_url(LETTER)
    assert waiting(house) == ["By hand."]


# For everyone


def shuts_nobody_out(reader: Visit, what: str) -> None:
    """See that a page has no violation that axe knows, light and dark, and that it fits a phone."""
    page = reader.page
    page.set_viewport_size(WIDTHS[390])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, what
    small = page.evaluate(
        """[...document.querySelectorAll("main form :is(button, summary, input, textarea, label.choice)")]
           .filter((each) => !["hidden", "checkbox"].includes(each.type) && !each.closest("[aria-hidden]"))
           .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 43.5)
           .map((each) => each.outerHTML)"""
    )
    assert small == [], what
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert shut_out(page) == [], f"{what}, {scheme}"
    page.emulate_media(color_scheme="light")


def test_shuts_nobody_out_of_any_page_on_the_way(reader: Visit, house: House) -> None:
    _, reply = house.exchange()
    stops: dict[str, Callable[[Page], object]] = {
        "the form": lambda page: page.goto(f"{reader.address}{ESSAY}/write"),
        "in answer": lambda page: page.goto(f"{reader.address}{ESSAY}/write?answering={reply}"),
        "about a passage": lambda page: page.goto(f"{reader.address}{ESSAY}/write?about=0"),
        "typed": lambda page: (
            write(page, "*Softly*, please."),
            expect(page.locator("[data-shown] em")).to_be_visible(),
        ),
        "the hint": lambda page: page.locator(".marks summary").click(),
        "refused": lambda page: (page.locator("#email").fill("no@address"), send(page)),
        "read over": lambda page: (
            page.locator("#email").fill("ada@example.org"),
            page.get_by_role("button", name="Read it over").click(),
            page.get_by_text("Change it", exact=True).click(),
        ),
        "sent": lambda page: (send(page), expect(page).to_have_url(LETTER)),
        "to be changed": lambda page: page.get_by_role("link", name="Change it").click(),
        "in a frame": lambda page: page.goto(f"{reader.address}{ESSAY}/embed/write"),
        "sent from a frame": lambda page: (
            write(page, "From afar."),
            send(page),
            expect(page).to_have_url(re.compile("/embed/sent/")),
        ),
    }
    reader.expected |= {422}
    for what, go in stops.items():
        go(reader.page)
        reader.page.wait_for_load_state()
        shuts_nobody_out(reader, what)
        reader.picture(f"writing-{re.sub('[^a-z]', '-', what)}")
