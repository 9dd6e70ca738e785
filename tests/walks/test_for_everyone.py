"""Reading and writing by the keyboard alone, by a screen reader, where nothing may move, and where no script runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from flask import Flask
from ground import chromium
from ground.house import ADA, PASSWORD, SLUG, House, Lived, desk_of, furnish, live, site_over
from ground.looking import shut_out
from ground.visiting import WIDTHS, Visit, served, sign_in, visit, wait_until
from playwright.sync_api import Browser, Page, expect, sync_playwright

from bridge import db
from bridge.app import create_app
from bridge.people import accounts
from bridge.web.access import Access, declared

pytestmark = [
    pytest.mark.slow,
    # Werkzeug's server drops a file half sent when a browser goes away.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ESSAY = f"/essays/{SLUG}"
LETTER = re.compile(r"/letters/")
READERS = (Access.PUBLIC, Access.AUTHOR, Access.SIGN_IN)
MODERATORS = (Access.MODERATOR, Access.ADMIN)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def house(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A site with an administrator, and with words of every kind in its letters."""
    folder = tmp_path_factory.mktemp("everyone")
    database = db.connect(f"sqlite:///{shutil.copy(sqlite_template, folder / 'emeritus.db')}")
    site = site_over(database, folder)
    made = House(site, furnish(site))
    with site.database.sessions.begin() as session:
        ada = accounts.of_moderator(session, made.ada)
        accounts.change_role(session, ada.id, "admin", by=None)
    made.exchange("# A heading\n\nDo you *dream*?", "#### Of a kind\n\nI do not. See [this](https://a.example/b).")
    made.post("Is anybody there?")
    (rehearsed,) = made.answer("Somebody is.", rehearsed=True)
    made.approve(rehearsed)
    yield made
    database.dispose()


@pytest.fixture(scope="module")
def lived(house: House) -> Lived:
    return live(house)


@pytest.fixture(scope="module")
def app(house: House) -> Flask:
    return create_app(house.site)


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    with served(app) as at:
        yield at


@pytest.fixture
def reader(browser: Browser, address: str) -> Iterator[Visit]:
    """Open a reader's browser; what went wrong in it fails the test."""
    visitor = visit(browser, address)
    yield visitor
    visitor.leave()


def test_would_see_a_target_that_is_too_small(reader: Visit) -> None:
    page = reader.go("/about")
    assert shut_out(page) == []
    page.evaluate(
        """() => {
            const row = document.createElement("p");
            for (const name of ["One", "Other"]) {
                const button = document.createElement("button");
                button.textContent = name;
                for (const side of ["width", "height", "minHeight"]) button.style[side] = "12px";
                button.style.padding = "0";
                row.append(button);
            }
            document.querySelector("main").append(row);
        }"""
    )
    assert {each.partition(":")[0] for each in shut_out(page)} == {"target-size"}


# Where nothing may move


