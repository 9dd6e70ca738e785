"""A visit to a site with a real browser, which keeps account of everything that a page must not do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Frame,
    Page,
    Request,
    Route,
    ViewportSize,
)
from werkzeug.serving import WSGIRequestHandler, make_server

from ground.chromium import PATIENCE
from ground.installation import ROOT

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

PICTURES = ROOT / "test-pictures"
WIDTHS: dict[int, ViewportSize] = {390: {"width": 390, "height": 844}, 1280: {"width": 1280, "height": 900}}

# A page's refusal is an answer like another; the browser complains about it in the console all the same.
_REFUSED = "Failed to load resource: the server responded with a status of "
# What the browser itself notes, where a visitor was quicker than the page.
NOTED = "Autofocus processing was blocked because a document already has a focused element."


@dataclass(eq=False)
class Visit:
    """One visitor: a browser of their own, and what went on in it that should not have."""

    context: BrowserContext
    address: str
    page: Page = field(init=False)
    wrongs: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)
    """The statuses above 399 that this visitor provokes."""

    def __post_init__(self) -> None:
        self.context.set_default_timeout(1000 * PATIENCE)
        self.context.on("console", self._console)
        self.context.on("dialog", self._dialog)
        self.context.on("weberror", lambda error: self.wrongs.append(f"error: {error.error.stack or error.error}"))
        self.context.on("request", self._request)
        # Nothing of another host is let out, whatever asks for it.
        self.context.route(lambda url: not self._ours(url), _stop)
        self.page = self.context.new_page()

    def go(self, path: str) -> Page:
        """Open a page of the site."""
        self.page.goto(self.address + path)
        return self.page

    def picture(self, name: str) -> None:
        """Save the page at both widths, light and dark, as it is at this point of the story."""
        PICTURES.mkdir(exist_ok=True)
        for width, size in WIDTHS.items():
            self.page.set_viewport_size(size)
            for scheme in ("light", "dark"):
                self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                self.page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png", full_page=True)

    def leave(self) -> None:
        """Close the browser's window and fail for what went wrong in it."""
        self.context.close()
        assert self.wrongs == []

    def _ours(self, url: str) -> bool:
        return url.startswith((f"{self.address}/", "data:,", "about:blank"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.text == NOTED:
            return
        if message.type not in {"error", "warning"}:
            # No module of ours writes to the console: whatever does was put there by somebody's words.
            self.wrongs.append(f"console: {message.text}")
        elif not any(message.text.startswith(f"{_REFUSED}{status} ") for status in self.expected):
            self.wrongs.append(f"console {message.type} at {self.page.url}: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        self.wrongs.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        if not self._ours(request.url):
            self.wrongs.append(f"foreign request to {urlsplit(request.url).netloc or request.url}")


def _stop(route: Route) -> None:
    route.abort()


def visit(browser: Browser, address: str, *, javascript: bool = True, bypass_csp: bool = False) -> Visit:
    """Begin a visit with a fresh browser."""
    context = browser.new_context(viewport=WIDTHS[1280], java_script_enabled=javascript, bypass_csp=bypass_csp)
    return Visit(context, address)


class _Quiet(WSGIRequestHandler):
    """Says nothing about requests."""

    def log(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(app: WSGIApplication, host: str = "localhost", *, port: int = 0) -> Iterator[str]:
    """Serve an application within the block, at the address that comes of it."""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://{host}:{server.port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def wait_until(page: Page | Frame, truth: str) -> None:
    """Wait until an expression is true in a page; our policy is not bent for it."""
    # It compiles the expression anew at each turn, which the policy forbids to whatever a page does by itself.
    end = time.monotonic() + PATIENCE
    while not page.evaluate(truth):
        assert time.monotonic() < end, truth
        page.wait_for_timeout(50)


def sign_in(visitor: Visit, email: str, password: str) -> None:
    """Go to the desk and sign in by the form."""
    page = visitor.go("/desk/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"{visitor.address}/desk/**")
