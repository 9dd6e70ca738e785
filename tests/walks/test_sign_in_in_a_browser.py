"""Signing in with a real browser, under the site's own policy: a code, a passkey, a recovery code, and who forgot.

A passkey cannot belong to an IP address, so the site is called localhost. The authenticator is Chromium's virtual one.
"""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ground import chromium
from ground.house import ADA, BEN, PASSWORD, furnish, site_over
from ground.looking import shut_out
from ground.visiting import WIDTHS, Visit, sign_in, visit
from passlib.totp import TOTP
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from bridge import db
from bridge.app import create_app
from bridge.people import accounts
from bridge.site import Site

pytestmark = [
    pytest.mark.slow,
    # Werkzeug's little server leaves a file open where the browser went on before it had it whole.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture
def served(sqlite_url: str, tmp_path: Path) -> Iterator[Site]:
    """A site that answers at its own address."""
    database = db.connect(sqlite_url)
    server = make_server("127.0.0.1", 0, lambda *_: [], threaded=True)
    site = site_over(database, tmp_path, site_url=f"http://localhost:{server.server_port}")
    furnish(site)
    with site.database.sessions.begin() as session:
        ada = accounts.of_moderator(session, accounts.moderator_of(session, ADA))
        accounts.change_role(session, ada.id, "admin", by=None)
    server.app = create_app(site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()
    database.dispose()


def code(secret: str, steps: int = 0) -> str:
    return str(TOTP(key=secret.replace("-", "")).generate(time=time.time() + 30 * steps).token)


def sound(page: Page, name: str, visitor: Visit) -> None:
    """See that a page has no violation that axe knows, and that it fits a narrow window."""
    for width, size in WIDTHS.items():
        page.set_viewport_size(size)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} wide at {width}"
    assert shut_out(page) == [], name
    visitor.picture(f"account-{name}")


def begin(visitor: Visit, email: str = ADA) -> Page:
    page = visitor.page
    page.goto(f"{visitor.address}/desk/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    return page


def leave_desk(page: Page) -> None:
    page.get_by_role("button", name="Sign out", exact=True).click()


def test_signs_in_with_a_code_and_with_a_recovery_code(served: Site, browser: Browser) -> None:
    visitor = visit(browser, served.settings.address)
    sign_in(visitor, ADA, PASSWORD)
    page = visitor.go("/desk/account")
    sound(page, "own", visitor)
    page.get_by_role("link", name="Set one up").click()
    secret = page.locator("p.code").inner_text()
    expect(page.locator("svg.qr")).to_be_visible()
    sound(page, "authenticator", visitor)
    page.get_by_label("Code", exact=True).fill("000000")
    visitor.expected |= {422}
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("alert")).to_contain_text("This code is not right")
    # What the phone was shown is still good.
    assert page.locator("p.code").inner_text() == secret
    page.get_by_label("Code", exact=True).fill(code(secret, -1))
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("status")).to_contain_text("Your authenticator is set up")
    page.get_by_role("button", name="Make recovery codes").click()
    codes = page.locator("ol.codes-made code").all_inner_texts()
    sound(page, "codes", visitor)
    leave_desk(page)

    page = begin(visitor)
    expect(page.get_by_role("heading", name="Your code")).to_be_visible()
    sound(page, "code", visitor)
    page.get_by_label("The six digits").fill(code(secret))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r":\d+/desk/$"))
    leave_desk(page)

    page = begin(visitor)
    page.get_by_role("link", name="Use a recovery code").click()
    sound(page, "recovery", visitor)
    page.get_by_label("One of the codes").fill(codes[0])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r":\d+/desk/$"))
    visitor.leave()