MOVING = """() => {
  const found = document.getAnimations().map((each) => `an animation of ${each.effect?.target?.localName}`);
  for (const each of document.querySelectorAll("*")) {
    for (const part of [null, "::before", "::after"]) {
      const { transitionDuration: takes, animationName, scrollBehavior } = getComputedStyle(each, part);
      if (!/^0s(, 0s)*$/.test(takes)) found.push(`${each.localName}${part ?? ""} in ${takes}`);
      if (animationName !== "none") found.push(`${each.localName}${part ?? ""} by ${animationName}`);
      if (part === null && scrollBehavior !== "auto") found.push(`${each.localName} scrolls ${scrollBehavior}`);
    }
  }
  return found;
}"""
"""What moves by itself, or would."""
ON_FOCUS = """() => {
  const kinds = new Map();
  for (const each of document.querySelectorAll("a, button, input, textarea, select, summary, [tabindex]")) {
    if (each.checkVisibility()) kinds.set(`${each.localName} ${each.className} ${each.parentElement.className}`, each);
  }
  const found = [];
  for (const each of kinds.values()) {
    each.focus({ preventScroll: true });
    const { transitionDuration, animationName } = getComputedStyle(each);
    if (!/^0s(, 0s)*$/.test(transitionDuration) || animationName !== "none") found.push(each.outerHTML);
  }
  return found.concat(document.getAnimations().map((each) => each.effect?.target?.outerHTML));
}"""
PLACES = """() => {
  const places = {};
  for (const each of document.querySelectorAll("a, button, summary, label, input, textarea, .block")) {
    const { left, top, width } = each.getBoundingClientRect();
    const [x, y] = [left + Math.min(4, width / 2), top + 4];
    if (!each.checkVisibility() || x < 0 || y < 0 || x > innerWidth || y > innerHeight) continue;
    const kind = [];
    for (let at = each; at !== document.body; at = at.parentElement) kind.push(`${at.localName}.${at.className}`);
    places[kind.slice(0, 4).join(" in ")] = [x, y];
  }
  return places;
}"""
"""Where one of each kind is that a pointer may be on."""
UNDER = """() => {
  const moves = (each) => !/^0s(, 0s)*$/.test(getComputedStyle(each).transitionDuration);
  const found = [...document.querySelectorAll(":hover")].filter(moves);
  return [...found, ...document.getAnimations().map((each) => each.effect?.target)].map((each) => each?.outerHTML);
}"""
"""What moves under the pointer."""
MOVE = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("@keyframes turn { to { rotate: 1turn } } * { transition: all 2s; scroll-behavior: smooth }" +
    "h1, a:hover { animation: turn 2s infinite }");
  document.adoptedStyleSheets = [sheet];
}"""
SCROLLED = """
  window.scrolled = [];
  const scroll = Element.prototype.scrollIntoView;
  Element.prototype.scrollIntoView = function (how) { scrolled.push(how?.behavior ?? "auto"); scroll.call(this, how); };
