"""Signing in: Flask-Security as this site uses it, each try counted and logged, each sign-in one that can be ended.

Flask-Security verifies passwords, codes and passkeys. What is added here it leaves to its users (SECURITY, R4): a code
is taken once, a session that ended stays ended, guessing is slowed, and nothing is written while a password is hashed.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

import segno
from flask import Flask, Response, current_app, g, make_response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, user_logged_out
from flask_security import (
    MfRecoveryCodesUtil,
    Security,
    SQLAlchemySessionUserDatastore,
    Totp,
    WebauthnUtil,
    login_user,
    logout_user,
    user_authenticated,
)
from flask_security.forms import TwoFactorRescueForm
from flask_security.tf_plugin import TwoFactorSelectForm
from flask_security.utils import check_and_update_authn_fresh
from flask_security.webauthn import (
    WebAuthnRegisterForm,
    WebAuthnSigninResponseForm,
    WebAuthnTfPlugin,
    _create_credential_list,
)
from passlib.exc import TokenError  # type: ignore[import-untyped]
from sqlalchemy import inspect, update
from sqlalchemy.orm import scoped_session, sessionmaker
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from werkzeug.exceptions import UnsupportedMediaType
from wtforms import HiddenField, RadioField, StringField  # type: ignore[import-untyped]
from wtforms.validators import InputRequired  # type: ignore[import-untyped]

from bridge.keys import fingerprint
from bridge.limits import Bound, Limits, network
from bridge.people import accounts
from bridge.people.accounts import ARGON2, PASSWORD_LENGTH, STAY
from bridge.records import Role, User, WebAuthn
from bridge.site import Site
from bridge.web.access import Access, current_moderator, declared, site

log = logging.getLogger("emeritus.sign_in")

IDLE = timedelta(hours=12)
"""How long somebody stays signed in who does nothing."""
FRESH = timedelta(minutes=15)
"""How long after signing in somebody may change what signs them in."""
WINDOW = 30
"""Seconds by which a phone's clock may be wrong."""
KNOWN_FOR = timedelta(days=180)
"""How long a device counts as its owner's after they signed in on it."""
V = TypeVar("V", bound=Callable[..., Any])

_A_QUARTER, _AN_HOUR = 15 * 60, 60 * 60
_HERE = Bound("account and network", 10, _A_QUARTER)
_ON_OWN_DEVICE = Bound("account and device", 10, _A_QUARTER)
_ACCOUNT = Bound("account", 60, _AN_HOUR)
_ACCOUNTS_CODES = Bound("account's codes", 20, _AN_HOUR)
"""Fewer: whoever guesses codes knows the password."""
_NETWORK = Bound("network", 100, _A_QUARTER)
_MAILS = Bound("mails", 5, _AN_HOUR)

_TRIES = {
    "security.login": "password",
    "security.verify": "password",
    "people.create_password": "password",
    "security.two_factor_token_validation": "code",
    "security.mf_recovery": "code",
    "people.create_authenticator": "code",
    "security.wan_signin_response": "passkey",
    "security.wan_verify_response": "passkey",
    "people.create_reset_link": "mail",
    "people.create_reset": "link",
    "people.create_invitation": "link",
}
"""Every form that something could be guessed by, or that sends mail, and what is tried by it."""
_BY_ITSELF = {"reading.state", "reading.create_claim", "reading.end_claim"}
"""What an open page of the desk asks every few seconds, whether or not somebody sits before it."""
_STEPS_UP = {"security.verify", "security.wan_verify_response"}


