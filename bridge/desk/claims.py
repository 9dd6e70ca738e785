"""Claims: who is reading a pending submission now. Advice to the others; the one decision's key decides.

A claim is a lease on the database's clock, renewed while its card is on somebody's screen. It has no history: when it
ends, nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from bridge.db import database_time
from bridge.records import Claim, User
from bridge.site import Site
from moderation import gate, moderators
from moderation.base import now
from moderation.types import Moderator, ModeratorId

SECONDS = 120
"""How long a claim lasts unless it is renewed."""
AT_MOST = 3
"""The most submissions that one moderator reads at a time: nobody collects them (FEATURES, section 2)."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Who is reading a submission, and until when unless they go on."""

    submission_id: int
    moderator: Moderator
    until: datetime


def read(site: Site, submission_id: int, *, moderator: ModeratorId, take_over: bool = False) -> Claimed:
    """Say that *moderator* is reading a pending submission; return whose claim stands then.

    That is somebody else's if they were first and nobody asked to *take_over*. Done again, it renews the claim. The
    oldest of a moderator's claims ends when they have more than `AT_MOST`.

    Raises what `gate.still_waiting` raises: nobody can claim what is decided.
    """
    with site.database.sessions.begin() as session:
        # One moderator's claims are counted one after the other; on SQLite every transaction is.
        session.execute(select(User.id).where(User.moderator_id == moderator).with_for_update(key_share=True))
        gate.still_waiting(session, submission_id, moderator)
        at = session.scalar(select(database_time())) or 0.0
        claim = session.get(Claim, submission_id, with_for_update=True, populate_existing=True)
        if claim is None:
            claim = Claim(submission_id=submission_id, moderator_id=moderator, claimed_at=now(), until=at + SECONDS)
            session.add(claim)
        elif claim.moderator_id == moderator:
            if claim.until <= at:
                claim.claimed_at = now()
            claim.until = at + SECONDS
        elif take_over or claim.until <= at:
            claim.moderator_id, claim.claimed_at, claim.until = moderator, now(), at + SECONDS
        session.flush()
        if claim.moderator_id == moderator:
            _end_the_oldest(session, moderator, but=submission_id)
        reader = moderators.named(session, [claim.moderator_id])[claim.moderator_id]
        return Claimed(submission_id, reader, _moment(claim.until))


def let_go(site: Site, submission_id: int, *, moderator: ModeratorId) -> None:
    """End *moderator*'s claim on a submission. Somebody else's stays; doing it twice changes nothing."""
    with site.database.sessions.begin() as session:
        session.execute(delete(Claim).where(Claim.submission_id == submission_id, Claim.moderator_id == moderator))


def end(session: Session, submission_id: int) -> None:
    """End whosever claim on a submission, in the transaction of its decision."""
    session.execute(delete(Claim).where(Claim.submission_id == submission_id))


def standing(session: Session, submission_ids: Iterable[int]) -> dict[int, Claimed]:
    """Return the claims that stand on *submission_ids*, keyed by id; those that ran out are absent."""
    rows = session.scalars(
        select(Claim).where(Claim.submission_id.in_(set(submission_ids)), Claim.until > database_time())
    ).all()
    people = moderators.named(session, [row.moderator_id for row in rows])
    return {row.submission_id: Claimed(row.submission_id, people[row.moderator_id], _moment(row.until)) for row in rows}


def claimed_by(moderator: ModeratorId) -> Select[int]:
    """Return a query for the ids of what *moderator* is reading, for use in another."""
    return select(Claim.submission_id).where(Claim.moderator_id == moderator, Claim.until > database_time())


def _end_the_oldest(session: Session, moderator: ModeratorId, *, but: int) -> None:
    # What somebody takes over or decides at this moment is locked, and no longer this moderator's to end.
    rows = session.scalars(
        select(Claim)
        .where(Claim.moderator_id == moderator, Claim.submission_id != but)
        .order_by(Claim.claimed_at.desc(), Claim.submission_id.desc())
        .with_for_update(skip_locked=True)
    ).all()
    at = session.scalar(select(database_time())) or 0.0
    living = [row for row in rows if row.until > at]
    for row in [row for row in rows if row.until <= at] + living[AT_MOST - 1 :]:
        session.delete(row)
    session.flush()


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