"""


def pages(app: Flask, lived: Lived, *access: Access) -> list[str]:
    """Return where the pages stand that answer these."""
    client, found = desk_of(app) if access == MODERATORS else app.test_client(), []
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()) and declared(app, rule.endpoint) in access:
            answer = client.get(lived.address(rule), buffered=True)
            if answer.status_code == 200 and answer.mimetype == "text/html":
                found.append(lived.address(rule))
    return found


def test_moves_nothing_for_who_wants_nothing_to_move(reader: Visit, app: Flask, lived: Lived) -> None:
    hovered: set[str] = set()
    reader.page.emulate_media(reduced_motion="reduce")
    for access in (READERS, MODERATORS):
        if access == MODERATORS:
            sign_in(reader, ADA, PASSWORD)
        found = pages(app, lived, *access)
        assert len(found) > 20
        for path in found:
            reader.go(path)
            assert still(reader.page, hovered) == [], path


def still(page: Page, hovered: set[str]) -> list[str]:
    """Return what moves on a page: by itself, at the focus, or under a pointer that is on each kind once."""
    found: list[str] = page.evaluate(MOVING) + page.evaluate(ON_FOCUS)
    for kind, (x, y) in page.evaluate(PLACES).items():
        if kind not in hovered:
            hovered.add(kind)
            page.mouse.move(x, y)
            found += page.evaluate(UNDER)
    return found


def test_would_still_whatever_moved(reader: Visit, lived: Lived) -> None:
    page = reader.go(ESSAY)
    page.evaluate(MOVE)
    assert {each.split()[-2] for each in page.evaluate(MOVING)} >= {"in", "by", "scrolls", "of"}
    page.emulate_media(reduced_motion="reduce")
    for path in (ESSAY, f"{ESSAY}/embed", f"/letters/{lived.link}"):
        reader.go(path).evaluate(MOVE)
        assert still(page, set()) == [], path


@pytest.mark.parametrize(("wanted", "how"), [("reduce", "instant"), ("no-preference", "smooth")])
def test_goes_to_the_form_at_once_for_who_wants_nothing_to_move(
    reader: Visit, wanted: Literal["reduce", "no-preference"], how: str
) -> None:
    reader.page.emulate_media(reduced_motion=wanted)
    reader.page.add_init_script(SCROLLED)
    page = reader.go(ESSAY)
    expect(page.locator("[data-count][data-first]")).to_be_visible()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#b0 p, #b0 > *'))")
    page.get_by_role("button", name="Write about this passage").click()
    wait_until(page, f"scrolled.at(-1) === '{how}'")


# With the keyboard alone


AT = """() => {
  const at = document.activeElement;
  if (at === null || at === document.body || at === document.documentElement) return null;
  const looks = () => {
    const { outlineStyle, outlineWidth, outlineColor, boxShadow } = getComputedStyle(at);
    return [outlineStyle === "none" ? "none" : `${outlineStyle} ${outlineWidth} ${outlineColor}`, boxShadow].join("; ");
  };
  const shape = at.getBoundingClientRect();
  const seen = at.checkVisibility({ opacityProperty: true }) && shape.width > 1 && shape.height > 1 &&
    shape.bottom > 0 && shape.top < innerHeight && shape.right > 0 && shape.left < innerWidth;
  const focused = looks();
  at.blur();
  const shows = seen && looks() !== focused;
  at.focus({ preventScroll: true, focusVisible: true });
  const text = at.textContent.replace(/\\s+/g, " ").trim();
  return { shows, is: at.outerHTML.slice(0, 160), name: at.name ?? "", text };
}"""
"""Where the focus is, and whether anybody can see that; null where it is nowhere."""


class Hands:
    """A reader who has a keyboard and no pointer."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def at(self) -> dict[str, Any]:
        """Return where the focus is. It is somewhere, and shows."""
        told: dict[str, Any] | None = self.page.evaluate(AT)
        assert told is not None, f"nothing has the focus at {self.page.url}"
        assert told["shows"], f"nobody sees the focus on {told['is']}"
        return told

    def to(self, what: str, key: str = "Tab") -> None:
        """Go on to what has this name, or says this."""
        for _ in range(80):
            self.page.keyboard.press(key)
            at = self.at()
            assert at["name"] != "website", "no person is to come to the field that catches programs"
            if what in (at["name"], at["text"]):
                return
        raise AssertionError(f"no key leads to {what!r} at {self.page.url}")

    def press(self, key: str) -> None:
        """Press a key that does something on the page; the focus is not lost for it."""
        self.page.keyboard.press(key)
        self.at()

    def type(self, words: str) -> None:
        """Write where the focus is, in the place of what stands there."""
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.type(words)
        self.at()


def test_writes_reads_over_changes_and_takes_back_by_the_keyboard(reader: Visit, house: House, lived: Lived) -> None:
    page = reader.go(ESSAY)
    hands = Hands(page)
    expect(page.locator(".turn")).to_be_visible()
    hands.to("Skip to the text")
    page.keyboard.press("Enter")
    hands.to("Show the newest first")
    hands.press("Enter")
    hands.to("write one")
    page.keyboard.press("Enter")
    hands.to("body")
    hands.type("By hand, *all* of it.")
    hands.to("Emphasis, quotations, links")
    hands.press("Enter")
    expect(page.locator(".marks dl")).to_be_visible()
    hands.to("author")
    hands.type("Reader")
    hands.to("email")
    hands.to("no_reply_needed")
    hands.press("Space")
    expect(page.get_by_label("No answer needed")).to_be_checked()
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    hands.to("Read it over")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Read your letter over")
    hands.to("Change it")
    hands.press("Enter")
    hands.to("body")
    hands.type("By hand, *all* of it, twice.")
    hands.to("Read it over again")
    page.keyboard.press("Enter")
    expect(page.locator(".waiting .words")).to_contain_text("twice")
    hands.to("Send")
    page.keyboard.press("Enter")
    expect(page).to_have_url(LETTER)
    page.wait_for_load_state()
    hands.to("Change it")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Change your letter")
    hands.to("body")
    hands.type("Changed by hand.")
    hands.to("Change it")
    page.keyboard.press("Enter")
    expect(page.locator(".waiting .words")).to_have_text("Changed by hand.")
    hands.to("Take it back")
    hands.press("Enter")
    expect(page.get_by_role("button", name="Yes, take it back")).to_be_visible()
    hands.to("Yes, take it back")
    page.keyboard.press("Enter")
    expect(page.locator(".stations")).to_contain_text("It was taken back")