def config(site: Site, *, secure: bool) -> dict[str, Any]:
    """Return Flask-Security's configuration."""
    return {
        "SECURITY_PASSWORD_SALT": site.keys.derived("passwords").hex(),
        "SECURITY_PASSWORD_HASH": "argon2",
        "SECURITY_PASSWORD_SINGLE_HASH": ["argon2"],
        "SECURITY_PASSWORD_SCHEMES": ["argon2"],
        "SECURITY_DEPRECATED_PASSWORD_SCHEMES": [],
        "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": ARGON2,
        "SECURITY_PASSWORD_LENGTH_MIN": PASSWORD_LENGTH,
        "SECURITY_RETURN_GENERIC_RESPONSES": True,
        "SECURITY_FRESHNESS": FRESH,
        "SECURITY_FRESHNESS_GRACE_PERIOD": timedelta(0),
        "SECURITY_LOGIN_URL": "/desk/sign-in",
        "SECURITY_LOGOUT_URL": "/desk/sign-out",
        "SECURITY_LOGOUT_METHODS": ["POST"],
        "SECURITY_VERIFY_URL": "/desk/sign-in/again",
        "SECURITY_POST_LOGIN_VIEW": "/desk/",
        "SECURITY_POST_LOGOUT_VIEW": "/",
        "SECURITY_POST_VERIFY_VIEW": "/desk/account",
        "SECURITY_STATIC_FOLDER_URL": None,
        "SECURITY_API_ENABLED_METHODS": ["session"],
        "SECURITY_USER_IDENTITY_ATTRIBUTES": [{"email": {"mapper": _lower, "case_insensitive": True}}],
        "SECURITY_LOGIN_USER_TEMPLATE": "desk/sign_in.html",
        "SECURITY_FLASH_MESSAGES": False,
        "SECURITY_TWO_FACTOR": True,
        # The site's own page sets an authenticator up. Naming that way here would make the library ask for qrcode.
        "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["email"],
        "SECURITY_TWO_FACTOR_AUTHENTICATOR_VALIDITY": WINDOW,
        "SECURITY_TWO_FACTOR_ALWAYS_VALIDATE": True,
        "SECURITY_TWO_FACTOR_RESCUE_EMAIL": False,
        "SECURITY_TWO_FACTOR_IMPLEMENTATIONS": {
            "code": "flask_security.twofactor.CodeTfPlugin",
            "webauthn": "bridge.web.sign_in.PasskeyFactor",
        },
        "SECURITY_TWO_FACTOR_TOKEN_VALIDATION_URL": "/desk/sign-in/code",
        "SECURITY_TWO_FACTOR_SELECT_URL": "/desk/sign-in/second-factor",
        "SECURITY_TWO_FACTOR_SETUP_URL": "/desk/sign-in/unused/setup",
        "SECURITY_TWO_FACTOR_RESCUE_URL": "/desk/sign-in/unused/rescue",
        "SECURITY_TOTP_SECRETS": {"1": site.keys.derived("authenticators").hex()},
        "SECURITY_TOTP_ISSUER": f"Emeritus ({_host(site)})",
        "SECURITY_MULTI_FACTOR_RECOVERY_CODES": True,
        "SECURITY_MULTI_FACTOR_RECOVERY_URL": "/desk/sign-in/recovery-code",
        "SECURITY_MULTI_FACTOR_RECOVERY_CODES_URL": "/desk/sign-in/unused/recovery-codes",
        "SECURITY_WEBAUTHN": True,
        "SECURITY_WAN_RP_NAME": "Emeritus",
        "SECURITY_WAN_ALLOW_USER_HINTS": False,
        "SECURITY_WAN_ALLOW_AS_VERIFY": ["first"],
        "SECURITY_WAN_SIGNIN_URL": "/desk/sign-in/passkey",
        "SECURITY_WAN_VERIFY_URL": "/desk/sign-in/again/passkey",
        "SECURITY_WAN_REGISTER_URL": "/desk/account/passkeys",
        "SECURITY_WAN_REGISTER_WITHIN": timedelta(minutes=10),
        "SECURITY_WAN_DELETE_URL": "/desk/sign-in/unused/passkey",
        "SECURITY_WAN_POST_REGISTER_VIEW": "/desk/account?just=passkey",
        "PERMANENT_SESSION_LIFETIME": STAY,
        "DEVICE_COOKIE_NAME": "__Host-device" if secure else "device",
        "DEVICE_COOKIE_SECURE": secure,
    }


