"""The desk's pages of people: one's own account, everybody's for admins, and the links that set a password."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from werkzeug.exceptions import NotFound

from bridge.mail.outbox import MailRefused
from bridge.people import accounts, invitations
from bridge.people.accounts import INVITATION, RESET, AccountRefused, SignedOutMeanwhile
from bridge.people.invitations import LinkEnded
from bridge.web import sign_in
from bridge.web.access import Access, current_moderator, open_to, site

people = Blueprint("people", __name__, url_prefix="/desk")

NOTHING: Mapping[str, str] = {}
_ID = "int(max=2147483647)"


# For the library's views as well, which add passkeys.
@people.app_errorhandler(SignedOutMeanwhile)
def _signed_out(refused: SignedOutMeanwhile) -> ResponseReturnValue:
    return render_template("refused.html", status=401, sentence=str(refused), refused=refused), 401


# Everybody, for admins


@people.get("/people")
@open_to(Access.ADMIN)
def index() -> ResponseReturnValue:
    """Show everybody who can sign in: role, factors, last sign-in."""
    return _people()


@people.post("/people/invitations")
@open_to(Access.ADMIN)
@sign_in.lately
def invite() -> ResponseReturnValue:
    """Invite somebody by mail."""
    form = request.form
    try:
        invitations.invite(
            site(),
            form.get("email", ""),
            role="admin" if form.get("role") == "admin" else "moderator",
            name=form.get("name", "").strip() or None,
            by=current_moderator().id,
        )
    except (AccountRefused, MailRefused) as refused:
        return _people(refused, field="email", written=form), 422
    return _people_again("invited")


@people.post(f"/people/<{_ID}:user_id>/invitation")
@open_to(Access.ADMIN)
@sign_in.lately
def invite_again(user_id: int) -> ResponseReturnValue:
    """Send another link to somebody who has not set a password yet, or take who was deactivated back."""
    try:
        invitations.invite_again(site(), user_id, by=current_moderator().id)
    except (AccountRefused, MailRefused) as refused:
        return _people(refused), 409
    return _people_again("invited")


@people.post(f"/people/<{_ID}:user_id>/role")
@open_to(Access.ADMIN)
@sign_in.lately
def change_role(user_id: int) -> ResponseReturnValue:
    """Make somebody a moderator or an admin."""
    try:
        with site().database.sessions.begin() as session:
            accounts.change_role(session, user_id, request.form.get("role", ""), by=current_moderator().id)
    except AccountRefused as refused:
        return _people(refused), 409
    return _people_again("role")


@people.post(f"/people/<{_ID}:user_id>/deactivation")
@open_to(Access.ADMIN)
@sign_in.lately
def deactivate(user_id: int) -> ResponseReturnValue:
    """Take somebody's account out of use. Their decisions stay."""
    try:
        with site().database.sessions.begin() as session:
            accounts.deactivate_person(session, user_id, by=current_moderator().id)
    except AccountRefused as refused:
        return _people(refused), 409
    return _people_again("deactivated")


@people.post(f"/people/<{_ID}:user_id>/factors")
@open_to(Access.ADMIN)
@sign_in.lately
def remove_factors(user_id: int) -> ResponseReturnValue:
    """Forget the second factors of somebody who lost them."""
    try:
        with site().database.sessions.begin() as session:
            accounts.remove_factors(session, user_id, by=current_moderator().id)
    except AccountRefused as refused:
        return _people(refused), 409
    return _people_again("factors")


@people.post("/people/second-factor")
@open_to(Access.ADMIN)
@sign_in.lately
def require_second_factor() -> ResponseReturnValue:
    """Decide whether everyone needs a second factor."""
    try:
        with site().database.sessions.begin() as session:
            accounts.require_second_factor(session, request.form.get("needed") == "yes", by=current_moderator().id)
    except AccountRefused as refused:
        return _people(refused), 409
    return _people_again("rule")


# One's own account


@people.get("/account")
@open_to(Access.MODERATOR)
def account() -> ResponseReturnValue:
    """Show one's own account."""
    return _account()


