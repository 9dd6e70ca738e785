"""Proof of work in a real browser; and the pages of admission, which shut nobody out."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground import chromium
from ground.house import SLUG, House, desk_of, site_over
from ground.looking import shut_out
from ground.visiting import WIDTHS, Visit, visit
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from sqlalchemy import update

from bridge.app import create_app
from bridge.letter import admission
from bridge.letter.admission import Arrival, Came
from bridge.page.assets import asset
from bridge.signal import blocks
from bridge.signal.blocks import What
from moderation.queue import awaiting_review
from moderation.records import ModeratorRow

pytestmark = pytest.mark.slow

ADDRESS = "http://localhost"
SOLVE = """async ([address, challenge]) => {
  const { solve } = await import(address);
  let last = performance.now(), longest = 0, solving = true;
  const watch = () => {
    const at = performance.now();
    longest = Math.max(longest, at - last);
    last = at;
    if (solving) setTimeout(watch);
  };
  watch();
  const proof = await solve(challenge);
  solving = false;
  return [proof, longest];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture
def limited(house: House, tmp_path: Path) -> Flask:
    """The application of a site whose limits are on."""
    site = site_over(house.site.database, tmp_path, rate_limits="on", contact="people@site.example")
    return create_app(site)


def reading(browser: Browser, client: FlaskClient) -> Visit:
    """Open a browser that is answered by the application itself, as *client* is."""
    began = visit(browser, ADDRESS)

    def answer(route: Route) -> None:
        request = route.request
        kept = {"cookie", "host"}
        headers = {name: value for name, value in request.all_headers().items() if name[0] != ":" and name not in kept}
        path, sent = request.url.removeprefix(ADDRESS), request.post_data_buffer
        told = client.open(path, method=request.method, headers=headers, data=sent)
        shown = {name: value for name, value in told.headers if name not in {"Content-Encoding", "Set-Cookie"}}
        route.fulfill(status=told.status_code, headers=shown, body=told.get_data())
        told.close()

    began.context.route(f"{ADDRESS}/**", answer)
    return began


def test_solves_what_the_site_asks_while_the_page_stays_smooth(browser: Browser, limited: Flask) -> None:
    site = limited.extensions["site"]
    visitor = reading(browser, limited.test_client())
    visitor.go(f"/essays/{SLUG}/write")
    proof, longest = visitor.page.evaluate(SOLVE, [asset("proof.js"), admission.challenge(site, SLUG)])
    # A pause that nobody feels while typing, and room for a machine that does other things too.
    assert longest < 250
    assert admission._is_proven(site, SLUG, Arrival(Came.PAGE, "192.0.2.7", proof=proof))
    assert json.loads(base64.b64decode(proof))["solution"]["time"] < 10_000
    visitor.leave()


def test_takes_more_letters_of_a_browser_that_does_the_work(browser: Browser, house: House, limited: Flask) -> None:
    visitor = reading(browser, limited.test_client())
    page = visitor.page
    for number in range(3):
        visitor.go(f"/essays/{SLUG}/write")
        page.locator("#author").fill("Reader")
        page.locator("#body").fill(f"My letter, number {number}.")
        page.locator("input[name=altcha]").wait_for(state="attached")
        page.get_by_role("button", name="Send", exact=True).click()
        page.wait_for_url("**/letters/**")
    with house.site.database.reading_sessions() as session:
        assert len(awaiting_review(session)) == 3
    visitor.leave()


def test_shuts_nobody_out_who_is_refused(browser: Browser, house: House, limited: Flask) -> None:
    blocks.add(limited.extensions["site"], What.NETWORK, "127.0.0.1", "", moderator=house.ada)
    visitor = reading(browser, limited.test_client())
    page = visitor.page
    visitor.go(f"/essays/{SLUG}/write")
    page.locator("#author").fill("Reader")
    page.locator("#body").fill("I mean well.")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("try another connection")
    expect(page.locator("#body")).to_have_value("I mean well.")
    expect(page.get_by_role("link", name="people@site.example")).to_be_visible()
    shuts_nobody_out(page)
    page.get_by_label("Let a person look at it all the same").check()
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_url("**/letters/**")


def test_shuts_nobody_out_of_the_block_list(browser: Browser, house: House, app: Flask) -> None:
    with house.site.database.sessions.begin() as session:
        session.execute(update(ModeratorRow).where(ModeratorRow.id == house.ada).values(role="admin"))
    for what, value in ((What.NETWORK, "2001:db8:1::/48"), (What.DOMAIN, f"{'x' * 60}.example"), (What.WORD, "casino")):
        blocks.add(house.site, what, value, "A flood, one night in May. " * 8, moderator=house.ada)
    visitor = reading(browser, desk_of(app))
    visitor.go("/desk/blocks")
    shuts_nobody_out(visitor.page)
    visitor.leave()


def shuts_nobody_out(page: Page) -> None:
    """See that a page has no violation that axe knows, light and dark, and that it fits a phone."""
    page.set_viewport_size(WIDTHS[390])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert shut_out(page) == []
