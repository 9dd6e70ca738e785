"""The walk in a real browser, by the pages alone: with modules and without, at both widths, light and dark.

It leaves pictures of each station in `test-pictures/`. Whatever a page says in the console, asks of another host or
does against its own policy fails the story at its end.
"""

import os
import re
from collections.abc import Iterator

import pytest
from ground import chromium
from ground.installation import Installation, wait_for
from ground.visiting import Visit, sign_in, visit
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

pytestmark = pytest.mark.slow

SLUG = "the-prompters-box"
ESSAY = f"/essays/{SLUG}"
LETTER = re.compile(r"/letters/")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    opened = chromium.launch(playwright)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def remembering(playwright: Playwright) -> Iterator[Browser]:
    """Open a browser that keeps pages alive for the back button, as people's browsers do and Playwright's does not."""
    opened = playwright.chromium.launch(
        executable_path=chromium.executable(),
        args=[*chromium.QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])],
        ignore_default_args=["--disable-back-forward-cache"],
    )
    yield opened
    opened.close()


def arrived(installation: Installation, mark: str) -> int:
    """Count the submissions that ever arrived with *mark* in their words, waiting or not."""
    return int(installation.ask(f"SELECT count(*) FROM submissions WHERE body LIKE '%{mark}%'")[0][0])


def write(page: Page, words: str, name: str = "Ada") -> None:
    page.locator("#body").fill(words)
    page.locator("#author").fill(name)


def send(page: Page) -> None:
    """Press Send, which the module shows once the form has its token."""
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page).to_have_url(LETTER)


def open_on_desk(installation: Installation, desk: Visit, mark: str, kind: str) -> Page:
    """Open what waits with *mark* in it, from the desk's list, waiting for it if need be."""
    [waits] = wait_for(lambda: installation.waiting(mark, kind), f"a {kind} on the desk")
    desk.go(f"/desk/?kind={kind}").locator(f"#waiting a[href*='/submissions/{waits['id']}']").click()
    expect(desk.page.locator(".subject")).to_contain_text(mark)
    return desk.page


def approve(page: Page) -> None:
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status")).to_contain_text("Approved")