@people.post("/account/password")
@open_to(Access.MODERATOR)
def create_password() -> ResponseReturnValue:
    """Change one's password; every other session ends."""
    user_id = current_user.id
    if not sign_in.is_password(current_user, request.form.get("password", "")):
        return _account(AccountRefused("This is not your password. Nothing was changed."), field="password"), 422
    try:
        hashed = accounts.chosen(request.form.get("new", ""))
    except AccountRefused as refused:
        return _account(refused, field="new"), 422
    with site().database.sessions.begin() as session:
        named = accounts.set_password(
            session, user_id, hashed, by=current_moderator().id, admitted_as=sign_in.admitted_as()
        )
    sign_in.sign_in_again(user_id, named)
    g.taken = True
    return _account_again("password")


@people.get("/account/authenticator")
@open_to(Access.MODERATOR)
@sign_in.lately
def authenticator_form() -> ResponseReturnValue:
    """Show the secret that an authenticator app takes."""
    return _authenticator(sign_in.new_setup(current_user))


@people.post("/account/authenticator")
@open_to(Access.MODERATOR)
@sign_in.lately
def create_authenticator() -> ResponseReturnValue:
    """Keep the authenticator that shows a right code."""
    sealed = request.form.get("sealed", "")
    confirmed = sign_in.confirmed_setup(current_user, sealed, request.form.get("code", ""))
    if confirmed is None:
        return _authenticator(sign_in.new_setup(current_user, sealed), wrong=True), 422
    secret, counter = confirmed
    with site().database.sessions.begin() as session:
        accounts.set_authenticator(session, current_user.id, secret, counter=counter, admitted_as=sign_in.admitted_as())
    g.taken = True
    return _account_again("authenticator")


@people.post("/account/authenticator/removal")
@open_to(Access.MODERATOR)
@sign_in.lately
def remove_authenticator() -> ResponseReturnValue:
    """Forget one's authenticator."""
    with site().database.sessions.begin() as session:
        accounts.remove_authenticator(session, current_user.id)
    return _account_again("removed")


@people.post(f"/account/passkeys/<{_ID}:passkey_id>/removal")
@open_to(Access.MODERATOR)
@sign_in.lately
def remove_passkey(passkey_id: int) -> ResponseReturnValue:
    """Forget one of one's passkeys."""
    with site().database.sessions.begin() as session:
        accounts.remove_passkey(session, current_user.id, passkey_id)
    return _account_again("removed")


@people.post("/account/recovery-codes")
@open_to(Access.MODERATOR)
@sign_in.lately
def create_recovery_codes() -> ResponseReturnValue:
    """Make recovery codes and show them, this once."""
    with site().database.sessions.begin() as session:
        codes = accounts.new_recovery_codes(session, site().keys, current_user.id, admitted_as=sign_in.admitted_as())
    return render_template("desk/account_codes.html", codes=codes, me=current_moderator())


@people.post("/account/sign-out")
@open_to(Access.MODERATOR)
def create_sign_out() -> ResponseReturnValue:
    """Sign out everywhere."""
    with site().database.sessions.begin() as session:
        accounts.sign_out_everywhere(session, current_user.id, by=current_moderator().id)
    sign_in.sign_out()
    return redirect(url_for("security.login", just="everywhere"), 303)


@people.post("/account/tokens")
@open_to(Access.MODERATOR)
@sign_in.lately
def create_token() -> ResponseReturnValue:
    """Make a token for a program and show it, this once."""
    try:
        with site().database.sessions.begin() as session:
            token = accounts.issue_token_to(
                session, current_user.id, scope=request.form.get("scope", ""), admitted_as=sign_in.admitted_as()
            )
    except SignedOutMeanwhile:
        raise
    except AccountRefused as refused:
        return _account(refused, field="scope"), 422
    return render_template("desk/account_token.html", token=token, days=accounts.TOKEN_DAYS, me=current_moderator())


@people.post(f"/account/tokens/<{_ID}:token_id>/revocation")
@open_to(Access.MODERATOR)
def revoke_token(token_id: int) -> ResponseReturnValue:
    """End one of one's tokens."""
    try:
        with site().database.sessions.begin() as session:
            accounts.revoke_token(session, token_id, of=current_user.id)
    except accounts.NoSuchToken:
        raise NotFound("You have no such token. Nothing was changed.") from None
    return _account_again("revoked")