def test_is_led_back_to_a_refused_letter_by_the_keyboard(reader: Visit) -> None:
    page = reader.go(f"{ESSAY}/write")
    hands = Hands(page)
    for field, words in (("body", "By hand."), ("author", "Reader"), ("email", "no@address")):
        hands.to(field)
        hands.type(words)
    hands.to("Send")
    reader.expected.add(422)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_focused()
    hands.at()
    hands.to("email")
    hands.type("ada@letters.example")
    hands.to("Send")
    page.keyboard.press("Enter")
    expect(page).to_have_url(LETTER)


# With a screen reader


@dataclass(frozen=True, slots=True)
class Node:
    """Something that a screen reader is told of."""

    role: str
    name: str
    description: str
    told: dict[str, Any]
    """Its other properties: `level`, `invalid`, `live` and `focused` among them."""


def tree(page: Page) -> list[Node]:
    """Return what a screen reader is told of a page, in the order in which it reads."""
    instruments = page.context.new_cdp_session(page)
    nodes = instruments.send("Accessibility.getFullAXTree")["nodes"]
    instruments.detach()
    by_id, found = {each["nodeId"]: each for each in nodes}, []
    waiting = [nodes[0]["nodeId"]]
    while waiting:
        node = by_id[waiting.pop(0)]
        waiting = [each for each in node.get("childIds", []) if each in by_id] + waiting
        if not node["ignored"] and node["role"]["value"] != "InlineTextBox":
            told = {each["name"]: each["value"].get("value") for each in node.get("properties", [])}
            name, description = (node.get(of, {}).get("value", "") for of in ("name", "description"))
            found.append(Node(node["role"]["value"], name, description, told))
    return found


def landmarks(told: list[Node]) -> list[tuple[str, str]]:
    kinds = {"banner", "main", "contentinfo", "navigation", "region", "complementary", "search"}
    return [(each.role, each.name) for each in told if each.role in kinds]


def headings_nest(told: list[Node]) -> bool:
    """Say whether there is one heading of the first level, and none that skips a level."""
    levels = [int(each.told["level"]) for each in told if each.role == "heading"]
    return levels.count(1) == 1 and all(
        after <= before + 1 for before, after in zip([0, *levels], levels, strict=False)
    )


AROUND = [("banner", ""), ("navigation", "Site"), ("main", "")]
BELOW = [("contentinfo", ""), ("navigation", "Languages")]


def test_tells_who_wrote_an_answer_before_and_after_its_words(reader: Visit, lived: Lived) -> None:
    correspondence = ("region", "Correspondence")
    for path, places in (
        (ESSAY, [*AROUND, correspondence, *BELOW]),
        (f"{ESSAY}/embed", [("main", ""), correspondence, ("contentinfo", "")]),
    ):
        page = reader.go(path)
        expect(page.locator(".turn")).to_be_visible()
        told = tree(page)
        assert landmarks(told) == places
        assert headings_nest(told)
        read = " ".join(" ".join(each.name for each in told if each.role == "StaticText").split())
        assert re.search(
            r"\bAI Test Voice .{1,40} Of a kind I do not\. See this \. Written by an AI that is retired", read
        )
        assert re.search(r"\bREHEARSAL Test Voice .{1,40} Somebody is\. Not written by a model", read)
        answers = page.locator(".answer")
        assert answers.count() == 3
        for answer in answers.all():
            said = answer.aria_snapshot()
            assert re.match(r"- paragraph:\n  - text: (AI|REHEARSAL) Test Voice\b", said)
            assert ("Written by an AI" in said) != ("Not written by a model" in said)