def install(app: Flask, site: Site) -> None:
    """Let moderators sign in to *app*, which is configured by `config`."""
    app.extensions["limits"] = Limits(site.settings.redis)
    # Reading sessions: with one that can write, SQLite's one writer would wait for each password's hash.
    users = scoped_session(sessionmaker(site.database.reading, expire_on_commit=False, autoflush=False))
    security = Security(
        app,
        Users(users, site),
        totp_cls=Codes,
        webauthn_util_cls=Passkeys,
        mf_recovery_codes_util_cls=RecoveryCodes,
        wan_register_form=PasskeyName,
        wan_signin_response_form=PasskeyAnswer,
        two_factor_select_form=SecondFactor,
        two_factor_rescue_form=NoRescue,
    )
    app.extensions["security_settings"] = security
    security.want_json(lambda _request: False)
    security.context_processor(lambda: {"me": current_moderator()} if "moderator" in g else {})
    known: Callable[[str], User | None] = app.login_manager._user_callback  # type: ignore[attr-defined]

    @app.login_manager.user_loader  # type: ignore[attr-defined,untyped-decorator]
    def _who_stays(name: str) -> User | None:
        user = known(name)
        if user is None or time.time() - session.get("seen", 0) > IDLE.total_seconds():
            return None
        return user if accounts.stays(users(), user.id, session.get("stay")) else None

    # The library's views sign people in from five places and tell of it only by this signal, which is the one place
    # where what every sign-in has in common can stand.
    user_authenticated.connect(_arrived, app)
    user_logged_out.connect(_left, app)
    app.after_request(_note)

    @app.teardown_appcontext
    def _return_connection(_error: BaseException | None) -> None:
        users.remove()


class Users(SQLAlchemySessionUserDatastore):
    """Flask-Security's store on a session that only reads; each change is a short transaction of its own."""

    def __init__(self, reading: Any, site: Site) -> None:
        super().__init__(reading, User, Role, WebAuthn)
        self._site = site

    def put(self, model: Any) -> Any:
        """Write what changed of *model*, and nothing else of the row: it may have changed meanwhile."""
        model = getattr(model, "_get_current_object", lambda: model)()
        columns = inspect(type(model)).columns.keys()
        changed = {a.key: a.value for a in inspect(model).attrs if a.key in columns and a.history.has_changes()}
        if changed:
            with self._site.database.sessions.begin() as writing:
                writing.execute(update(type(model)).where(type(model).id == model.id).values(changed))
        return model

    def commit(self) -> None:
        """Read anew what is asked for next; everything is written already."""
        self.db.session.rollback()

    def create_webauthn(self, user: Any, *args: Any, **passkey: Any) -> None:
        """Keep a passkey, with its entry in the ledger."""
        made = WebAuthn(**passkey, lastuse_datetime=self._at())
        with self._site.database.sessions.begin() as writing:
            accounts.add_passkey(writing, user.id, made, admitted_as=admitted_as())

    def _at(self) -> Any:
        return current_app.extensions["security"].datetime_factory()


class Codes(Totp):
    """An authenticator's codes, each taken once: the library itself takes one as often as it is sent."""

    def verify_totp(self, token: str, totp_secret: str, user: Any, window: int = 0) -> bool:
        """Return whether the code is right and newer than the last one that was taken; it is taken then."""
        counter = self.step_of(token, totp_secret, after=user.totp_counter)
        if counter is None:
            return False
        with site().database.sessions.begin() as writing:
            return accounts.take_code(writing, user.id, counter)

    def step_of(self, token: str, secret: str, *, after: int | None = None) -> int | None:
        """Return the time step whose code *token* is, if that is about now and later than *after*."""
        try:
            found: int = self._totp.verify(token, secret, window=WINDOW, last_counter=after).counter
        except (TokenError, ValueError):
            return None
        return found


class RecoveryCodes(MfRecoveryCodesUtil):
    """Recovery codes, kept as keyed digests: nobody can be shown them a second time."""

    def check_recovery_code(self, user: Any, code: str) -> bool:
        """Return whether the code is one of *user*'s; it is used up then, here, where no other request can take it."""
        with site().database.sessions.begin() as writing:
            return accounts.use_recovery_code(writing, site().keys, user.id, code)

    def delete_recovery_code(self, user: Any, code: str) -> bool:
        """Do nothing: the check took it."""
        return True


class Passkeys(WebauthnUtil):
    """What is asked of passkeys: that they are kept where they were made, and that they ask who holds them."""

    def origin(self) -> str:
        """Return the one address that passkeys are good at: `SITE_URL`."""
        return site().settings.address

    def registration_options(self, user: Any, usage: str, existing_options: dict[str, Any]) -> dict[str, Any]:
        """Return the options, for this site's host whatever name it was called by."""
        return super().registration_options(user, usage, existing_options) | {"rp_id": _host(site())}

    def authenticator_selection(self, user: Any, usage: str) -> AuthenticatorSelectionCriteria:
        """Take any device that asks for finger, face or PIN: the library would leave out those that are built in."""
        return AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        )

    def authentication_options(self, user: Any, usage: list[str], existing_options: dict[str, Any]) -> dict[str, Any]:
        """Return the options; after a password, only that person's passkeys will do."""
        more: dict[str, Any] = {"rp_id": _host(site())}
        if user is not None:
            more["allow_credentials"] = _create_credential_list(user, ["first"])
        return super().authentication_options(user, usage, existing_options) | more

    def user_verification(self, user: Any, usage: list[str]) -> UserVerificationRequirement:
        """Have the device ask who holds it, always: a passkey alone is then two factors."""
        return UserVerificationRequirement.REQUIRED


