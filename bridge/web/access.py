"""Who may reach which address. Every endpoint declares it; one that does not answers nobody."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from flask import Flask, current_app, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    LengthRequired,
    NotFound,
    Unauthorized,
    UnsupportedMediaType,
)

from bridge.people import accounts
from bridge.site import Site
from bridge.text import language
from bridge.text.language import N_
from moderation import moderators
from moderation.types import Moderator

SAFE = {"GET", "HEAD", "OPTIONS"}
csrf = CSRFProtect()


class SentFromElsewhere(Forbidden):
    """Raised for a form that a page of another site sent."""

    heading = N_("Sent from elsewhere")

    def __init__(self) -> None:
        super().__init__(N_("This form came from another site. Nothing was changed."))


class Access(StrEnum):
    """Who an endpoint answers."""

    PUBLIC = "public"
    AUTHOR = "author"
    """Whoever has the signed link, which is part of the address."""
    SIGN_IN = "sign-in"
    """Public, but its forms give authority: they carry a CSRF token."""
    SECOND_STEP = "second step"
    """Whoever gave an account's password a moment ago, and not yet its second factor."""
    MODERATOR = "moderator"
    """A moderator who signed in here."""
    ADMIN = "admin"
    """A moderator who signed in here and whose role is admin."""
    BEARER = "bearer"
    """A moderator's token."""
    DECIDER = "decider"
    """A moderator's token that may decide, not only read."""
    NOBODY = "nobody"
    """A library's address that this site has no use for."""


V = TypeVar("V", bound=Callable[..., Any])

_WITHIN = re.compile(r"/(?!/)[^\\\x00-\x20]*")
"""A path on this host, also to a browser, which takes a backslash for a slash and drops white space."""

_OF_LIBRARIES = {
    "static": Access.PUBLIC,
    "security.login": Access.SIGN_IN,
    "security.wan_signin": Access.SIGN_IN,
    "security.wan_signin_response": Access.SIGN_IN,
    "security.tf_select": Access.SECOND_STEP,
    "security.two_factor_token_validation": Access.SECOND_STEP,
    "security.mf_recovery": Access.SECOND_STEP,
    "security.logout": Access.MODERATOR,
    "security.verify": Access.MODERATOR,
    "security.wan_verify": Access.MODERATOR,
    "security.wan_verify_response": Access.MODERATOR,
    "security.wan_register": Access.MODERATOR,
    "security.wan_register_response": Access.MODERATOR,
    # The site has its own pages for these: `bridge.web.people`.
    "security.wan_delete": Access.NOBODY,
    "security.mf_recovery_codes": Access.NOBODY,
    "security.two_factor_setup": Access.NOBODY,
    "security.two_factor_setup_validate": Access.NOBODY,
    "security.two_factor_rescue": Access.NOBODY,
    "security.static": Access.NOBODY,
}
_TOWARDS_A_FACTOR = {
    "people.account",
    "people.authenticator_form",
    "people.create_authenticator",
    "people.create_sign_out",
    "security.logout",
    "security.verify",
    "security.wan_verify",
    "security.wan_verify_response",
    "security.wan_register",
    "security.wan_register_response",
}
"""What is open to a moderator who has no second factor although everyone needs one."""


def open_to(access: Access) -> Callable[[V], V]:
    """Declare who a view answers."""

    def declare(view: V) -> V:
        view.access = access  # type: ignore[attr-defined]
        return view

    return declare


def framable(view: V) -> V:
    """Declare that the sites which may show an essay's correspondence in a frame may show this view there."""
    view.framable = True  # type: ignore[attr-defined]
    return view


def may_be_framed(app: Flask, endpoint: str) -> bool:
    """Return whether an endpoint declares that it may stand in a frame; only those under an essay's address do."""
    return getattr(app.view_functions.get(endpoint), "framable", False) is True


def declared(app: Flask, endpoint: str) -> Access | None:
    """Return what an endpoint declares, or None if it declares nothing."""
    found = getattr(app.view_functions.get(endpoint), "access", None)
    return found if isinstance(found, Access) else _OF_LIBRARIES.get(endpoint)


def site() -> Site:
    """Return the site that this application serves."""
    found: Site = current_app.extensions["site"]
    return found


def current_moderator() -> Moderator:
    """Return the moderator who asks; only endpoints that declare one may call this."""
    found: Moderator = g.moderator
    return found


def speak() -> None:
    """Speak to readers in their language, and to moderators in English."""
    access = declared(current_app, request.endpoint) if request.endpoint is not None else Access.PUBLIC
    offered = site().settings.spoken
    if access not in {Access.PUBLIC, Access.AUTHOR} or request.path.startswith(("/api/", "/static/")):
        language.speak(language.ENGLISH, (language.ENGLISH,))
    else:
        accepted = request.headers.get("Accept-Language", "")
        language.speak(language.chosen(request.args.get("lang"), accepted, offered), offered)