def test_tells_how_a_letter_stands(reader: Visit, lived: Lived) -> None:
    told = tree(reader.go(f"/letters/{lived.link}"))
    assert landmarks(told) == [*AROUND, *BELOW]
    assert headings_nest(told)
    [now] = reader.page.locator("[aria-current=step]").all()
    assert "A person is going to read it" in now.aria_snapshot()
    assert [each.told["expanded"] for each in told if each.role == "DisclosureTriangle"] == [False]


def test_tells_what_was_refused_and_how_much_is_left(reader: Visit) -> None:
    page = reader.go(f"{ESSAY}/write")
    page.locator("#body").fill("x" * 4950)
    expect(page.get_by_role("status").filter(has_text="Characters left: 50")).to_have_count(1)
    told = tree(page)
    [live] = [each for each in told if each.role == "status"]
    assert live.told["live"] == "polite"
    [field] = [each for each in told if each.role == "textbox" and each.name == "Your letter"]
    assert (field.description, field.told["invalid"]) == ("Characters left: 50", "false")
    for fields, which in (
        ({"email": "no@address", "author": "Reader", "body": "Short."}, "E-mail"),
        ({"email": "", "author": "x" * 500}, "Name"),
        ({"author": "Reader", "body": "x" * 5001}, "Your letter"),
    ):
        for name, words in fields.items():
            page.locator(f"#{name}").fill(words)
        reader.expected.add(422)
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.get_by_role("alert")).to_be_focused()
        told = tree(page)
        assert landmarks(told) == [*AROUND, ("contentinfo", "")]
        assert headings_nest(told)
        [alert] = [each for each in told if each.role == "alert"]
        assert (alert.told["live"], alert.told["focused"]) == ("assertive", True)
        wrong = [each for each in told if each.told.get("invalid") == "true"]
        assert [each.name.startswith(which) for each in wrong] == [True]
        said = page.get_by_role("alert").inner_text()
        assert wrong[0].description.startswith(said.strip())


# Where no script runs


@pytest.mark.parametrize("code", ["en", "ar"])
def test_shuts_nobody_out_where_no_script_runs(reader: Visit, code: str) -> None:
    page = reader.page
    page.set_viewport_size(WIDTHS[390])
    reader.context.set_extra_http_headers({"Accept-Language": code})
    instruments = reader.context.new_cdp_session(page)

    def scripts(run: bool) -> None:
        instruments.send("Emulation.setScriptExecutionDisabled", {"value": not run})

    def look(what: str) -> None:
        page.wait_for_load_state()
        # Axe is a script: one that runs after those of the page were left out.
        scripts(True)
        assert page.evaluate("document.documentElement.lang") == code
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, what
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert shut_out(page) == [], f"{what}, {scheme}"
        scripts(False)

    scripts(False)
    reader.expected.add(422)
    for path in (f"{ESSAY}/write", f"{ESSAY}/embed/write"):
        reader.go(path)
        page.locator("#body").fill("*Softly*, please.")
        page.locator("#author").fill("Reader")
        page.locator("#email").fill("no@address")
        page.locator("main form .primary").click()
        expect(page.get_by_role("alert")).to_be_visible()
        look(f"{path}, refused")
        page.locator("#email").fill("ada@letters.example")
        page.locator("main form button[name=preview]").click()
        expect(page.locator(".waiting .words em")).to_be_visible()
        page.locator("details.change > summary").click()
        look(f"{path}, read over")
        page.locator("main form .primary").click()
        expect(page.locator("[data-sent]")).to_be_visible()
        look(f"{path}, sent")
        if "/embed/" in path:
            continue
        address = page.url
        page.locator("a[href*='/change']").click()
        look("to be changed")
        page.locator("#body").fill("x" * 5001)
        page.locator("main form .primary").click()
        expect(page.get_by_role("alert")).to_be_visible()
        look("not changed")
        page.goto(address)
        page.locator("summary.reject").click()
        look("to be taken back")
        page.locator("form[action*='/withdrawal'] button").click()
        expect(page.locator("[data-withdrawn]")).to_be_visible()
        look("taken back")
        page.locator("a[href*='/erasure']").click()
        look("to be erased")