class PasskeyFactor(WebAuthnTfPlugin):
    """A passkey after a password. It is the same passkey that signs in alone; the library wants two."""

    def get_setup_methods(self, user: Any) -> list[tuple[str, str]]:
        """Return this one method if there is a passkey, so that a password alone no longer signs in."""
        return [("webauthn", "Passkey")] if user.webauthn else []


class PasskeyName(WebAuthnRegisterForm):
    """The name of a new passkey. All are of one kind, so nobody is asked which."""

    usage = HiddenField()

    def validate(self, **kwargs: Any) -> bool:
        """Check the name."""
        good: bool = super().validate(**kwargs)
        self.usage.data = "first"
        return good


class PasskeyAnswer(WebAuthnSigninResponseForm):
    """What a device says of its passkey."""

    def validate(self, **kwargs: Any) -> bool:
        """Check it; after a password, that it is the passkey of the same person, which the library does not ask."""
        if self.is_secondary:
            self.is_verify = True  # Only here: so that the one kind of passkeys is let do.
        if not super().validate(**kwargs) or self.credential.errors or self.user is None:
            return False
        if self.is_secondary and self.user.fs_uniquifier != session.get("tf_user_id"):
            return False
        # Devices need not count what they answer, so an answer that was seen would let in once more. The question is
        # remembered for longer than it can be answered.
        within: timedelta = current_app.config["SECURITY_WAN_SIGNIN_WITHIN"]
        once = Bound("passkey's answer", 1, 2 * int(within.total_seconds()))
        return _limits().take(once, fingerprint(self.challenge))


class SecondFactor(TwoFactorSelectForm):
    """Which second factor somebody takes of theirs; the library's field has no name for its choices that is current."""

    which = StringField(validators=[InputRequired()])


class NoRescue(TwoFactorRescueForm):
    """The library's ways for who lost their second factor, of which this site has none but recovery codes."""

    help_setup = RadioField(choices=[])


# Signing in, and what follows from it


def admitted_as() -> str:
    """Return what the session of this request names: an account's sessions name another value once they were ended."""
    return str(session.get("_user_id", ""))


def sign_in_again(user_id: int, named: str) -> None:
    """Sign somebody in anew whose sessions have just ended by what they did themselves; *named* is what new ones name.

    If these have been ended since as well, by whom it may be, nobody is signed in.
    """
    store = current_app.extensions["security"].datastore
    store.db.session.rollback()
    user = store.find_user(id=user_id)
    if user is not None and user.fs_uniquifier == named:
        login_user(user, authn_via=["change"])


def is_password(user: User, password: str) -> bool:
    """Return whether this is *user*'s password, however its accents were typed."""
    plain = current_app.extensions["security"].password_util.normalize(password)
    return bool(user.verify_and_update_password(plain))


def sign_out() -> None:
    """Sign out who asks."""
    logout_user()