def test_tells_the_whole_walk(installation: Installation, browser: Browser) -> None:
    mark = installation.mark()
    reader, desk = visit(browser, installation.address), visit(browser, installation.address, javascript=False)
    page = reader.go("/")
    reader.picture("1-essays")
    page.locator(f"a[href='{ESSAY}']").click()
    write(page, f"{mark}: does a prompter *know* the play?", f"Ada {mark}")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    reader.picture("2-writing")
    send(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Your letter")
    reader.picture("3-sent")

    desk.go("/desk/")
    desk.picture("4-sign-in")
    sign_in(desk, "demo@example.org", installation.password)
    opened = open_on_desk(installation, desk, mark, "comment")
    desk.picture("5-letter-on-the-desk")
    approve(opened)
    opened = open_on_desk(installation, desk, mark, "reply")
    expect(opened.locator(".asked")).to_contain_text(mark)
    desk.picture("6-answer-on-the-desk")
    assert mark not in reader.go(ESSAY).locator(".answer").all_inner_texts()
    opened.get_by_role("link", name="Propose a veto").click()
    expect(opened.locator("#rejection")).to_be_visible()
    desk.picture("7-veto")
    opened.get_by_role("link", name="Back to the words").click()
    approve(opened)
    desk.picture("8-approved")

    page = reader.go(ESSAY)
    letter = page.locator(".letter", has_text=mark).first
    answer = letter.locator(".answer", has_text=mark)
    expect(answer).to_contain_text("REHEARSAL")
    letter.scroll_into_view_if_needed()
    reader.picture("9-answered")
    answer.get_by_role("link", name="How this came about").click()
    expect(page).to_have_url(re.compile("/replies/"))
    reader.picture("10-answer-alone")
    for path, name in (("/about", "11-about"), ("/essays/none-such", "12-not-found")):
        reader.expected.add(404)
        reader.go(path)
        reader.picture(name)
    reader.leave()
    desk.leave()


def test_tells_it_without_javascript(installation: Installation, browser: Browser) -> None:
    mark = installation.mark()
    reader = visit(browser, installation.address, javascript=False)
    desk = visit(browser, installation.address, javascript=False)
    page = reader.go(ESSAY)
    write(page, f"{mark}: does a prompter *know* the play?")
    page.get_by_role("button", name="Read it over, then send").click()
    expect(page.locator(".words em")).to_have_text("know")
    send(page)
    sign_in(desk, "demo@example.org", installation.password)
    approve(open_on_desk(installation, desk, mark, "comment"))
    approve(open_on_desk(installation, desk, mark, "reply"))
    expect(reader.go(ESSAY).locator(".answer", has_text=mark)).to_contain_text("REHEARSAL")
    reader.leave()
    desk.leave()


@pytest.mark.parametrize("javascript", [True, False])
def test_takes_a_double_click_for_one_letter(installation: Installation, browser: Browser, javascript: bool) -> None:
    mark = installation.mark()
    reader = visit(browser, installation.address, javascript=javascript)
    page = reader.go(ESSAY)
    write(page, f"Once, please. {mark}")
    if not javascript:
        page.get_by_role("button", name="Read it over, then send").click()
    page.get_by_role("button", name="Send", exact=True).dblclick()
    expect(page).to_have_url(LETTER)
    assert arrived(installation, mark) == 1
    reader.leave()


def test_takes_the_same_letter_once_after_the_back_button(installation: Installation, remembering: Browser) -> None:
    mark = installation.mark()
    reader = visit(remembering, installation.address)
    page = reader.go(ESSAY)
    write(page, f"Once, please. {mark}")
    send(page)
    # Playwright's own go_back waits in vain for a page that was never away to load.
    page.evaluate("history.back()")
    expect(page.locator("#body")).to_have_value(f"Once, please. {mark}")
    send(page)
    assert arrived(installation, mark) == 1
    reader.leave()


def test_takes_it_once_after_the_back_button_of_a_browser_that_loads_the_page_again(
    installation: Installation, browser: Browser
) -> None:
    mark = installation.mark()
    reader = visit(browser, installation.address)
    page = reader.go(ESSAY)
    write(page, f"Once, please. {mark}")
    send(page)
    page.go_back()
    # Whether the browser puts the words back is its own affair: the same ones are sent once more.
    page.locator("#body").fill(f"Once, please. {mark}")
    page.locator("#author").fill("Ada")
    send(page)
    assert arrived(installation, mark) == 1
    reader.leave()


def test_keeps_what_a_reader_wrote_when_the_letter_was_decided_meanwhile(
    installation: Installation, browser: Browser
) -> None:
    mark = installation.mark()
    reader = visit(browser, installation.address)
    page = reader.go(ESSAY)
    write(page, f"First. {mark}")
    send(page)
    page.get_by_role("link", name="Change it").click()
    [waits] = installation.waiting(mark, "comment")
    assert installation.approve(waits).status == 201
    page.locator("#body").fill(f"Second. {mark}")
    reader.expected.add(409)
    with page.expect_response(re.compile("/change$")) as came:
        page.get_by_role("button", name="Change it").click()
    assert came.value.status == 409
    expect(page.locator("#body")).to_have_value(f"Second. {mark}")
    assert arrived(installation, f"Second. {mark}") == 0
    reader.leave()


def test_keeps_what_a_moderator_wrote_about_other_words(installation: Installation, browser: Browser) -> None:
    mark = installation.mark()
    reader, desk = visit(browser, installation.address), visit(browser, installation.address, javascript=False)
    write(reader.go(ESSAY), f"First. {mark}")
    send(reader.page)
    sign_in(desk, "demo@example.org", installation.password)
    page = open_on_desk(installation, desk, mark, "comment")
    page.get_by_role("link", name="Reject").click()
    page.locator("input[name=reason_code][value=off_topic]").check()
    page.locator("#reason").fill(f"A reason of my own. {mark}")
    page.locator("#rejection input[name=digest]").evaluate("field => { field.value = '0'.repeat(64) }")
    desk.expected.add(409)
    with page.expect_response(re.compile("/rejection")) as came:
        page.get_by_role("button", name="Reject").click()
    assert came.value.status == 409
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#reason")).to_have_value(f"A reason of my own. {mark}")
    expect(page.locator("input[name=reason_code][value=off_topic]")).to_be_checked()
    assert len(installation.waiting(mark, "comment")) == 1
    desk.leave()
    reader.leave()


def test_tells_a_moderator_that_the_author_changed_the_words(installation: Installation, browser: Browser) -> None:
    mark = installation.mark()
    reader, desk = visit(browser, installation.address), visit(browser, installation.address, javascript=False)
    write(reader.go(ESSAY), f"First. {mark}")
    send(reader.page)
    sign_in(desk, "demo@example.org", installation.password)
    page = open_on_desk(installation, desk, mark, "comment")
    reader.page.get_by_role("link", name="Change it").click()
    reader.page.locator("#body").fill(f"Second. {mark}")
    reader.page.get_by_role("button", name="Change it").click()
    expect(reader.page).to_have_url(LETTER)
    desk.expected.add(409)
    with page.expect_response(re.compile("/approval")) as came:
        page.get_by_role("button", name="Approve").click()
    assert came.value.status == 409
    assert [each["body"] for each in installation.waiting(mark, "comment")] == [f"Second. {mark}"]
    desk.leave()
    reader.leave()