@people.post("/account/preferences")
@open_to(Access.MODERATOR)
def set_preferences() -> ResponseReturnValue:
    """Say how often one is told what waits, and whether the desk listens to single keys."""
    try:
        with site().database.sessions.begin() as session:
            accounts.set_told(session, current_user.id, request.form.get("told", ""))
            accounts.set_shortcuts(session, current_user.id, request.form.get("shortcuts") == "on")
    except AccountRefused as refused:
        return _account(refused, field="told"), 422
    return _account_again("preferences")


# Links that set a password


@people.get("/resets")
@open_to(Access.SIGN_IN)
def reset_link_form() -> ResponseReturnValue:
    """Show the form that asks for a link."""
    return render_template("desk/reset.html", sent=False)


@people.post("/resets")
@open_to(Access.SIGN_IN)
def create_reset_link() -> ResponseReturnValue:
    """Send a link for a new password, and answer the same whether there is such an account or not."""
    invitations.send_reset(site(), request.form.get("email", ""))
    return render_template("desk/reset.html", sent=True)


@people.get("/resets/<reset>")
@open_to(Access.SIGN_IN)
def reset_form(reset: str) -> ResponseReturnValue:
    """Show the form that a mailed link leads to; nothing is used up by it."""
    return _password_form(RESET, reset)


@people.post("/resets/<reset>")
@open_to(Access.SIGN_IN)
def create_reset(reset: str) -> ResponseReturnValue:
    """Set a new password by a link, once."""
    return _set_password(RESET, reset)


@people.get("/invitations/<invitation>")
@open_to(Access.SIGN_IN)
def invitation_form(invitation: str) -> ResponseReturnValue:
    """Show the form that an invitation leads to; nothing is used up by it."""
    return _password_form(INVITATION, invitation)


@people.post("/invitations/<invitation>")
@open_to(Access.SIGN_IN)
def create_invitation(invitation: str) -> ResponseReturnValue:
    """Set the first password by an invitation, once."""
    return _set_password(INVITATION, invitation)


def _set_password(purpose: str, token: str) -> ResponseReturnValue:
    try:
        invitations.set_password(site(), purpose, token, request.form.get("new", ""))
    except LinkEnded as refused:
        raise NotFound(str(refused)) from None
    except AccountRefused as refused:
        return _password_form(purpose, token, refused), 422
    g.taken = True
    return redirect(url_for("security.login", just="password"), 303)


def _password_form(purpose: str, token: str, refused: Exception | None = None) -> str:
    try:
        user = invitations.holder(site(), purpose, token)
    except LinkEnded as ended:
        raise NotFound(str(ended)) from None
    return render_template(
        "desk/password.html",
        email=user.email,
        invited=purpose == INVITATION,
        least=accounts.PASSWORD_LENGTH,
        refused=refused,
    )


def _people(refused: Exception | None = None, *, field: str | None = None, written: Mapping[str, str] = NOTHING) -> str:
    with site().database.reading_sessions() as session:
        found = accounts.people(session)
        needed = accounts.needs_second_factor(session)
    return render_template(
        "desk/people.html",
        people=found,
        needed=needed,
        refused=refused,
        field=field,
        written=written,
        just=request.args.get("just"),
        me=current_moderator(),
    )


def _account(refused: Exception | None = None, *, field: str | None = None) -> str:
    with site().database.reading_sessions() as session:
        own = accounts.own(session, current_user.id)
        lacks = accounts.lacks_second_factor(session, current_user.id)
    return render_template(
        "desk/account.html",
        own=own,
        lacks=lacks,
        least=accounts.PASSWORD_LENGTH,
        idle=sign_in.IDLE,
        longest=accounts.STAY,
        refused=refused,
        field=field,
        just=request.args.get("just"),
        me=current_moderator(),
    )


def _authenticator(setup: sign_in.Setup, *, wrong: bool = False) -> str:
    return render_template("desk/account_authenticator.html", setup=setup, wrong=wrong, me=current_moderator())


def _people_again(just: str) -> ResponseReturnValue:
    return redirect(url_for("people.index", just=just), 303)


def _account_again(just: str) -> ResponseReturnValue:
    return redirect(url_for("people.account", just=just), 303)
