"""Links by mail that let somebody set a password, once: an invitation, or a new password for who forgot theirs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy.orm import Session

from bridge.mail import outbox
from bridge.people import accounts
from bridge.people.accounts import INVITATION, INVITED_FOR, RESET, RESET_FOR
from bridge.records import User
from bridge.site import Site
from moderation.types import ModeratorId

PATHS = {INVITATION: "/desk/invitations", RESET: "/desk/resets"}
"""Where each link leads; every purpose has its own address."""

_INVITED = """Hello,

you are invited to the moderators' desk of {site}. Set a password within 7 days, and sign in with this address:

{link}

The link can be used once. If you do not know what this is about, you need not do anything.
"""
_FORGOTTEN = """Hello,

somebody, we suppose you, asked for a new password at the moderators' desk of {site}. Set one within the hour:

{link}

The link can be used once. If it was not you, you need not do anything: your password stays as it is.
"""


class LinkEnded(Exception):
    """Raised when a link from a mail can no longer be used. It does not say whether it ever could."""

    def __init__(self) -> None:
        super().__init__("This link cannot be used, or no longer. Nothing was changed. Ask for a new one.")


@dataclass(frozen=True, slots=True)
class Invited:
    """Somebody who was invited, and the link that their mail carries."""

    moderator: ModeratorId
    link: str


def invite(site: Site, email: str, *, role: str, name: str | None = None, by: ModeratorId | None = None) -> Invited:
    """Make an account without a password and send its owner a link to set one. Raises `AccountRefused`."""
    with site.database.sessions.begin() as session:
        moderator = accounts.add_moderator(session, email, role=role, name=name, by=by)
        user = accounts.of_moderator(session, moderator)
        link = _link(site, user, INVITATION)
        _put(site, session, user, link, subject="An invitation to the moderators' desk", text=_INVITED)
    # Committed: who sends the mail finds it.
    site.nudges.nudge_outgoing()
    return Invited(moderator, link)


def send_invitation(site: Site, email: str) -> str:
    """Send an active account's owner a link to set a password of their own; return it. Raises `AccountRefused`."""
    with site.database.sessions.begin() as session:
        user = accounts.of_moderator(session, accounts.moderator_of(session, email))
        link = _link(site, user, INVITATION)
        _put(site, session, user, link, subject="An invitation to the moderators' desk", text=_INVITED)
    site.nudges.nudge_outgoing()
    return link


def invite_again(site: Site, user_id: int, *, by: ModeratorId) -> str:
    """Send another link to somebody who has set no password yet, or was deactivated and is taken back; return it.

    Raises `AccountRefused`.
    """
    with site.database.sessions.begin() as session:
        user = accounts.invited_again(session, user_id, by=by)
        link = _link(site, user, INVITATION)
        _put(site, session, user, link, subject="An invitation to the moderators' desk", text=_INVITED)
    site.nudges.nudge_outgoing()
    return link


def send_reset(site: Site, email: str) -> None:
    """Send a link for a new password if this is the address of an active account. It says nothing either way."""
    with site.database.reading_sessions() as session:
        user = accounts.find(session, email.strip())
    if user is None:
        return
    with site.database.sessions.begin() as session:
        link = _link(site, user, RESET)
        _put(site, session, user, link, subject="A new password for the moderators' desk", text=_FORGOTTEN)
    site.nudges.nudge_outgoing()


def holder(site: Site, purpose: str, token: str) -> User:
    """Return whose password a link sets. Raises `LinkEnded`."""
    with site.database.reading_sessions() as session:
        user = accounts.opened(session, site.keys, purpose, token)
    if user is None:
        raise LinkEnded
    return user


def set_password(site: Site, purpose: str, token: str, password: str) -> None:
    """Set the password that a link was sent for; the link ends. Raises `LinkEnded` or `PasswordRefused`."""
    holder(site, purpose, token)
    hashed = accounts.chosen(password)
    with site.database.sessions.begin() as session:
        # Again, under the lock: of two requests with one link the second finds it used.
        user = accounts.opened(session, site.keys, purpose, token, locked=True)
        if user is None:
            raise LinkEnded
        accounts.set_password(session, user.id, hashed)


def _link(site: Site, user: User, purpose: str) -> str:
    lasts = INVITED_FOR if purpose == INVITATION else RESET_FOR
    return f"{site.settings.address}{PATHS[purpose]}/{accounts.link_to(site.keys, user, purpose, lasts)}"


def _put(site: Site, session: Session, user: User, link: str, *, subject: str, text: str) -> None:
    outbox.put_mail(
        session,
        site.keys,
        once=f"password link {user.id} {secrets.token_hex(8)}",
        to=user.email,
        subject=subject,
        text=text.format(site=site.settings.address, link=link),
    )