def test_signs_in_with_a_passkey_alone_and_after_a_password(served: Site, browser: Browser) -> None:
    visitor = visit(browser, served.settings.address)
    devices = visitor.context.new_cdp_session(visitor.page)
    devices.send("WebAuthn.enable")
    made = devices.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                # Built into the machine: what the library would leave out.
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    sign_in(visitor, ADA, PASSWORD)
    page = visitor.go("/desk/account")
    page.get_by_role("link", name="Add a passkey").click()
    sound(page, "passkey", visitor)
    page.get_by_label("Its name, for you").fill("This machine")
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/desk/account?just=passkey")
    expect(page.get_by_text("This machine")).to_be_visible()
    sound(page, "with-passkey", visitor)
    leave_desk(page)

    page = visitor.go("/desk/sign-in?next=/desk/account")
    sound(page, "sign-in", visitor)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url(re.compile(r":\d+/desk/account$"))
    leave_desk(page)

    begin(visitor).get_by_role("button", name="Go on").click()
    page.wait_for_url(re.compile(r":\d+/desk/$"))
    # It is still asked who it is, and a passkey answers that as well.
    page = visitor.go("/desk/sign-in/again?next=/desk/people")
    sound(page, "again", visitor)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(re.compile(r":\d+/desk/people$"))
    sound(page, "people", visitor)
    leave_desk(page)

    # Somebody else holds the device: it will not say who they are.
    devices.send("WebAuthn.setUserVerified", {"authenticatorId": made["authenticatorId"], "isUserVerified": False})
    page = visitor.go("/desk/sign-in")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text("The passkey was not given")).to_be_visible()
    sound(page, "passkey-not-given", visitor)
    assert visitor.go("/desk/").url.endswith("/desk/sign-in?next=/desk/")
    visitor.leave()


def test_gives_a_passkey_of_one_person_no_way_into_anothers_second_step(served: Site, browser: Browser) -> None:
    visitor = visit(browser, served.settings.address)
    devices = visitor.context.new_cdp_session(visitor.page)
    devices.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "usb",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    one = devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]
    keys = {}
    for email in (ADA, BEN):
        sign_in(visitor, email, PASSWORD)
        page = visitor.go("/desk/account/passkeys")
        page.get_by_label("Its name, for you").fill("A key")
        page.get_by_role("button", name="Go on").click()
        page.wait_for_url("**/desk/account?just=passkey")
        (keys[email],) = devices.send("WebAuthn.getCredentials", {"authenticatorId": one})["credentials"]
        devices.send("WebAuthn.clearCredentials", {"authenticatorId": one})
        leave_desk(page)
    # Ada's password, and Ben's key under the number that Ada's has: the device is asked for Ada's.
    devices.send("WebAuthn.addCredential", {"authenticatorId": one, "credential": keys[BEN]})
    page = begin(visitor)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("The passkey was not given")).to_be_visible()
    # A device that answers all the same, with its own.
    page.evaluate(
        """() => { const form = document.querySelector("form[data-passkey]");
        const options = JSON.parse(form.dataset.options); options.allowCredentials = [];
        form.dataset.options = JSON.stringify(options); }"""
    )
    page.get_by_role("button", name="Use the passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("does not sign in here")
    assert visitor.go("/desk/").url.endswith("/desk/sign-in?next=/desk/")
    visitor.leave()


def test_sets_a_password_by_a_link_without_javascript(served: Site, browser: Browser) -> None:
    visitor = visit(browser, served.settings.address, javascript=False)
    page = visitor.go("/desk/sign-in")
    page.get_by_role("link", name="Forgotten").click()
    page.get_by_label("Your e-mail").fill(BEN)
    page.get_by_role("button", name="Send me a link").click()
    expect(page.get_by_role("status")).to_contain_text("If this is a moderator's address")
    with served.database.reading_sessions() as session:
        ben = accounts.of_moderator(session, accounts.moderator_of(session, BEN))
    token = accounts.link_to(served.keys, ben, accounts.RESET, accounts.RESET_FOR)
    page = visitor.go(f"/desk/resets/{token}")
    page.get_by_label("Password").fill("entirely-new-words")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("status")).to_contain_text("The password is set")
    page.get_by_label("E-mail").fill(BEN)
    page.get_by_label("Password").fill("entirely-new-words")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(re.compile(r":\d+/desk/$"))
    visitor.leave()
