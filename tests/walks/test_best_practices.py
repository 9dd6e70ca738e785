"""Every page of the site as Lighthouse looks for best practices, on a phone and on a desk: it keeps all of them.

`bench.pages` says which they are and where the list is from. The pages are those of the URL map. What Lighthouse says
of descriptions for search engines and of what moves on a page is held here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from bench.pages import PRACTICES, WATCH, practices
from bench.reading import furnished, slug_of, started, web
from flask import Flask
from ground import chromium
from ground.house import ADA, PASSWORD, SLUG, House, Lived, live, tree
from ground.visiting import WIDTHS, sign_in, visit, wait_until
from playwright.sync_api import Browser, Route, sync_playwright

from bridge.app import create_app
from bridge.web.access import Access, declared

pytestmark = pytest.mark.slow

LETTERS = 60
"""More than one page of them."""
LONG = f"/essays/{slug_of(LETTERS)}"
BESIDE = [LONG, f"{LONG}?page=2", f"{LONG}?lang=ar", f"{LONG}?page=2&lang=de", f"{LONG}/embed", f"{LONG}/embed?page=2"]
QUIET = "nobody-wrote-yet"
STILL = [LONG, f"{LONG}?page=2", f"{LONG}/embed", f"/essays/{SLUG}", f"/essays/{QUIET}"]
MODULES = re.compile(r"/static/(form|thread)\.js")
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
FAULTS = """<html><head><meta name="viewport" content="width=980"></head>
<body style="font-size: 9px"><p>Small words.</p>
<input><img src="/static/picture.png" width="90" height="20"><img src="https://elsewhere.example/picture.png">
<script>
  document.querySelector("input").addEventListener("paste", (event) => event.preventDefault());
  navigator.geolocation.getCurrentPosition(() => {});
  Notification.requestPermission();
  const request = new XMLHttpRequest();
  request.open("GET", "/static/favicon.svg", false);
  request.send();
  console.error("It broke.");
</script>"""
PICTURE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff\xff\x7f\x00\t\xfb\x03\xfd\x05CE\xca\x00\x00\x00\x00IEND\xaeB`\x82"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A site with a long thread and something of every kind."""
    made = furnished(tmp_path_factory.mktemp("practices"), sizes=(LETTERS,))
    made.essay(QUIET)
    return made


@pytest.fixture(scope="module")
def lived(house: House) -> Lived:
    return live(house)


@pytest.fixture(scope="module")
def app(house: House) -> Flask:
    return create_app(house.site)


@pytest.fixture(scope="module")
def address(house: House) -> Iterator[str]:
    """Where that site is served, as `emeritus web` serves it."""
    with ExitStack() as stack:
        server = started(stack, web(house.site.settings.emeritus_data), "/healthz")
        server.connection.close()
        yield f"http://localhost:{server.port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


def pages(app: Flask, lived: Lived, *access: Access) -> list[str]:
    """Return where the pages stand that answer these."""
    client, found = app.test_client(), []
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()) and declared(app, rule.endpoint) in access:
            path = lived.address(rule)
            answer = client.get(path, buffered=True)
            if answer.status_code == 200 and answer.mimetype == "text/html":
                found.append(path)
    return found


def test_keeps_every_best_practice(browser: Browser, address: str, app: Flask, lived: Lived) -> None:
    reader = visit(browser, address)
    found = pages(app, lived, Access.PUBLIC, Access.AUTHOR, Access.SIGN_IN)
    assert len(found) > 20
    for path in [*found, *BESIDE]:
        reader.page.set_viewport_size(WIDTHS[390])
        assert practices(reader.page, address + path, WIDTHS[1280]) == {}, path
    reader.leave()


def test_keeps_them_at_the_desk(browser: Browser, address: str, app: Flask) -> None:
    moderator = visit(browser, address)
    sign_in(moderator, ADA, PASSWORD)
    for path in ("/desk/", "/desk/letters", "/desk/decided", "/desk/voices", "/desk/account"):
        assert practices(moderator.page, address + path) == {}, path
    moderator.leave()


def test_would_see_each_of_them_fail(browser: Browser, address: str) -> None:
    headers = {"Content-Type": "text/html", "Content-Security-Policy": "img-src 'self'"}
    with closing(browser.new_page()) as page:
        page.route(f"{address}/bad", lambda route: route.fulfill(body=FAULTS, headers=headers))
        page.route("**/picture.png", lambda route: route.fulfill(body=PICTURE, content_type="image/png"))
        found = practices(page, f"{address}/bad")
    # There is no third party here to set a cookie; that none is asked for anything is what every visit sees to.
    assert set(PRACTICES) - set(found) == {"third-party-cookies"}


def test_tells_search_engines_what_is_on_a_page(app: Flask, lived: Lived) -> None:
    for path in pages(app, lived, Access.PUBLIC):
        said = {each.get("name"): each.get("content") for each in tree(app.test_client().get(path)).iter("meta")}
        assert said.get("description") or said.get("robots") == "noindex", path


@pytest.mark.parametrize("code", ["en", "de", "ar"])
def test_moves_nothing_when_its_modules_come_late(browser: Browser, address: str, code: str) -> None:
    reader = visit(browser, address)
    reader.page.add_init_script(WATCH)
    late: list[Route] = []
    reader.page.route(MODULES, lambda route: late.append(route))
    for path in STILL:
        for size in WIDTHS.values():
            reader.page.set_viewport_size(size)
            reader.page.goto(f"{address}{path}{'&' if '?' in path else '?'}lang={code}", wait_until="commit")
            wait_until(reader.page, "told.FCP > 0")
            assert late
            while late:
                late.pop().continue_()
            reader.page.wait_for_load_state()
            reader.page.evaluate(TWO_FRAMES)
            assert reader.page.evaluate("told.CLS") == 0, f"{path} at {size['width']} px"
    reader.leave()
