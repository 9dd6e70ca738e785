"""Signed links that are sent by mail: each good for one purpose, for a time, and where they act, once (SECURITY, R3).

What stands in one is a number and its end, never an address. The time is the database's, so that no web server's clock
brings one back to life. The link to an author's page is another kind: `bridge.keys.AUTHOR_LINK`.
"""

from __future__ import annotations

import re
import secrets
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bridge.db import database_time
from bridge.keys import Keys, fingerprint
from bridge.records import UsedLink
from bridge.text.language import N_
from moderation.base import now

CONFIRM = "confirm an address"
"""The purpose of the link by which the owner of an address says that it is theirs."""
CONFIRM_LIFE = timedelta(days=7)
STOP = "no more mail"
"""The purpose of the link by which they end what is sent to it. It acts as often as it is used: twice is once."""
STOP_LIFE = timedelta(days=730)
_WHOLE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})-[A-Za-z0-9_-]{16,64}")


class NoSuchLink(Exception):
    """Raised for a link that nobody made, that was cut on the way, or whose time is over: they look alike."""

    def __init__(self) -> None:
        super().__init__(N_("This link does not work, or no longer. Nothing was changed."))


def made(session: Session, keys: Keys, purpose: str, number: int, *, life: timedelta) -> str:
    """Return the token of a new link about *number*, which ends after *life*."""
    ends = _time(session) + life.total_seconds()
    return keys.signed(purpose, f"{number}-{int(ends)}-{secrets.token_urlsafe(12)}")


def to_confirm(session: Session, keys: Keys, address_id: int) -> str:
    """Return the token of a new link by which the owner of an address says that it is theirs."""
    return made(session, keys, CONFIRM, address_id, life=CONFIRM_LIFE)


def to_stop(session: Session, keys: Keys, address_id: int) -> str:
    """Return the token of a new link by which the owner of an address ends what is sent to it."""
    return made(session, keys, STOP, address_id, life=STOP_LIFE)


def opened(session: Session, keys: Keys, purpose: str, token: str) -> int:
    """Return the number that a link is about. Raises `NoSuchLink`."""
    whole = _WHOLE.fullmatch(keys.opened(purpose, token) or "") if len(token) <= 200 else None
    if whole is None or int(whole[2]) <= _time(session):
        raise NoSuchLink
    return int(whole[1])


def is_used(session: Session, token: str) -> bool:
    """Whether a link acted already."""
    return session.get(UsedLink, fingerprint(token)) is not None


def use(session: Session, token: str) -> bool:
    """Note that a link acts now; return False if it did before: then it must not."""
    if is_used(session, token):
        return False
    try:
        # A savepoint: of two that come at once one finds the row, and its own transaction goes on.
        with session.begin_nested():
            session.add(UsedLink(digest=fingerprint(token), used_at=now()))
    except IntegrityError:
        return False
    return True


def _time(session: Session) -> float:
    return session.scalar(select(database_time())) or 0.0
