"""The desk by hand in a real browser: keys, verdicts that can be taken back, two moderators at once.

The browser's clock is Playwright's wherever seconds count, so nothing here waits for real ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import pytest
from ground import chromium
from ground.house import ADA, BEN, PASSWORD, REASON, House, furnish, site_over
from ground.visiting import WIDTHS, Visit, served, sign_in, visit
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from sqlalchemy import select

from bridge import db
from bridge.app import create_app
from bridge.records import Comment
from moderation.types import State

pytestmark = [
    pytest.mark.slow,
    # Werkzeug's server drops a file half sent when a browser goes away.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LONG = "\n\n".join(f"Paragraph {number} of a long letter, which goes on and on." for number in range(80))


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
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
def address(house: House) -> Iterator[str]:
    """Serve the house."""
    with served(create_app(house.site)) as at:
        yield at


@pytest.fixture
def at_desk(browser: Browser, address: str) -> Iterator[Callable[..., Visit]]:
    """Open the desk as Ada, or as somebody else; what went wrong in a browser fails the test."""
    visits: list[Visit] = []

    def come(email: str = ADA, *, javascript: bool = True, clock: bool = True) -> Visit:
        visitor = visit(browser, address, javascript=javascript)
        visits.append(visitor)
        sign_in(visitor, email, PASSWORD)
        if javascript and clock:
            visitor.page.clock.install()
            visitor.go("/desk/")
        return visitor

    yield come
    for visitor in visits:
        visitor.leave()


def opened(page: Page, words: str) -> None:
    """Wait until *words* are what is being read."""
    expect(page.locator("#reading .subject")).to_contain_text(words)


def settle(page: Page) -> None:
    """Let the second pass in which a card takes no verdict, once its end was on the screen."""
    page.clock.run_for(1000)


def approve(page: Page) -> None:
    """Approve what is being read by its key, once the browser has noticed that its end is on the screen."""
    expect(page.locator("#main[data-seen]")).to_be_attached()
    settle(page)
    page.keyboard.press("a")


def look_away(page: Page) -> None:
    """Let the page believe that its tab is hidden."""
    page.evaluate(
        "() => { Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )


def look_back(page: Page) -> None:
    """Let the page be seen again."""
    page.evaluate("() => { delete document.visibilityState; document.dispatchEvent(new Event('visibilitychange')); }")


def letters(house: House, number: int) -> list[int]:
    """Send *number* letters; return their submissions."""
    return [house.submission(house.send(f"Letter number {each}.").public_id) for each in range(1, number + 1)]


def all_sent(page: Page) -> None:
    """Wait until each verdict was answered; the page, not this process, must go on meanwhile."""
    expect(page.locator(".strip")).to_have_count(0)


def states(house: House, ids: list[int]) -> set[State]:
    return {house.state(each) for each in ids}


def test_decides_fifty_letters_by_keyboard_without_loading_a_page(house: House, at_desk: Callable[..., Visit]) -> None:
    ids = letters(house, 50)
    page = at_desk().page
    loads: list[str] = []
    page.on("request", lambda request: loads.append(request.url) if request.is_navigation_request() else None)
    for number in range(1, 51):
        opened(page, f"Letter number {number}.")
        if number % 5:
            approve(page)
        else:
            settle(page)
            page.keyboard.press("r")
            page.keyboard.press("2")
            page.keyboard.press("Control+Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing else is waiting")
    page.clock.run_for(10_000)
    all_sent(page)
    assert [house.state(each) for each in ids] == [
        State.REJECTED if number % 5 == 0 else State.APPROVED for number in range(1, 51)
    ]
    assert loads == []


def test_decides_the_same_fifty_without_javascript(house: House, at_desk: Callable[..., Visit]) -> None:
    ids = letters(house, 50)
    page = at_desk(javascript=False).page
    for number in range(1, 51):
        opened(page, f"Letter number {number}.")
        if number % 5:
            page.get_by_role("button", name="Approve").click()
            expect(page.get_by_role("status")).to_contain_text("Approved")
        else:
            page.get_by_role("link", name="Reject").click()
            page.get_by_label("Insults, threats or hatred").check()
            page.get_by_role("button", name="Reject").click()
            expect(page.get_by_role("status")).to_contain_text("Rejected")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is waiting")
    assert [house.state(each) for each in ids] == [
        State.REJECTED if number % 5 == 0 else State.APPROVED for number in range(1, 51)
    ]


def test_shows_a_claim_to_the_other_who_may_take_it_over(house: House, at_desk: Callable[..., Visit]) -> None:
    letters(house, 2)
    ada = at_desk().page
    opened(ada, "Letter number 1.")
    expect(ada.locator("[data-who]")).to_contain_text("You, until")
    ben = at_desk(BEN).page
    expect(ben.locator("#waiting li").first).to_contain_text("Ada is reading this")
    expect(ben.locator("[data-who]")).to_contain_text("Ada is reading this, until")
    ben.get_by_role("button", name="Take it over").click()
    expect(ben.locator("[data-who]")).to_contain_text("You, until")
    ada.clock.run_for(4000)
    expect(ada.locator("[data-who]")).to_contain_text("Ben is reading this")
    settle(ben)
    ben.keyboard.press("j")
    opened(ben, "Letter number 2.")
    ada.clock.run_for(4000)
    expect(ada.locator("#waiting li").last).to_contain_text("Ben is reading this")
    expect(ada.locator("#waiting li").first).not_to_contain_text("is reading this")


def test_lets_one_win_and_tells_the_other_who_and_what(house: House, at_desk: Callable[..., Visit]) -> None:
    [contested, _] = letters(house, 2)
    ada, loser = at_desk().page, at_desk(BEN)
    ben = loser.page
    opened(ada, "Letter number 1.")
    opened(ben, "Letter number 1.")
    settle(ben)
    ben.keyboard.press("r")
    ben.keyboard.press("4")
    ben.locator("#told").fill("It is about something else.")
    ben.keyboard.press("Control+Enter")
    opened(ben, "Letter number 2.")
    approve(ada)
    opened(ada, "Letter number 2.")
    ada.clock.run_for(10_000)
    all_sent(ada)
    loser.expected.add(409)
    ben.clock.run_for(10_000)
    strip = ben.locator(".strip.back")
    expect(strip).to_contain_text("Ada has already approved this one. Nothing was changed.")
    expect(strip).to_contain_text("It is about something else.")
    opened(ben, "Letter number 2.")
    assert house.state(contested) is State.APPROVED
    strip.get_by_role("button", name="Put away").click()
    expect(ben.locator(".strip")).to_have_count(0)


def test_greys_a_card_that_somebody_else_decided(house: House, at_desk: Callable[..., Visit]) -> None:
    [first, _] = letters(house, 2)
    ben = at_desk(BEN)
    ben.expected.add(409)  # Saying who reads it may come after the verdict.
    page = ben.page
    opened(page, "Letter number 1.")
    expect(page.locator("#waiting li")).to_have_count(2)
    where = page.locator(".subject").bounding_box()
    house.approve(_public_id(house, first))
    page.clock.run_for(4000)
    expect(page.locator("[data-decided]")).to_have_text("Ada approved this one.")
    expect(page.get_by_role("button", name="Approve")).to_be_disabled()
    expect(page.locator("#waiting li")).to_have_count(1)
    expect(page.locator("[data-number=total]")).to_have_text("1")
    assert page.title().startswith("(1) ")
    assert where is not None
    settle(page)
    page.keyboard.press("a")
    opened(page, "Letter number 1.")
    page.keyboard.press("j")
    opened(page, "Letter number 2.")


def test_vetoes_by_two_and_lets_the_second_overrule(house: House, at_desk: Callable[..., Visit]) -> None:
    house.post("One.")
    house.post("Two.")
    first, second = house.answer("An answer to look at twice.")
    ada = at_desk().page
    for reply in (first, second):
        expect(ada.locator(f"#main[data-open='{house.submission(reply)}']")).to_be_attached()
        settle(ada)
        ada.keyboard.press("r")
        ada.keyboard.press("1")
        ada.locator("#reason").fill(REASON)
        ada.keyboard.press("Control+Enter")
    ada.clock.run_for(10_000)
    all_sent(ada)
    ben = at_desk(BEN).page
    expect(ben.locator(".proposal")).to_contain_text("Ada proposed a veto")
    expect(ben.locator(".proposal")).to_contain_text(REASON)
    settle(ben)
    ben.keyboard.press("r")
    ben.keyboard.press("Control+Enter")
    expect(ben.locator(f"#main[data-open='{house.submission(second)}']")).to_be_attached()
    expect(ben.locator(".proposal")).to_contain_text("If you approve instead")
    approve(ben)
    expect(ben.get_by_role("heading", level=1)).to_have_text("Nothing else is waiting")
    ben.clock.run_for(10_000)
    all_sent(ben)
    assert house.state(house.submission(first)) is State.REJECTED
    assert house.state(house.submission(second)) is State.APPROVED


def test_takes_no_verdict_on_a_card_that_has_just_appeared(house: House, at_desk: Callable[..., Visit]) -> None:
    letters(house, 2)
    page = at_desk().page
    opened(page, "Letter number 1.")
    page.clock.pause_at(page.evaluate("Date.now()") + 60_000)
    page.keyboard.press("j")
    opened(page, "Letter number 2.")
    expect(page.locator("#main[data-seen]")).to_be_attached()
    for press in (
        lambda: page.keyboard.press("a"),
        lambda: page.keyboard.press("r"),
        lambda: page.get_by_role("button", name="Approve").click(),
    ):
        press()
        expect(page.locator("[data-quietly]")).to_contain_text("has just appeared")
        expect(page.locator(".strip")).to_have_count(0)
        expect(page.locator("#rejection")).to_be_hidden()
    page.clock.run_for(1000)
    for told in (page.locator("[data-quietly]"), page.locator("#said")):
        expect(told).to_have_text("Now it takes a verdict: press again.")
    page.keyboard.press("a")
    opened(page, "Letter number 1.")


def test_says_of_no_other_card_that_it_takes_a_verdict(house: House, at_desk: Callable[..., Visit]) -> None:
    letters(house, 2)
    page = at_desk().page
    opened(page, "Letter number 1.")
    page.clock.pause_at(page.evaluate("Date.now()") + 60_000)
    page.keyboard.press("j")
    opened(page, "Letter number 2.")
    page.keyboard.press("a")
    expect(page.locator("#said")).to_contain_text("has just appeared")
    page.keyboard.press("k")
    opened(page, "Letter number 1.")
    page.clock.run_for(1000)
    expect(page.locator("[data-quietly]")).to_be_hidden()


def test_approves_by_key_only_once_the_end_was_on_the_screen(house: House, at_desk: Callable[..., Visit]) -> None:
    submission = house.submission(house.send(LONG).public_id)
    page = at_desk().page
    opened(page, "Paragraph 0")
    settle(page)
    page.keyboard.press("a")
    expect(page.locator("[data-quietly]")).to_contain_text("Read to the end first")
    page.get_by_role("button", name="Approve").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".strip")).to_have_count(0)
    page.locator("[data-end]").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    approve(page)
    expect(page.locator(".strip")).to_contain_text("Approved")
    page.clock.run_for(10_000)
    all_sent(page)
    assert house.state(submission) is State.APPROVED


def test_takes_verdicts_back_one_by_one_with_what_was_written(house: House, at_desk: Callable[..., Visit]) -> None:
    ids = letters(house, 3)
    page = at_desk().page
    opened(page, "Letter number 1.")
    settle(page)
    page.keyboard.press("r")
    page.keyboard.press("4")
    page.locator("#reason").fill("Beside the point, I think.")
    page.keyboard.press("Control+Enter")
    opened(page, "Letter number 2.")
    approve(page)
    opened(page, "Letter number 3.")
    expect(page.locator(".strip")).to_contain_text("1 more on the way")
    page.keyboard.press("u")
    opened(page, "Letter number 2.")
    expect(page.locator("#rejection")).to_be_hidden()
    page.keyboard.press("u")
    opened(page, "Letter number 1.")
    expect(page.locator("#reason")).to_have_value("Beside the point, I think.")
    expect(page.locator("input[name=reason_code][value=off_topic]")).to_be_checked()
    page.clock.run_for(20_000)
    assert states(house, ids) == {State.PENDING}
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(page.locator("[data-quietly]")).to_contain_text("nothing to take back")


@pytest.mark.parametrize("how", ["another page", "closed", "signed out"])
def test_sends_what_it_holds_when_the_page_is_left(house: House, at_desk: Callable[..., Visit], how: str) -> None:
    ids = letters(house, 3)
    visitor = at_desk()
    page = visitor.page
    for number in (1, 2):
        opened(page, f"Letter number {number}.")
        approve(page)
    opened(page, "Letter number 3.")
    assert states(house, ids) == {State.PENDING}
    if how == "another page":
        visitor.go("/")
    elif how == "closed":
        page.close(run_before_unload=True)
    else:
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile("/$"))
    beside = visitor.context.new_page()
    for _ in range(100):
        beside.goto(visitor.address + "/")
        if states(house, ids[:2]) == {State.APPROVED}:
            break
    assert [house.state(each) for each in ids] == [State.APPROVED, State.APPROVED, State.PENDING]


def test_brings_a_refused_verdict_back_with_its_words_even_after_a_new_sign_in(
    house: House, at_desk: Callable[..., Visit]
) -> None:
    [first, _] = letters(house, 2)
    visitor = at_desk()
    page = visitor.page
    opened(page, "Letter number 1.")
    settle(page)
    page.keyboard.press("r")
    page.keyboard.press("1")
    page.locator("#reason").fill("It sells shoes.")
    page.keyboard.press("Control+Enter")
    opened(page, "Letter number 2.")
    cookies = visitor.context.cookies()
    visitor.context.clear_cookies()
    visitor.expected |= {401}
    page.clock.run_for(10_000)
    strip = page.locator(".strip.back")
    expect(strip).to_contain_text("You are signed out. Nothing was changed.")
    expect(strip).to_contain_text("It sells shoes.")
    assert cookies
    strip.get_by_role("link", name="Sign in").click()
    page.get_by_label("E-mail").fill(ADA)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    opened(page, "Letter number 1.")
    strip = page.locator(".strip.back")
    expect(strip).to_contain_text("It sells shoes.")
    strip.get_by_role("link", name="Open it").click()
    expect(page.locator("#reason")).to_have_value("It sells shoes.")
    settle(page)
    page.keyboard.press("Control+Enter")
    opened(page, "Letter number 2.")
    page.clock.run_for(10_000)
    all_sent(page)
    assert house.state(first) is State.REJECTED


@pytest.mark.parametrize("how", ["hidden", "left"])
def test_sends_what_no_browser_keeps_alive(house: House, at_desk: Callable[..., Visit], how: str) -> None:
    [first, second] = letters(house, 2)
    visitor = at_desk()
    # As beyond 64 KiB, which a browser allows to all requests that outlive their page together (Fetch, 4.6); and, as
    # some browsers do, it cuts the others off while the page goes away, which still hears of it.
    visitor.context.add_init_script(
        "const plain = fetch; let gone = false; addEventListener('pagehide', () => { gone = true; });"
        "const cut = () => Promise.reject(new TypeError('Failed to fetch'));"
        "fetch = (to, how) => gone || how?.keepalive ? cut() : plain(to, how);"
    )
    page = visitor.go("/desk/")
    opened(page, "Letter number 1.")
    approve(page)
    opened(page, "Letter number 2.")
    if how == "hidden":
        look_away(page)
    else:
        visitor.go("/about")
        assert house.state(first) is State.PENDING
        visitor.go("/desk/")
    all_sent(page)
    assert [house.state(first), house.state(second)] == [State.APPROVED, State.PENDING]


def test_sends_early_what_would_be_too_much_to_send_at_once(house: House, at_desk: Callable[..., Visit]) -> None:
    ids = letters(house, 3)
    page = at_desk().page
    for number in (1, 2):
        opened(page, f"Letter number {number}.")
        settle(page)
        page.keyboard.press("r")
        page.keyboard.press("1")
        page.locator("#reason").fill("ж" * 2000)
        page.locator("#told").fill("ж" * 2000)
        page.keyboard.press("Control+Enter")
    opened(page, "Letter number 3.")
    expect(page.locator(".strip .clock")).to_be_visible()
    expect(page.locator(".strip")).not_to_contain_text("on the way")
    assert [house.state(each) for each in ids] == [State.REJECTED, State.PENDING, State.PENDING]


def test_hears_only_what_belongs_to_the_reason_while_it_is_asked_why(
    house: House, at_desk: Callable[..., Visit]
) -> None:
    letters(house, 3)
    page = at_desk().page
    opened(page, "Letter number 1.")
    page.keyboard.press("j")
    opened(page, "Letter number 2.")
    expect(page.locator("#main[data-seen]")).to_be_attached()
    settle(page)
    page.keyboard.press("r")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    for each in "ahsjkuxo":
        page.keyboard.press("2")
        expect(page.locator("input[name=reason_code][value=abuse]")).to_be_focused()
        page.keyboard.press(each)
        expect(page.locator("#reason")).to_be_focused()
        page.locator("input[name=reason_code]:checked").focus()
    expect(page.locator("#reason")).to_have_value("ahsjkuxo")
    expect(page.locator("#rejection")).to_be_visible()
    expect(page.locator(".strip")).to_have_count(0)
    opened(page, "Letter number 2.")
    page.keyboard.press("Escape")
    expect(page.locator("#rejection")).to_be_hidden()
    page.keyboard.press("a")
    expect(page.locator(".strip")).to_contain_text("Approved")


def test_decides_once_by_a_double_click(house: House, at_desk: Callable[..., Visit]) -> None:
    ids = letters(house, 3)
    page = at_desk().page
    opened(page, "Letter number 1.")
    settle(page)
    page.get_by_role("button", name="Approve").dblclick()
    opened(page, "Letter number 2.")
    expect(page.locator(".strip")).not_to_contain_text("on the way")
    page.clock.run_for(10_000)
    all_sent(page)
    assert [house.state(each) for each in ids] == [State.APPROVED, State.PENDING, State.PENDING]


def test_keeps_the_title_of_a_hidden_tab_true(house: House, at_desk: Callable[..., Visit]) -> None:
    page = at_desk().page
    expect(page).to_have_title(re.compile("^[(]0[)] Desk - "))
    look_away(page)
    house.send("A letter that came meanwhile.")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(50_000)
    assert asked == []
    page.clock.run_for(14_000)
    expect(page).to_have_title(re.compile("^[(]1[)] 1 letter - Desk - "))
    assert len(asked) == 1
    expect(page.locator("#waiting li")).to_have_count(0)
    look_back(page)
    page.clock.run_for(4000)
    expect(page.locator("#waiting li")).to_have_count(1)
    house.send("Another.")
    page.clock.run_for(4000)
    expect(page).to_have_title(re.compile("^[(]2[)] 2 letters - Desk - "))


def test_hears_a_key_that_is_held_down_once(house: House, at_desk: Callable[..., Visit]) -> None:
    letters(house, 4)
    page = at_desk().page
    opened(page, "Letter number 1.")
    page.keyboard.down("j")
    opened(page, "Letter number 2.")
    for _ in range(3):
        page.keyboard.down("j")
    page.keyboard.up("j")
    page.keyboard.press("Shift+J")
    page.keyboard.press("Control+j")
    page.locator("[data-help] button").click()
    expect(page.locator("#keys")).to_be_visible()
    opened(page, "Letter number 2.")


def test_hears_no_key_that_a_moderator_turned_off(house: House, at_desk: Callable[..., Visit]) -> None:
    letters(house, 2)
    visitor = at_desk()
    page = visitor.page
    opened(page, "Letter number 1.")
    page.keyboard.press("?")
    page.get_by_role("button", name="Turn these keys off").click()
    expect(page.get_by_role("button", name="Turn these keys on")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    for _ in range(2):
        page.keyboard.press("j")
        opened(page, "Letter number 1.")
        visitor.go("/desk/")
    page.locator("[data-help] button").click()
    page.get_by_role("button", name="Turn these keys on").click()
    expect(page.get_by_role("button", name="Turn these keys off")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("j")
    opened(page, "Letter number 2.")


def test_holds_by_one_key_and_shows_the_others_who_asks(house: House, at_desk: Callable[..., Visit]) -> None:
    letters(house, 2)
    ada = at_desk().page
    opened(ada, "Letter number 1.")
    ada.keyboard.press("h")
    opened(ada, "Letter number 2.")
    expect(ada.locator("#waiting li")).to_have_count(1)
    expect(ada.locator("[data-number=held]")).to_have_text("1")
    ada.get_by_role("link", name="Held").click()
    opened(ada, "Letter number 1.")
    ben = at_desk(BEN).page
    expect(ben.locator("#waiting li").first).to_contain_text("Ada asks for a second reader")
    expect(ben.locator(".held")).to_contain_text("Ada asks for a second reader")
    ada.get_by_role("button", name="Let go").click()
    expect(ada.get_by_role("heading", level=1)).to_contain_text("Nothing")


def test_moves_nothing_above_the_next_card_and_goes_back_as_browsers_do(
    house: House, at_desk: Callable[..., Visit]
) -> None:
    letters(house, 2)
    visitor = at_desk()
    page = visitor.page
    opened(page, "Letter number 1.")
    before = [page.locator(each).bounding_box() for each in (".masthead", "#tabs", "#reading")]
    approve(page)
    opened(page, "Letter number 2.")
    after = [page.locator(each).bounding_box() for each in (".masthead", "#tabs", "#reading")]
    assert [(each["x"], each["y"]) for each in before if each] == [(each["x"], each["y"]) for each in after if each]
    assert page.evaluate("document.activeElement.id") == "reading"
    address = page.url
    page.keyboard.press("u")
    opened(page, "Letter number 1.")
    page.keyboard.press("j")
    opened(page, "Letter number 2.")
    visitor.go("/about")
    page.go_back()
    assert page.url == address
    opened(page, "Letter number 2.")


def test_finds_what_came_while_the_last_one_was_read(house: House, at_desk: Callable[..., Visit]) -> None:
    letters(house, 1)
    page = at_desk().page
    opened(page, "Letter number 1.")
    page.keyboard.press("j")
    expect(page.locator("[data-quietly]")).to_contain_text("Nothing else is waiting")
    house.send("A letter that came late.")
    page.clock.run_for(4000)
    expect(page.locator("#waiting li")).to_have_count(2)
    approve(page)
    opened(page, "A letter that came late.")


def test_ticks_letters_by_key_and_decides_on_them_at_once(house: House, at_desk: Callable[..., Visit]) -> None:
    ids = letters(house, 3)
    visitor = at_desk()
    page = visitor.go("/desk/letters")
    for key in ("j", "x", "j", "j", "x"):
        page.keyboard.press(key)
    expect(page.locator("[data-ticked]")).to_have_text("2 of 3 ticked.")
    page.get_by_role("button", name="Approve those ticked").click()
    expect(page.locator(".outcomes")).to_contain_text("2 of 2 approved")
    assert [house.state(each) for each in ids] == [State.APPROVED, State.PENDING, State.APPROVED]


def test_keeps_every_button_within_a_narrow_screen_and_apart(house: House, at_desk: Callable[..., Visit]) -> None:
    for each in ("One.", "Two."):
        house.post(each)
    replies = house.answer("An answer to look at twice.")
    house.reject(replies[1], by=house.ben, code="harm", reason=REASON)
    answer, vetoed = map(house.submission, replies)
    letter, _ = letters(house, 2)
    visitor = at_desk()
    page = visitor.page
    page.set_viewport_size(WIDTHS[390])
    for submission in (letter, answer, vetoed):
        visitor.go(f"/desk/submissions/{submission}")
        expect(page.locator("#tabs a").filter(has_text="All")).to_have_text(re.compile("^All 4$"))
        assert_apart(page, at_least=4)
    approve(page)
    expect(page.locator(".strip")).to_be_visible()
    assert_apart(page, at_least=5)


def assert_apart(page: Page, *, at_least: int) -> None:
    """Check that what can be pressed at the foot of the page is on the screen, tall enough, and covers nothing else."""
    page.evaluate("scrollTo(0, 0)")
    found = [each.bounding_box() for each in page.locator(".foot button, .foot a").filter(visible=True).all()]
    boxes = [(each["x"], each["y"], each["x"] + each["width"], each["y"] + each["height"]) for each in found if each]
    assert len(boxes) >= at_least
    for left, top, right, bottom in boxes:
        assert (left >= 0, right <= 390, bottom <= 844, bottom - top >= 44) == (True, True, True, True)
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize("javascript", [True, False])
def test_decides_nothing_by_enter_in_a_field(house: House, at_desk: Callable[..., Visit], *, javascript: bool) -> None:
    [first] = letters(house, 1)
    page = at_desk(javascript=javascript).go("/desk/letters")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    for field in (page.locator("input[name=ticked]"), page.get_by_label("Insults, threats or hatred")):
        field.check()
        field.press("Enter")
    page.get_by_role("button", name="Reject those ticked").click()
    expect(page.locator(".outcomes")).to_contain_text("1 of 1 rejected")
    assert len(sent) == 1
    assert house.state(first) is State.REJECTED


def _public_id(house: House, submission: int) -> str:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Comment.public_id).where(Comment.submission_id == submission)).one()
