"""Correspondents: the e-mail addresses that readers gave, and whether their owners want mail.

An address is sent one question, "Is this you?", and nothing else before its owner said yes (double opt-in). What they
are told then is `mail.notices`'s.
"""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bridge.keys import Keys
from bridge.mail import links, notices, outbox
from bridge.mail.links import NoSuchLink
from bridge.records import Address, Comment
from bridge.site import Site
from bridge.voice import readers
from moderation.base import now

DIGEST = "e-mail address"
"""The purpose of the key under which an address is found again."""
MOST_ASKS = 3
"""So often is the owner of an address asked in all, whatever is written in their name."""
ASKED_EVERY = timedelta(days=1)


class AddressStanding(StrEnum):
    """How the address that came with a letter stands."""

    NONE = "none"
    """None came, or it was erased."""
    ASKED = "asked"
    """Its owner was asked whether it is theirs, and has not said."""
    CONFIRMED = "confirmed"
    STOPPED = "stopped"
    """Its owner wants no mail."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a link from a mail opens: an address, which is not shown, and what can be done about it."""

    standing: AddressStanding
    used: bool
    """Whether this link confirmed it already."""
    confirm: str | None
    """The token with which it can be confirmed now; None where no address is kept any more."""
    stop: str
    """The token with which mail to it can be ended."""


def normal(address: str) -> str:
    """Return the one form of an e-mail address under which the same mailbox is found again, however it was written.

    Lower case, and the domain as DNS knows it; but not case-folded: that makes "ss" of "ß", and two mailboxes one.
    Raises `EmailNotValidError` for what is none.
    """
    parts = validate_email(address, check_deliverability=False)
    local = unicodedata.normalize("NFC", (parts.local_part or "").lower())
    return f"{local}@{(parts.ascii_domain or '').lower()}"


def digest(keys: Keys, address: str) -> str:
    """Return by what the record of an e-mail address is found. Raises `EmailNotValidError` for what is none."""
    return keys.keyed_digest(DIGEST, normal(address))


def given(session: Session, keys: Keys, address: str, language: str | None) -> Address:
    """Return the record of an address that somebody gave; it is made if there is none."""
    kept = _record(session, digest(keys, address), language, now())
    if kept.sealed is None:
        # Erased since, or new: what its owner said before went with it, but for "no more mail".
        kept.confirmed_at = None
        kept.sealed = keys.encrypted(address)
    session.flush()
    return kept


def empty_old(session: Session, keys: Keys, comment: Comment) -> None:
    """Empty the address that stands with a letter from before migration 0004; by its digest its owner still finds it.

    What nobody can read any more ties a letter to nobody.
    """
    address = keys.decrypted(comment.email) if comment.email is not None else None
    comment.email = None
    if address is not None and comment.address_id is None:
        with suppress(EmailNotValidError):
            comment.address_id = _record(session, digest(keys, address), None, comment.created_at).id
    session.flush()


def ask(session: Session, site: Site, comment: Comment) -> bool:
    """Put down the question whether the address that came with a letter is its author's; return whether one was.

    None for one that wants no mail, nor more than one a day and three in all. One that is confirmed is asked again
    where a letter comes that its owner may not have meant (`voice.readers`). Call `nudge_outgoing` after the commit.
    """
    if comment.address_id is None:
        return False
    address = _locked(session, comment.address_id)
    if address is None or address.stopped_at is not None or address.sealed is None:
        return False
    if address.confirmed_at is not None and readers.confirmed(session, [comment]):
        return False
    if address.asks >= MOST_ASKS or (address.asked_at is not None and address.asked_at > now() - ASKED_EVERY):
        return False
    address.asks += 1
    address.asked_at = now()
    session.flush()
    return notices.ask(session, site, comment, address)


def standing(session: Session, comment: Comment) -> AddressStanding:
    """Return how the address that came with a letter stands."""
    address = session.get(Address, comment.address_id) if comment.address_id is not None else None
    return standing_of(address)


def opened(site: Site, token: str, purpose: str) -> Opened:
    """Return what a link from a mail opens; nothing is changed. Raises `NoSuchLink`."""
    with site.database.reading_sessions() as session:
        address = session.get(Address, links.opened(session, site.keys, purpose, token))
        is_question = purpose == links.CONFIRM
        # Mail can be ended also for an address that is kept no longer: it may come again.
        if address is None or (is_question and address.sealed is None):
            raise NoSuchLink
        again = links.to_confirm(session, site.keys, address.id) if address.sealed is not None else None
        return Opened(
            standing=AddressStanding.STOPPED if address.stopped_at is not None else standing_of(address),
            used=is_question and links.is_used(session, token),
            confirm=token if is_question else again,
            stop=links.to_stop(session, site.keys, address.id) if is_question else token,
        )


def confirm(site: Site, token: str) -> None:
    """Have its owner told of their letters at an address from now on, and at once of what happened to them already.

    What came with it until now counts as theirs (`voice.readers`). The link acts once: a second time changes nothing.
    Raises `NoSuchLink`.
    """
    with site.database.sessions.begin() as session:
        address = _locked(session, links.opened(session, site.keys, links.CONFIRM, token))
        if address is None or address.sealed is None:
            raise NoSuchLink
        if not links.use(session, token):
            return
        is_first = address.confirmed_at is None
        address.confirmed_at = now()
        address.stopped_at = None
        address.asks = 0
        session.flush()
        if is_first:
            notices.catch_up(session, site, address)
    # Committed: a worker may look for it before this line returns.
    if is_first:
        site.nudges.nudge_outgoing()


def stop(site: Site, token: str) -> None:
    """End all mail to an address, also what is put down and not sent. Twice is as once. Raises `NoSuchLink`."""
    with site.database.sessions.begin() as session:
        address = _locked(session, links.opened(session, site.keys, links.STOP, token))
        if address is None:
            raise NoSuchLink
        if address.stopped_at is None:
            address.stopped_at = now()
        outbox.forget_address(session, address.id)


def _locked(session: Session, address_id: int) -> Address | None:
    # Letters that refer to it are no hindrance, or two that bring the same one would wait for each other for ever.
    return session.get(Address, address_id, with_for_update={"key_share": True}, populate_existing=True)


def _record(session: Session, found_by: str, language: str | None, since: datetime) -> Address:
    """Return the record of an address by its digest; it is made, empty, if there is none."""
    there = select(Address).where(Address.digest == found_by)
    kept = session.scalar(there)
    if kept is None:
        kept = Address(digest=found_by, language=language, asks=0, created_at=since)
        try:
            # A savepoint: two letters may bring the same new address at once.
            with session.begin_nested():
                session.add(kept)
        except IntegrityError:
            kept = session.scalars(there).one()
    return kept


def standing_of(address: Address | None) -> AddressStanding:
    """Return how an address stands; None is one that never came."""
    if address is None or address.sealed is None:
        return AddressStanding.NONE
    if address.stopped_at is not None:
        return AddressStanding.STOPPED
    return AddressStanding.ASKED if address.confirmed_at is None else AddressStanding.CONFIRMED
