"""Retention: what the site has no more use for goes by itself, a little at each sweep.

Rejected letters after `KEEP_REJECTED` days, addresses that nobody confirmed, and what was kept to tell links and
addresses again. A letter goes by the one way there is (`letter.erasure`): its digest, its code and its decision stay.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, func, select, update

from bridge.letter import erasure
from bridge.letter.erasure import FORGOTTEN
from bridge.mail import correspondents
from bridge.records import Address, Comment, UsedLink
from bridge.site import Site
from moderation import appeals
from moderation.base import now

A_SWEEP = 20
"""The most letters that are erased in one sweep, each in a transaction; a minute later comes the next sweep."""
ROWS = 500
"""The most rows of any other kind."""
UNCONFIRMED_FOR = timedelta(days=30)
"""How long an address is kept that its owner was asked about and did not confirm."""
USED_FOR = timedelta(days=30)
"""How long a link that acted is remembered: longer than any link lives that acts once."""


def let_go(site: Site) -> int:
    """Erase what is kept no longer, at most so much at once; return how many letters that were.

    Twice or halfway dead: what is gone is not found again.
    """
    letters = _rejected(site)
    for public_id in letters:
        erasure.erase_comment(site, public_id, by="operator")
    _empty_old_addresses(site)
    _empty_addresses(site)
    _forget_links(site)
    return len(letters)


def days_rejected(site: Site) -> int | None:
    """Return after how many days the words of a rejected letter are erased; None for never.

    Not before their author can no longer appeal, whatever is set.
    """
    days = site.settings.keep_rejected
    return max(days, appeals.WITHIN.days) if days else None


def _rejected(site: Site) -> list[str]:
    days = days_rejected(site)
    if days is None:
        return []
    final = appeals.final_ids(now() - timedelta(days=days))
    with site.database.reading_sessions() as session:
        return list(
            session.scalars(
                select(Comment.public_id).where(Comment.submission_id.in_(final)).order_by(Comment.id).limit(A_SWEEP)
            )
        )


def _empty_old_addresses(site: Site) -> None:
    """Empty the addresses from before migration 0004, which stand with their letters and were never asked about."""
    sealed = Comment.email.is_not(None)
    with site.database.reading_sessions() as session:
        old = list(
            session.scalars(
                select(Comment.id)
                .where(sealed, Comment.created_at < now() - UNCONFIRMED_FOR)
                .order_by(Comment.id)
                .limit(ROWS)
            )
        )
    if not old:
        return
    with site.database.sessions.begin() as session:
        # As in `comments.one`: its letter may be erased at this moment.
        locked = select(Comment).where(Comment.id.in_(old), sealed).order_by(Comment.id)
        for comment in session.scalars(locked.with_for_update(key_share=True)).all():
            correspondents.empty_old(session, site.keys, comment)


def _empty_addresses(site: Site) -> None:
    """Empty the addresses that nobody confirmed in time, and forget how to tell those that nothing refers to."""
    before = now() - UNCONFIRMED_FOR
    last_asked = func.coalesce(Address.asked_at, Address.created_at) < before
    unconfirmed = (
        select(Address.id).where(Address.sealed.is_not(None), Address.confirmed_at.is_(None), last_asked).limit(ROWS)
    )
    used = select(Comment.id).where(Comment.address_id == Address.id)
    strangers = (
        select(Address.id)
        .where(
            Address.sealed.is_(None),
            Address.stopped_at.is_(None),  # By its digest, who wants no mail is left alone.
            last_asked,
            ~used.exists(),
            ~Address.digest.startswith(FORGOTTEN, autoescape=True),
        )
        .limit(ROWS)
    )
    with site.database.reading_sessions() as session:
        old, unknown = list(session.scalars(unconfirmed)), list(session.scalars(strangers))
    if not old and not unknown:
        return
    with site.database.sessions.begin() as session:
        session.execute(
            # Asked again: it may have been confirmed meanwhile.
            update(Address)
            .where(Address.id.in_(old), Address.confirmed_at.is_(None), last_asked)
            .values(sealed=None, language=None)
        )
        for address_id in unknown:
            erasure.forget_digest(session, address_id)


def _forget_links(site: Site) -> None:
    before = now() - USED_FOR
    with site.database.reading_sessions() as session:
        old = list(session.scalars(select(UsedLink.digest).where(UsedLink.used_at < before).limit(ROWS)))
    if old:
        with site.database.sessions.begin() as session:
            session.execute(delete(UsedLink).where(UsedLink.digest.in_(old)))
