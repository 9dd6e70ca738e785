"""Generated hostile words on every surface that shows them, in a real browser without our policy: nothing runs.

Tags, events, quotes, encodings and Markdown are combined by chance (the same each time). What comes out as HTML (pages,
frames, feeds, JSON, mail) is opened as such, for nobody knows what another program does with it.
"""

import json
import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ground import chromium
from ground.generated import letters, name
from ground.house import ADA, PASSWORD, SLUG, House, furnish, site_over
from ground.installation import free_port
from ground.looking import look_at
from ground.postbag import put_down, received
from ground.visiting import Visit, served, sign_in, visit
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import update

from bridge import db
from bridge.app import create_app
from bridge.records import Address
from moderation.base import now

pytestmark = [
    pytest.mark.slow,
    # Werkzeug's server drops a file half sent when a browser goes away.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LETTERS, ANSWERS = 12, 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Iterator[House]:
    database = db.connect(sqlite_url)
    site = site_over(database, tmp_path, site_url=f"http://localhost:{free_port()}")
    yield House(site, furnish(site))
    database.dispose()


@pytest.fixture
def address(house: House) -> Iterator[str]:
    with served(create_app(house.site), port=int(house.site.settings.address.rpartition(":")[2])) as at:
        yield at


def test_runs_nothing_of_what_was_generated(house: House, address: str, browser: Browser) -> None:
    sent = []
    for number, (letter, answer) in enumerate(zip(letters(1, LETTERS), letters(2, LETTERS), strict=True)):
        receipt = house.send(letter, author=name(number), email=f"r{number}@letters.example", language="en")
        with house.site.database.sessions.begin() as session:
            session.execute(update(Address).values(confirmed_at=now()))
        sent.append(receipt)
        if number >= 2 * ANSWERS - 2:
            continue  # These wait on the desk, with what answers one of them.
        house.approve(receipt.public_id)
        (reply,) = house.answer(answer)
        if number < ANSWERS:
            house.approve(reply)
    reader = visit(browser, address, bypass_csp=True)
    _on_pages(reader, house, [receipt.token for receipt in sent], [receipt.public_id for receipt in sent])
    _in_previews(reader)
    _at_the_desk(reader)
    _in_what_programs_show(reader, house, sent[0].token)
    reader.leave()


def _on_pages(reader: Visit, house: House, tokens: list[str], ids: list[str]) -> None:
    thread = reader.context.request.get(f"{reader.address}/api/v1/essays/{SLUG}/thread").json()
    answers = [each["reply"]["id"] for each in thread["comments"] if each["reply"]]
    assert len(answers) == ANSWERS
    paths = ["/", f"/essays/{SLUG}", f"/essays/{SLUG}?lang=ar", f"/essays/{SLUG}/embed", "/voices/test-voice"]
    paths += [f"/essays/{SLUG}/{frame}write?answering={each}" for each in answers[:2] for frame in ("", "embed/")]
    paths += [f"/replies/{each}" for each in answers]
    paths += [f"/comments/{each['id']}" for each in thread["comments"]]
    paths += [f"/letters/{token}" for token in tokens] + [f"/letters/{tokens[-1]}/change"]
    paths += [f"/reports?of={each}" for each in (answers[0], thread["comments"][0]["id"])]
    for path in paths:
        reader.go(path)
        look_at(reader.page, path)


def _in_previews(reader: Visit) -> None:
    page = reader.go(f"/essays/{SLUG}")
    for letter in letters(3, 3):
        with page.expect_response(re.compile("/preview")):
            page.locator("#body").fill(letter)
        look_at(page, "the live preview")


def _at_the_desk(reader: Visit) -> None:
    sign_in(reader, ADA, PASSWORD)
    for path in ("/desk/", "/desk/letters", "/desk/decided"):
        reader.go(path)
        look_at(reader.page, path)
    reader.go("/desk/")
    for path in [link.get_attribute("href") or "" for link in reader.page.locator("#waiting a").all()]:
        reader.go(path)
        look_at(reader.page, path)


def _in_what_programs_show(reader: Visit, house: House, token: str) -> None:
    """Open what feeds, JSON and mail hand over as HTML, as a page of its own."""
    get = reader.context.request.get
    shown = []
    for path in ("/feed.atom", f"/essays/{SLUG}/feed.atom", f"/letters/{token}/feed.atom"):
        feed = ElementTree.fromstring(get(reader.address + path).body())
        for each in feed.iter():
            if each.get("type") == "html":
                shown.append((path, each.text or ""))
    told = json.dumps(get(f"{reader.address}/api/v1/essays/{SLUG}/thread").json())
    shown += [("JSON", each) for each in re.findall(r'"html": ("(?:[^"\\]|\\.)*")', told)]
    mails: list[EmailMessage] = [received(house.site, put) for put in put_down(house.site) if put.mail is not None]
    assert len(mails) >= ANSWERS
    for mail in mails:
        body = mail.get_body(("html",))
        assert body is not None
        shown.append((str(mail["Subject"]), str(body.get_content())))
    reader.page.goto("about:blank")  # What is put into a page keeps its timers, and the desk's would miss the desk.
    for where, each in shown:
        html = str(json.loads(each)) if where == "JSON" else each
        # A mail brings its own style, which nobody's words are in.
        reader.page.set_content(re.sub(r"<style>[^<]*</style>|<meta http-equiv[^>]*>", "", html))
        look_at_fragment(reader, where)


def look_at_fragment(reader: Visit, where: str) -> None:
    """Fail for what runs in HTML that stands alone, or calls out; links may lead where they say."""
    ran = reader.page.evaluate("window.__ran ?? null")
    found = reader.page.evaluate(
        """() => [...document.querySelectorAll("*")].flatMap((each) => [
          ...[...each.attributes].filter(({ name, value }) =>
            name.startsWith("on") || name === "srcdoc" || /^\\s*(javascript|vbscript|data):/i.test(value)),
        ].map(({ name, value }) => `${each.localName} ${name}=${value}`).concat(
          each.matches("script:not([type='application/ld+json']), iframe, object, embed, svg, math, img, form, video")
            ? [each.localName] : []))"""
    )
    assert (ran, found) == (None, []), where