def lately(view: V) -> V:
    """Ask for the password again if it was not given lately: the view changes what signs people in."""

    @wraps(view)
    def asked(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        if check_and_update_authn_fresh(FRESH, timedelta(0), "session"):
            answer: ResponseReturnValue = view(*args, **kwargs)
            return answer
        # A form cannot be sent twice by a redirect; its page can be shown.
        back = request.path if request.method in {"GET", "HEAD"} else url_for("people.account")
        return redirect(url_for("security.verify", next=back), 303)

    return asked  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Setup:
    """What an authenticator app needs, and the form has to bring back."""

    sealed: str
    secret: str
    """For typing, in groups."""
    squares: str
    """The QR code as the data of an SVG path, a square for each dark module."""
    size: int


def new_setup(user: User, sealed: str | None = None) -> Setup:
    """Return a fresh secret for an authenticator, or the one that was *sealed* before."""
    totp = _codes()
    secret = _unsealed(user, sealed) if sealed else None
    if secret is None:
        secret = totp.generate_totp_secret()
    rows = segno.make(totp.get_totp_uri(user.email, secret), error="m").matrix
    squares = "".join(f"M{x + 4} {y + 4}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark)
    key: str = totp.get_totp_pretty_key(secret)
    return Setup(site().keys.signed("authenticator", f"{user.id} {secret}"), key, squares, len(rows) + 8)


def confirmed_setup(user: User, sealed: str, code: str) -> tuple[str, int] | None:
    """Return the encrypted secret and the time step of *code* if it is right for what was *sealed*, else None."""
    secret = _unsealed(user, sealed)
    counter = _codes().step_of(code, secret) if secret is not None else None
    return (secret, counter) if secret is not None and counter is not None else None


def _unsealed(user: User, sealed: str) -> str | None:
    whose, _, secret = (site().keys.opened("authenticator", sealed) or "").partition(" ")
    return secret if whose == str(user.id) else None


def _codes() -> Codes:
    found: Codes = current_app.extensions["security"].totp_factory
    return found


def _arrived(_app: Flask, user: User, authn_via: list[str] | None = None, **_: Any) -> None:
    """Begin a stay, with a new CSRF token: cookies and forms from before are no use any more."""
    # The session's own clean-up comes first: nothing of before is taken along.
    _renew_csrf()
    with site().database.sessions.begin() as writing:
        if authn_via == ["change"]:
            session["stay"] = accounts.begin_stay(writing, user.id)
        else:
            session["stay"] = accounts.arrived(writing, user.id)
    session["seen"] = int(time.time())
    # A cookie that remembers for a year signs nobody in here, since their stay has ended; but it names the account, and
    # makes each request after sign-out write a session. The library sets one after every passkey, which nobody asked.
    session.pop("_remember", None)
    g.arrived = user


def _left(_app: Flask, **_: Any) -> None:
    """End the stay, so that a copy of its cookie opens nothing."""
    _end_stay()
    session.pop("seen", None)
    # Else Flask-Login notes it with the next request, a style sheet's perhaps, and that cookie may arrive after the one
    # with the token of the form that signs in again, and replace it.
    session["_fresh"] = False


def _end_stay() -> None:
    key = session.pop("stay", None)
    if isinstance(key, str):
        with site().database.sessions.begin() as writing:
            accounts.end_stay(writing, key)


def _renew_csrf() -> None:
    session.pop("csrf_token", None)
    g.pop("csrf_token", None)


# Guessing


@dataclass(frozen=True, slots=True)
class _Try:
    """One try: what of, by keyed digests whose and from where, and on a device where that person signed in before."""

    what: str
    account: str | None
    network: str
    device: str | None

    def bounds(self) -> list[tuple[Bound, tuple[str, ...]]]:
        """Return what this try is counted against."""
        if self.what == "mail":
            return [(_MAILS, (self.what, self.account or "", self.network)), (_MAILS, (self.what, self.account or ""))]
        if self.account is None:
            return []
        if self.device is not None:
            # Whoever is guessing elsewhere does not lock the owner out of the desk.
            return [(_ON_OWN_DEVICE, (self.what, self.account, self.device))]
        everywhere = _ACCOUNT if self.what == "password" else _ACCOUNTS_CODES
        return [(_HERE, (self.what, self.account, self.network)), (everywhere, (self.what, self.account))]


def slow_down() -> ResponseReturnValue | None:
    """Count a try, or answer that there were too many. Runs before every request, once `access.guard` let it through.

    Known and unknown accounts are counted alike, so that the bound tells nothing about which there are.
    """
    endpoint = request.endpoint or ""
    if endpoint.startswith("security.") and request.is_json:
        raise UnsupportedMediaType("This is a form. Nothing was changed.")
    if declared(current_app, endpoint) in {Access.MODERATOR, Access.ADMIN}:
        _stay_awake()
    if request.method != "POST" or endpoint not in _TRIES:
        return None
    g.tried = tried = _this_try(_TRIES[endpoint])
    g.confirmed_before = session.get("fs_paa")
    if (tried.device is not None or _limits().left(_NETWORK, tried.network)) and all(
        _limits().take(bound, *who) for bound, who in tried.bounds()
    ):
        return None
    g.slowed = True
    sentence = "There were too many tries. Nothing was changed, and nobody is locked out. Wait a quarter of an hour."
    answer = make_response(render_template("refused.html", status=429, sentence=sentence, refused=None), 429)
    answer.headers["Retry-After"] = str(_A_QUARTER)
    return answer


def _note(response: Response) -> Response:
    """Log how a try ended, and renew what its success makes stale."""
    if (request.endpoint or "").startswith("security.") and response.location and "next=http" in response.location:
        # Where nobody said what comes next, the library names the form itself, in full.
        response.location = response.location.partition("?")[0]
    tried: _Try | None = g.get("tried")
    if tried is None:
        return response
    outcome = _outcome(tried)
    log.log(
        logging.INFO if outcome in {"signed in", "second factor asked", "confirmed", "taken"} else logging.WARNING,
        "%s %s account=%s network=%s",
        tried.what,
        outcome,
        (tried.account or "none")[:16],
        tried.network[:16],
    )
    if outcome == "refused":
        _limits().take(_NETWORK, tried.network)
        if request.endpoint in {"security.wan_signin_response", "security.wan_verify_response"}:
            # The library would tell by a flashed message, which this site does not have.
            page = (request.endpoint or "").removesuffix("_response")
            response.location = url_for(page, refused="yes")
    if outcome == "confirmed":
        _renew_csrf()
        _end_stay()
        with site().database.sessions.begin() as writing:
            session["stay"] = accounts.begin_stay(writing, current_user.id)
    if "arrived" in g and request.endpoint != "people.create_password":
        _know_device(response, tried)
    return response


def _outcome(tried: _Try) -> str:
    if g.get("slowed"):
        return "slowed"
    if "arrived" in g:
        return "signed in"
    if request.endpoint == "security.login" and "tf_user_id" in session:
        return "second factor asked"
    if request.endpoint in _STEPS_UP and session.get("fs_paa") != g.confirmed_before:
        return "confirmed"
    return "taken" if tried.what == "mail" or g.get("taken") else "refused"


def _know_device(response: Response, tried: _Try) -> None:
    """Take this device for its owner's from now on, and their tries for forgotten."""
    account = _digest(g.arrived.email)
    for what in ("password", "code"):
        for bound, who in _Try(what, account, tried.network, tried.device).bounds():
            _limits().forget(bound, *who)
    if tried.device is None or tried.account != account:
        response.set_cookie(
            current_app.config["DEVICE_COOKIE_NAME"],
            site().keys.signed("device", f"{account}.{secrets.token_hex(16)}"),
            max_age=int(KNOWN_FOR.total_seconds()),
            secure=current_app.config["DEVICE_COOKIE_SECURE"],
            httponly=True,
            samesite="Lax",
        )


def _this_try(what: str) -> _Try:
    email: str | None = None
    if request.endpoint in {"security.login", "people.create_reset_link"}:
        # However it is written: else every way of writing it could be tried as often.
        email = accounts.plain(request.form.get("email", ""))
    elif current_user.is_authenticated:
        email = current_user.email
    elif "tf_user_id" in session:
        found = current_app.extensions["security"].datastore.find_user(fs_uniquifier=session["tf_user_id"])
        email = found.email if found is not None else None
    account = None if email is None else _digest(email)
    # What an address is counted under is good for a week, and for nothing else (SECURITY, O2).
    week = int(time.time()) // (7 * 86400)
    where = site().keys.keyed_digest(f"networks of week {week}", network(request.remote_addr))
    cookie = request.cookies.get(current_app.config["DEVICE_COOKIE_NAME"], "")
    owner, _, device = (site().keys.opened("device", cookie) or "").partition(".")
    return _Try(what, account, where, device if device and owner == account else None)


def _stay_awake() -> None:
    """Note that somebody is still there, at most every five minutes: each note is another cookie."""
    if request.endpoint not in _BY_ITSELF and time.time() - session.get("seen", 0) > 300:
        session["seen"] = int(time.time())


def _digest(email: str) -> str:
    return site().keys.keyed_digest("accounts that are tried", email)


def _limits() -> Limits:
    found: Limits = current_app.extensions["limits"]
    return found


def _host(site: Site) -> str:
    return site.settings.address.partition("://")[2].rpartition("@")[2].partition(":")[0]


def _lower(address: str) -> str | None:
    return address.strip().lower() if "@" in address and address.isprintable() else None