def fall_silent(_error: BaseException | None) -> None:
    """Speak English again: what this thread does next is not for that reader."""
    language.speak(language.ENGLISH, (language.ENGLISH,))


def guard() -> ResponseReturnValue | None:
    """Let the request through to its view, or answer it here. Runs before every request."""
    if "Transfer-Encoding" in request.headers:
        # granian cuts a body of unknown length at its bound and passes the piece off as the whole.
        raise LengthRequired
    endpoint = request.endpoint
    if endpoint is None:
        return None  # No such address: 404 follows.
    if "\x00" in request.path or any("\x00" in value for value in request.args.values()):
        raise NotFound  # Nothing has such an address, and PostgreSQL takes no NUL even to say so.
    access = declared(current_app, endpoint)
    if access is None:
        raise Forbidden
    if access is Access.NOBODY:
        raise NotFound
    if access in {Access.BEARER, Access.DECIDER}:
        return _admit_bearer(access)
    if request.method not in SAFE:
        _refuse_other_sites()
    if request.path.startswith("/api/"):
        # No cookie means anything to the API, so nothing here needs a CSRF token; forms of other sites are refused.
        _admit_json()
        return None
    if request.method not in SAFE:
        _admit_form()
    if access in {Access.MODERATOR, Access.ADMIN}:
        return _admit_moderator(access)
    if access in {Access.SIGN_IN, Access.SECOND_STEP}:
        return _admit_sign_in(access)
    return None


def _admit_sign_in(access: Access) -> ResponseReturnValue | None:
    if _leads_elsewhere():
        return redirect(url_for("security.login"))  # Sign-in leads home, then.
    if request.method not in SAFE:
        csrf.protect()
    if access is Access.SECOND_STEP and "tf_user_id" not in session:
        if request.method in SAFE:
            return redirect(url_for("security.login"))
        raise Unauthorized("This sign-in was not begun here, or it took too long. Begin again with your password.")
    return None


def _leads_elsewhere() -> bool:
    return not all(_WITHIN.fullmatch(leads) for leads in request.values.getlist("next") if leads)


def _admit_moderator(access: Access) -> ResponseReturnValue | None:
    if not current_user.is_authenticated:
        if request.method in SAFE:
            return redirect(url_for("security.login", next=request.full_path.rstrip("?")))
        raise Unauthorized("You are signed out. Nothing was changed. Sign in and try again.")
    if _leads_elsewhere():
        return redirect(url_for("desk.index"))
    with site().database.reading_sessions() as reading:
        found = moderators.named(reading, [current_user.moderator_id]).get(current_user.moderator_id)
        factor_first = accounts.lacks_second_factor(reading, current_user.id)
    if found is None or not found.active:
        raise Forbidden
    if access is Access.ADMIN and found.role != "admin":
        raise Forbidden("This is for admins. Nothing was changed.")
    if factor_first and request.endpoint not in _TOWARDS_A_FACTOR:
        if request.method in SAFE:
            return redirect(url_for("people.account", needs="factor"))
        raise Forbidden("Everyone here signs in with a second factor. Nothing was changed. Set yours up first.")
    g.moderator = found
    if request.method not in SAFE:
        csrf.protect()
    return None


def _admit_bearer(access: Access) -> ResponseReturnValue | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("This needs a moderator's token: Authorization: Bearer TOKEN.")
    with site().database.reading_sessions() as reading:
        found = accounts.bearer(reading, token.strip())
    if found is None:
        raise Unauthorized("This token is unknown, revoked or expired.")
    if access is Access.DECIDER and not found.may_decide:
        raise Forbidden("This token may read and not decide.")
    g.moderator = found.moderator
    _admit_json()
    return None


def _admit_json() -> None:
    """Read a JSON body here, where what cannot be read is refused; the view then finds it read."""
    if request.method in SAFE or (not request.mimetype and not request.content_length):
        return  # Nothing is sent: a view that needs a body says so itself.
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be JSON, sent as application/json.")
    request.get_json()


def _admit_form() -> None:
    """Read a form here, strictly: Werkzeug would put other characters in the place of those that are not UTF-8."""
    sent = request.get_data(cache=True)
    if request.mimetype == "application/x-www-form-urlencoded":
        sent = unquote_to_bytes(sent)
    try:
        sent.decode()
    except UnicodeDecodeError:
        raise BadRequest(N_("This form is not UTF-8 text. Nothing was changed.")) from None
    # Words have a door of their own, which tells their author; what else has a NUL was not written by a browser.
    if any("\x00" in value for name, value in request.form.items() if name not in {"author", "body"}):
        raise BadRequest(N_("This form cannot be read. Nothing was changed."))


def _refuse_other_sites() -> None:
    """Refuse a form of another site. Browsers tell in one header or the other; what tells nothing is no browser."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise SentFromElsewhere
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise SentFromElsewhere
